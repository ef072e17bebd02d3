// etcd with a configuration file and without its other flags: etcd --config-file=FILE
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	if len(os.Args) != 2 || !strings.HasPrefix(os.Args[1], "--config-file=") {
		fmt.Fprintln(os.Stderr, "usage: etcd --config-file=FILE")
		os.Exit(2)
	}
	if err := run(strings.TrimPrefix(os.Args[1], "--config-file=")); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	config, err := embed.ConfigFromFile(file)
	if err != nil {
		return err
	}
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		etcd.Close()
		return nil
	case err := <-etcd.Err():
		return err
	}
}
