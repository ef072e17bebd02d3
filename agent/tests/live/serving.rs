//! On real process families: which process is the service, which ones a restart signals, and
//! whether a restart would help.
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use paramedic::heal::restart::{Restart, RestartError, RestartReport, would_not_help};

use crate::process::{ENTER, Group};
use paramedic_core::target::ProcessId;
use paramedic_host::{
    process::{DiscoverError, Listener, discover},
    procfs::Tree,
};

/// Shared by the scripts.
const PRELUDE: &str = r#"
import os, select, signal, socket, subprocess, sys, time

def bound(port=0):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", port))
    return s

def listen(port=0):
    s = bound(port)
    s.listen()
    return s

def port(s):
    return s.getsockname()[1]

def fork(work):
    """Returns the child's pid once it has said that it is ready, or is about to wait."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(lambda: os.write(tell, b"x"))
        finally:
            os._exit(1)
    os.close(tell)
    os.read(told, 1)
    os.close(told)
    return pid

def serve(s):
    def work(ready):
        ready()
        while True:
            s.accept()
    return work

def say(*words):
    # In one piece: others write to the same pipe.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())

def idle():
    while True:
        signal.pause()
"#;

/// A script in the group; everything that it started ends with the group.
struct Family {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Family {
    fn start(group: &Group, script: &str) -> Self {
        Self::run(group, "exec python3 -c \"$SCRIPT\"", script)
    }

    /// By a shell that finds the script in `$SCRIPT`.
    fn run(group: &Group, shell: &str, script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{ENTER}{shell}"), "sh"]).args(group.paths());
        command.env("SCRIPT", format!("{PRELUDE}{script}")).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut family = Self { child, stdout };
        assert_eq!(family.line(), "ready");
        family
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(&mut self) -> Vec<T> {
        self.line().split(' ').map(|word| word.parse().unwrap()).collect()
    }

    /// Its port and processes, as it prints them.
    fn told(&mut self) -> (u16, Vec<i32>) {
        let numbers: Vec<i32> = self.numbers();
        (numbers[0].try_into().unwrap(), numbers[1..].to_vec())
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn found(port: u16) -> Result<Listener, DiscoverError> {
    // A process that has printed that it is ready may not wait yet.
    sleep(Duration::from_millis(200));
    discover(&Tree::default(), port, &[])
}

fn main_of(port: u16) -> i32 {
    found(port).unwrap().instance.pid
}

async fn restart(found: &Listener, command: Option<&str>) -> Result<RestartReport, RestartError> {
    let command = command.map(str::to_owned);
    let restart = Restart { command, grace: Duration::from_secs(30), ..Restart::default() };
    restart.run(&Tree::default(), found.instance, &found.cgroups, Some(found.address.port())).await
}

fn instance(pid: i32) -> ProcessId {
    Tree::default().stat(pid).unwrap().instance()
}

fn alive(pid: i32) -> bool {
    Tree::default().stat(pid).is_ok_and(|stat| stat.runs())
}

fn sorted(mut pids: Vec<i32>) -> Vec<i32> {
    pids.sort_unstable();
    pids
}

/// A parent that opened the port and keeps it, its service, and another child.
fn launcher(serve: &str) -> String {
    format!(
        "s = listen()\n\
         def work(ready):\n\
         \x20   ready()\n\
         \x20   {serve}\n\
         service = fork(work)\n\
         other = subprocess.Popen(['sleep', '600']).pid\n\
         say(port(s), service, other)\n\
         idle()\n"
    )
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn a_holder_that_never_accepts_and_its_other_child_are_not_restarted() {
    let group = Group::new();
    let mut family = Family::start(&group, &launcher("s.accept()"));
    let (port, pids) = family.told();
    let found = found(port).unwrap();
    assert_eq!(found.instance.pid, pids[0]);
    assert!(found.cgroups.shared, "with its parent");
    let account = restart(&found, None).await.unwrap();
    assert_eq!(account.signalled, [pids[0]]);
    assert!(!alive(pids[0]) && alive(pids[1]) && alive(family.pid()));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_accepting_process_is_found_however_it_waits() {
    let ways = [
        "select.select([s], [], [])",
        "p = select.poll(); p.register(s, select.POLLIN); p.poll()",
        "p = select.epoll(); p.register(s, select.EPOLLIN | select.EPOLLET); p.poll()",
        "s.settimeout(600); s.accept()",
        "import threading; threading.Thread(target=s.accept).start(); time.sleep(600)",
    ];
    for way in ways {
        let group = Group::new();
        let mut family = Family::start(&group, &launcher(way));
        let (port, pids) = family.told();
        assert_eq!(main_of(port), pids[0], "{way}");
        kill(Pid::from_raw(pids[0]), Signal::SIGSTOP).unwrap();
        assert_eq!(main_of(port), pids[0], "stopped: {way}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_busy_service_is_found_by_its_connection() {
    let group = Group::new();
    let mut family = Family::start(&group, &launcher("c = s.accept(); time.sleep(600)"));
    let (port, pids) = family.told();
    let connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(main_of(port), pids[0]);
    drop(connection);
    assert_eq!(main_of(port), pids[0], "its client is gone, and it has not noticed");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_an_accepting_process_the_parent_is_the_service() {
    let group = Group::new();
    let mut family = Family::start(&group, &launcher("time.sleep(600)"));
    let (port, _) = family.told();
    assert_eq!(main_of(port), family.pid());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn forks_of_the_holder_belong_to_the_service() {
    let group = Group::new();
    let script = "s = listen()\n\
                  router = fork(serve(s))\n\
                  def work(ready):\n\
                  \x20   s.close()\n\
                  \x20   ready()\n\
                  \x20   time.sleep(600)\n\
                  say(port(s), router, fork(work))\n\
                  idle()\n";
    let mut family = Family::start(&group, script);
    let (port, _) = family.told();
    assert_eq!(main_of(port), family.pid());
}

const PRE_FORK: &str = "s = listen()\n\
                        workers = [fork(serve(s)) for _ in range(2)]\n\
                        helper = subprocess.Popen(['sleep', '600']).pid\n\
                        say(port(s), *workers, helper)\n\
                        idle()\n";

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn a_pre_fork_master_is_restarted_with_its_workers() {
    let group = Group::new();
    let mut family = Family::start(&group, PRE_FORK);
    let (port, pids) = family.told();
    let found = found(port).unwrap();
    assert_eq!(found.instance.pid, family.pid());
    assert!(!found.cgroups.shared);
    let account = restart(&found, None).await.unwrap();
    let all = [vec![family.pid()], pids].concat();
    assert_eq!(sorted(account.signalled), sorted(all));
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn the_master_of_workers_with_a_socket_each_is_the_service() {
    let group = Group::new();
    let script = "place = bound()\n\
                  p = port(place)\n\
                  def work(ready):\n\
                  \x20   s = listen(p)\n\
                  \x20   ready()\n\
                  \x20   s.accept()\n\
                  workers = [fork(work) for _ in range(3)]\n\
                  helper = subprocess.Popen(['sleep', '600']).pid\n\
                  say(p, *workers, helper)\n\
                  idle()\n";
    let mut family = Family::start(&group, script);
    let (port, pids) = family.told();
    let found = found(port).unwrap();
    assert_eq!(found.instance.pid, family.pid());
    assert_eq!(found.owners, sorted(pids[..3].to_vec()));
    let account = restart(&found, None).await.unwrap();
    assert_eq!(account.signalled.len(), 5);
    assert!(pids.into_iter().all(|pid| !alive(pid)));
}

/// Several servers on one port, started by a shell that runs this as well.
fn servers_of_a_shell(group: &Group, as_well: &str) -> (Family, u16) {
    // Bound, but not listening: it keeps the port for them.
    let place = tokio::net::TcpSocket::new_v4().unwrap();
    place.set_reuseport(true).unwrap();
    place.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = place.local_addr().unwrap().port();
    let server = format!("python3 -c \"$SCRIPT\" {port} &");
    let script = "s = listen(int(sys.argv[1]))\nsay(os.getpid())\ns.accept()\n";
    let shell = format!("{server} {server} {as_well} wait");
    let mut family = Family::run(group, &shell, script);
    let _: Vec<i32> = [family.numbers(), family.numbers()].concat();
    (family, port)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_shell_with_other_children_is_not_the_master_of_the_servers() {
    let group = Group::new();
    let (_family, port) = servers_of_a_shell(&group, "sleep 600 &");
    let error = found(port).unwrap_err();
    assert!(matches!(error, DiscoverError::Unrelated { .. }), "{error}");
    assert!(error.to_string().contains("give each its own port"), "{error}");
    let group = Group::new();
    let (family, port) = servers_of_a_shell(&group, "");
    assert_eq!(main_of(port), family.pid(), "a script that starts nothing else");
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn another_service_of_the_same_parent_refuses_the_restart() {
    let group = Group::new();
    let script = "s = listen()\n\
                  def work(ready):\n\
                  \x20   s.close()\n\
                  \x20   serve(listen())(ready)\n\
                  other = fork(work)\n\
                  say(port(s), other)\n\
                  s.accept()\n";
    let mut family = Family::start(&group, script);
    let (port, pids) = family.told();
    let found = found(port).unwrap();
    assert_eq!(found.instance.pid, family.pid());
    let error = restart(&found, None).await.unwrap_err();
    assert!(error.is_not_performed());
    let RestartError::OtherService { pid, port: other, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, pids[0]);
    assert_ne!(*other, port);
    assert!(error.to_string().contains("--restart-command"), "{error}");
    assert!(alive(family.pid()) && alive(pids[0]));
    restart(&found, Some("true")).await.unwrap();
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn other_ports_of_the_same_service_do_not_refuse_the_restart() {
    let group = Group::new();
    let script = "s, admin = listen(), listen()\n\
                  def work(ready):\n\
                  \x20   metrics = listen()\n\
                  \x20   serve(s)(ready)\n\
                  worker = fork(work)\n\
                  say(port(s), worker)\n\
                  s.accept()\n";
    let mut family = Family::start(&group, script);
    let (port, pids) = family.told();
    let account = restart(&found(port).unwrap(), None).await.unwrap();
    assert_eq!(account.signalled, [family.pid(), pids[0]]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn traffic_is_counted_in_the_cgroup_that_created_the_socket() {
    let (maker, server) = (Group::new(), Group::new());
    let script = "s = listen()\n\
                  service = fork(serve(s))\n\
                  say(port(s), service)\n\
                  idle()\n";
    let mut family = Family::start(&maker, script);
    let (port, pids) = family.told();
    assert_eq!(found(port).unwrap().cgroups.traffic, None, "made where it is served");
    server.admit(pids[0]);
    let found = found(port).unwrap();
    assert_eq!(found.instance.pid, pids[0], "its holder stands in another cgroup");
    let (unified, traffic) = (found.cgroups.unified.unwrap(), found.cgroups.traffic.unwrap());
    assert!(server.paths().contains(&unified.path), "{unified:?}");
    assert!(maker.paths().contains(&traffic.path), "{traffic:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_full_file_system_makes_a_restart_futile_until_there_is_room() {
    let group = Group::new();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let shell = format!(
        "exec unshare --mount sh -c 'mount -t tmpfs -o size=64k t {place} || exit 1; \
         head -c 1M /dev/zero > {place}/x 2>/dev/null; echo full; read line; rm {place}/x; \
         echo room; exec sleep 600'"
    );
    let script = format!("{ENTER}{shell}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).args(group.paths());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    assert_eq!((line().as_str(), line().as_str()), ("ready", "full"));
    let main = instance(child.id().cast_signed());
    let told = || would_not_help(&Tree::default(), main, None, None);
    let why = told().expect("it is full");
    assert!(why.contains(&format!("the file system at {place} is full")), "{why}");
    drop(child.stdin.take());
    assert_eq!(line(), "room");
    assert_eq!(told(), None);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "it was its own mount");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn workers_started_after_the_service_was_well_make_a_restart_futile() {
    let group = Group::new();
    let script = "s = listen()\n\
                  def again(*_):\n\
                  \x20   os.waitpid(-1, os.WNOHANG)\n\
                  \x20   say(fork(serve(s)))\n\
                  say(port(s), fork(serve(s)))\n\
                  signal.signal(signal.SIGCHLD, again)\n\
                  idle()\n";
    let mut family = Family::start(&group, script);
    let (port, pids) = family.told();
    let main = found(port).unwrap().instance;
    assert_eq!(main.pid, family.pid());
    let told = |well_at| would_not_help(&Tree::default(), main, Some(port), well_at);
    // A worker that is only slightly older may not have contributed.
    sleep(Duration::from_millis(5500));
    let well_at = Some(paramedic_host::clock::now());
    assert_eq!(told(well_at), None, "it was there when all was well");
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap();
    let _: Vec<i32> = family.numbers();
    sleep(Duration::from_millis(200));
    assert!(told(well_at).is_some_and(|why| why.contains("workers are new")));
    assert_eq!(told(None), None, "it was never seen well");
}
