//! `cargo xtask cluster build`: the programs that no distribution packages, from sources that the
//! caller provides. Their vendored dependencies are used, and nothing is fetched.
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use xtask::{process, workspace::Workspace};

/// The names that the binary of Kubernetes is called by.
const NAMES: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];

/// Build etcd, Kubernetes and the sandbox's program, for `up`.
///
/// DIR is a checkout of openshift/microshift, which has the sources of Kubernetes below vendor/ and
/// those of etcd below etcd/vendor/, as it is: nothing is written to it or fetched. Takes ten minutes
/// of CPU time, and 3 GB for Go's cache below target/cluster.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The sources.
    #[arg(long, value_name = "DIR")]
    sources: PathBuf,
    /// The Go toolchain, as new as the sources' go.mod asks for.
    #[arg(long, value_name = "PROGRAM", default_value = "go")]
    go: PathBuf,
    /// Where to put the programs [default: target/cluster/programs]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

pub(super) fn run(workspace: &Workspace, home: &Path, args: &Args) -> Result<()> {
    let sources = args.sources.canonicalize();
    let sources = sources.with_context(|| format!("no {}", args.sources.display()))?;
    let etcd = sources.join("etcd");
    for needed in [
        sources.join("vendor/k8s.io/kubernetes/cmd/kubelet/app"),
        etcd.join("vendor/go.etcd.io/etcd/server/v3/embed"),
    ] {
        ensure!(
            needed.is_dir(),
            "no {}: --sources must be a checkout of openshift/microshift with its vendored sources",
            needed.display()
        );
    }
    let into = args.into.clone().unwrap_or_else(|| home.join("programs"));
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let go = Go { program: &args.go, home, main: workspace.root.join("testbed/src/cluster/go") };
    go.build("pause", &go.main, &["-ldflags=-s -w".to_owned(), "pause.go".to_owned()], &into)?;
    go.build_in("etcd", &etcd, "-s -w", &into)?;
    let versions = fs::read_to_string(sources.join("Makefile.kube_git.var")).unwrap_or_default();
    go.build_in("hyperkube", &sources, &linked(&versions), &into)?;
    for name in NAMES {
        let link = into.join(name);
        let _ = fs::remove_file(&link);
        symlink("hyperkube", &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    println!("{}: {}, etcd, pause", into.display(), NAMES.join(", "));
    Ok(())
}

struct Go<'a> {
    program: &'a Path,
    home: &'a Path,
    /// The folder of our own `main` functions.
    main: PathBuf,
}

impl Go<'_> {
    /// Builds our `main` as if it were in the module of the sources, which stay as they are.
    fn build_in(&self, name: &str, module: &Path, linked: &str, into: &Path) -> Result<()> {
        let place = module.join("cmd/paramedic").join(name);
        let own = self.main.join(format!("{name}.go"));
        let overlay = self.home.join(format!("{name}.overlay.json"));
        let replace = json!({ "Replace": { place.join("main.go").display().to_string(): own } });
        fs::write(&overlay, replace.to_string())
            .with_context(|| format!("cannot write {}", overlay.display()))?;
        let arguments = [
            "-mod=vendor".to_owned(),
            format!("-overlay={}", overlay.display()),
            format!("-ldflags={linked}"),
            format!("./cmd/paramedic/{name}"),
        ];
        self.build(name, module, &arguments, into)
    }

    fn build(&self, name: &str, module: &Path, arguments: &[String], into: &Path) -> Result<()> {
        let mut command = Command::new(self.program);
        command.arg("build").arg("-trimpath").arg("-o").arg(into.join(name)).args(arguments);
        let cache = self.home.join("go-cache");
        command.current_dir(module).env("GOCACHE", cache).env("GOPATH", self.home.join("go-path"));
        for (name, value) in [
            // Self-contained binaries, and no toolchain or module from a network.
            ("CGO_ENABLED", "0"),
            ("GOTOOLCHAIN", "local"),
            ("GOPROXY", "off"),
            ("GOWORK", "off"),
            ("GOFLAGS", ""),
            ("GOTELEMETRY", "off"),
        ] {
            command.env(name, value);
        }
        process::run(&format!("build {name}"), &mut command).context(
            "Go cannot build it: is the toolchain (--go) as new as go.mod of the sources asks for?",
        )
    }
}

/// Flags for the linker: what Kubernetes says of its version, from MicroShift's own file of
/// variables. Without it, Kubernetes calls itself v0.0.0, which no client takes.
fn linked(variables: &str) -> String {
    let variable = |name: &str| {
        let lines = variables.lines().filter_map(|line| line.split_once('='));
        lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name)
    };
    let mut flags = "-s -w".to_owned();
    for (name, variable) in [
        ("gitVersion", variable("KUBE_GIT_VERSION")),
        ("gitMajor", variable("KUBE_GIT_MAJOR")),
        ("gitMinor", variable("KUBE_GIT_MINOR")),
        ("gitCommit", variable("KUBE_GIT_COMMIT")),
        ("gitTreeState", variable("KUBE_GIT_TREE_STATE")),
    ] {
        let Some((_, value)) = variable else { continue };
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            flags += &format!(" -X {package}.{name}={value}");
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_sources() {
        let flags = linked("KUBE_GIT_MAJOR=1\nKUBE_GIT_VERSION=v1.36.2\n");
        assert!(
            flags.starts_with("-s -w -X k8s.io/component-base/version.gitVersion=v1.36.2 "),
            "{flags}"
        );
        assert!(flags.ends_with(" -X k8s.io/client-go/pkg/version.gitMajor=1"), "{flags}");
        assert_eq!(linked(""), "-s -w");
    }
}
