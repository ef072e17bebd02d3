//! Process mode with the real cgroup hierarchies of this machine.
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use paramedic::heal::restart::Restart;
use paramedic_core::{signal::CgroupReading, target::ProcessId};
use paramedic_host::{
    cgroup_files::{CgroupError, CgroupFiles},
    process::{Listener, discover},
    procfs::Tree,
    usage::Usage,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Enters each of the directories given as arguments, and prints that.
pub(crate) const ENTER: &str = "for d; do echo $$ > $d/cgroup.procs || exit 1; done; echo ready; ";

/// A cgroup in each relevant hierarchy but memory's, removed with the test.
pub(crate) struct Group(Vec<PathBuf>);

impl Group {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("paramedic-test-{}-{next}", std::process::id());
        let found = Tree::default().hierarchies().unwrap();
        let mounts = [found.unified, found.cpu, found.cpuacct];
        let mut group = Self(Vec::new());
        for path in mounts.into_iter().flatten().map(|mount| mount.point.join(&name)) {
            if !group.0.contains(&path) {
                fs::create_dir(&path).expect("these tests need root, and cgroups mounted writable");
                group.0.push(path);
            }
        }
        assert!(!group.0.is_empty(), "no cgroup hierarchy is mounted");
        group
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    pub(crate) fn admit(&self, pid: i32) {
        for path in &self.0 {
            fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    pub(crate) fn limit_to_a_tenth(&self) {
        let write = |(file, text)| self.0.iter().any(|p| fs::write(p.join(file), text).is_ok());
        let v2 = self.0.iter().any(|p| p.join("cpu.max").exists());
        let one = if v2 { ("cpu.max", "10000 100000") } else { ("cpu.cfs_quota_us", "10000") };
        assert!(write(one), "the cpu controller is not enabled for cgroups of the root");
    }

    fn members(&self) -> Vec<i32> {
        let text =
            |path: &PathBuf| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        let text: String = self.0.iter().map(text).collect();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let left = |path: &PathBuf| path.exists() && fs::remove_dir(path).is_err();
        while self.0.iter().filter(|path| left(path)).count() > 0 && Instant::now() < deadline {
            for pid in self.members() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::yield_now();
        }
    }
}

/// A child that holds a listening socket as its standard input.
struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    port: u16,
}

impl Service {
    /// Runs a shell script inside the group.
    fn start(group: &Group, script: &str) -> Self {
        let script = format!("{ENTER}{script}");
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(&group.0);
        command.stdin(Stdio::from(OwnedFd::from(socket))).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, stdout, port };
        assert_eq!(service.line(), "ready");
        service
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until only the service holds the socket: another test's child holds all files of this
    /// process between its fork and its exec.
    fn found(&self) -> Listener {
        until(
            || discover(&Tree::default(), self.port, &[]).ok(),
            |found| found.instance.pid == self.pid() && !found.owners.contains(&own()),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn own() -> i32 {
    std::process::id().cast_signed()
}

fn alive(pid: i32) -> bool {
    Tree::default().stat(pid).is_ok_and(|stat| stat.runs())
}

/// Repeats until the condition holds.
fn until<T>(mut look: impl FnMut() -> Option<T>, right: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().filter(&right) {
            return seen;
        }
        assert!(Instant::now() < deadline, "it did not come to pass");
        std::thread::yield_now();
    }
}

async fn restart(found: &Listener, grace: Duration) -> paramedic::heal::restart::RestartReport {
    let restart = Restart { grace, ..Restart::default() };
    restart
        .run(&Tree::default(), found.instance, &found.cgroups, Some(found.address.port()))
        .await
        .unwrap()
}

fn same_directory(group: &Group, path: &Path) -> bool {
    group.0.iter().any(|own| own == path)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_own_cgroup_is_exclusive_until_another_process_joins() {
    let group = Group::new();
    let service = Service::start(&group, "sleep 600 & wait");
    let found = service.found();
    assert!(!found.cgroups.shared);
    assert!(same_directory(&group, &found.cgroups.cpu.as_ref().unwrap().path));
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    group.admit(stranger.id().cast_signed());
    assert!(service.found().cgroups.shared);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(!service.found().cgroups.shared);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn throttling_of_a_cgroup_is_read() {
    let group = Group::new();
    group.limit_to_a_tenth();
    let service = Service::start(&group, "while :; do :; done");
    let found = service.found();
    let usage = Usage::open(&Tree::default(), &found.cgroups, Some(found.instance)).unwrap();
    let first = usage.read().unwrap();
    assert_eq!(first.cpu_limit, Some(0.1));
    assert_eq!(first.period_ns, Some(100_000_000));
    assert!(first.memory_bytes.is_some_and(|bytes| bytes > 0));
    let more = |reading: &CgroupReading| {
        reading.throttled_periods > first.throttled_periods.or(Some(0))
            && reading.throttled_ns > first.throttled_ns
            && reading.cpu_usage_ns > first.cpu_usage_ns
    };
    until(|| usage.read().ok(), more);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn this_tests_own_memory_is_read() {
    let tree = Tree::default();
    let cgroups = tree.cgroups(&tree.hierarchies().unwrap(), own()).unwrap();
    let Some(memory) = cgroups.memory.as_ref().filter(|c| c.path.join("memory.stat").exists())
    else {
        panic!("no memory controller for {cgroups:?}: run the tests inside a cgroup of their own")
    };
    let reading = CgroupFiles::open(&cgroups).unwrap().read().unwrap();
    assert!(reading.memory_bytes.is_some_and(|bytes| bytes > 0), "{memory:?}");
    assert!(reading.oom_kills.is_some());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_removed_cgroup_is_distinguished_from_a_missing_file() {
    let group = Group::new();
    let service = Service::start(&group, "exec sleep 600");
    let files = CgroupFiles::open(&service.found().cgroups).unwrap();
    assert!(files.read().is_ok());
    drop(service);
    drop(group);
    assert!(matches!(files.read(), Err(CgroupError::Vanished(_))));
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn a_restart_ends_all_processes_in_its_cgroup_and_no_others() {
    let (group, other) = (Group::new(), Group::new());
    let mut service =
        Service::start(&group, "sleep 600 & echo $!; (exec sleep 600) & echo $!; wait");
    let children: Vec<i32> = (0..2).map(|_| service.line().parse().unwrap()).collect();
    let bystander = Service::start(&other, "exec sleep 600");
    let account = restart(&service.found(), DEADLINE).await;
    assert_eq!(account.signalled.first(), Some(&service.pid()));
    assert_eq!(account.signalled.len(), 3);
    assert!(children.iter().all(|pid| account.signalled.contains(pid) && !alive(*pid)));
    assert!(account.forced.is_empty());
    assert_eq!(group.members(), Vec::<i32>::new());
    assert!(alive(bystander.pid()));
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn a_child_in_another_cgroup_is_not_restarted() {
    for shared in [false, true] {
        let (group, other) = (Group::new(), Group::new());
        let mut service = Service::start(&group, "sleep 600 & echo $!; wait");
        let child: i32 = service.line().parse().unwrap();
        other.admit(child);
        let mut found = service.found();
        found.cgroups.shared = shared;
        let account = restart(&found, DEADLINE).await;
        assert_eq!(account.signalled, [service.pid()]);
        assert!(alive(child) && !alive(service.pid()));
    }
}

#[tokio::test]
#[ignore = "needs root: cargo xtask test"]
async fn a_containers_first_process_that_catches_no_sigterm_is_killed_at_once() {
    let group = Group::new();
    let service = Service::start(&group, "exec unshare --pid --fork --kill-child sleep 600");
    let mut found = service.found();
    let first = until(
        || {
            let first = |pid| Tree::default().stat(pid).ok().filter(|s| s.name == "sleep");
            group.members().into_iter().find_map(first)
        },
        |first| first.parent == service.pid(),
    );
    found.instance = ProcessId { pid: first.pid, start_time: first.start_time };
    found.cgroups.shared = true; // Leaves `unshare` out of it.
    let account = restart(&found, 20 * DEADLINE).await;
    assert_eq!(account.signalled, [first.pid]);
    assert_eq!(account.forced, [first.pid]);
    assert!(!alive(first.pid));
}
