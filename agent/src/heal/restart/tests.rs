use std::{net::IpAddr, os::unix::process::ExitStatusExt, time::Duration};

use paramedic_host::{
    pidfd::PidFd,
    process::{Listener, discover},
    procfs::Stat,
    testing::{Service, listen},
};

use super::*;

/// Longer than any test takes: a restart that takes this long hangs.
const LONG: Duration = Duration::from_secs(600);

fn gentle() -> Restart {
    Restart { grace: LONG, ..Restart::default() }
}

fn command(text: &str) -> Restart {
    Restart { command: Some(text.to_owned()), ..Restart::default() }
}

/// A service in the test's own cgroup, which it therefore shares.
fn serve(program: &[&str]) -> (Service, Listener) {
    let (socket, port) = listen("127.0.0.1");
    let service = Service::start(socket, program);
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    let found = discover(&Tree::default(), port, &[local]).unwrap();
    assert_eq!(found.instance.pid, service.pid());
    (service, found)
}

async fn run(restart: &Restart, found: &Listener) -> Result<RestartReport, RestartError> {
    restart.run(&Tree::default(), found.instance, &found.cgroups, Some(found.address.port())).await
}

fn alive(instance: ProcessId) -> bool {
    Tree::default().still_alive(instance)
}

/// The signal that ended the child.
fn ended_by(mut service: Service) -> Option<i32> {
    service.0.wait().unwrap().signal()
}

#[tokio::test]
async fn sigterm_ends_only_the_target() {
    let (service, found) = serve(&["sleep", "600"]);
    let (_bystander, other) = serve(&["sleep", "600"]);
    let before = paramedic_host::clock::now();
    let account = run(&gentle(), &found).await.unwrap();
    assert_eq!(account.signalled, [service.pid()]);
    assert_eq!(account.forced, Vec::<i32>::new());
    assert!(before <= account.at && account.at <= paramedic_host::clock::now());
    assert!(!alive(found.instance) && alive(other.instance));
    assert_eq!(ended_by(service), Some(libc::SIGTERM));
}

#[tokio::test]
async fn in_a_shared_cgroup_only_the_listeners_tree_is_signalled() {
    let script = "sleep 600 & exec 3<&0; sleep 600 <&3 & echo ready; wait";
    let (mut service, found) = serve(&["sh", "-c", script]);
    service.says("ready");
    assert!(found.cgroups.shared);
    let table = Tree::default().table().unwrap();
    let family = |s: &&Stat| table.descends(s.pid, found.instance.pid);
    let family: Vec<ProcessId> = table.0.values().filter(family).map(Stat::instance).collect();
    assert_eq!(family.len(), 3);
    let account = run(&gentle(), &found).await.unwrap();
    assert_eq!(account.signalled.first(), Some(&found.instance.pid));
    let mut signalled = account.signalled;
    signalled.sort_unstable();
    assert_eq!(signalled, family.iter().map(|i| i.pid).collect::<Vec<_>>());
    assert!(family.into_iter().all(|instance| !alive(instance)));
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let script = "trap '' TERM; echo ready; exec sleep 600";
    let (mut service, found) = serve(&["sh", "-c", script]);
    service.says("ready");
    let short = Restart { grace: Duration::from_millis(50), ..Restart::default() };
    let account = run(&short, &found).await.unwrap();
    assert_eq!(account.signalled, [service.pid()]);
    assert_eq!(account.forced, [service.pid()]);
    assert!(!alive(found.instance));
    assert_eq!(ended_by(service), Some(libc::SIGKILL));
}

#[tokio::test]
async fn a_stopped_process_is_continued_and_ends_by_sigterm() {
    let (service, found) = serve(&["sleep", "600"]);
    let pid = nix::unistd::Pid::from_raw(service.pid());
    nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    let account = run(&gentle(), &found).await.unwrap();
    assert_eq!(account.forced, Vec::<i32>::new());
    assert_eq!(ended_by(service), Some(libc::SIGTERM));
}

#[tokio::test]
async fn a_reused_pid_is_refused() {
    let (_service, found) = serve(&["sleep", "600"]);
    let other = ProcessId { start_time: found.instance.start_time - 1, ..found.instance };
    for restart in [gentle(), command("exit 0")] {
        let tree = Tree::default();
        let result = restart.run(&tree, other, &found.cgroups, None).await;
        let error = result.unwrap_err();
        assert!(matches!(error, RestartError::Changed(i) if i == other), "{error}");
        assert!(error.is_not_performed());
    }
    assert!(alive(found.instance));
}

#[tokio::test]
async fn an_ended_process_is_not_restarted() {
    let (mut service, found) = serve(&["sleep", "600"]);
    service.0.kill().unwrap();
    let cgroups = found.cgroups.clone();
    let patient = Candidate { tree: Tree::default(), main: found.instance, cgroups, port: None };
    service.0.wait().unwrap();
    assert!(matches!(patient.pin(), Err(RestartError::Ended(_))));
    for restart in [gentle(), command("exit 0")] {
        let error = run(&restart, &found).await.unwrap_err();
        assert!(matches!(error, RestartError::Ended(_)) && error.is_not_performed(), "{error}");
    }
}

#[tokio::test]
async fn a_pinned_process_may_end_before_the_signal() {
    let (mut service, found) = serve(&["sleep", "600"]);
    let (tree, cgroups) = (Tree::default(), found.cgroups.clone());
    let patient = Candidate { tree, main: found.instance, cgroups, port: None };
    let mut pinned = patient.pin().unwrap();
    service.0.kill().unwrap();
    service.0.wait().unwrap();
    send(&mut pinned, found.instance, |_| SIGTERM).unwrap();
    assert!(pinned.is_empty(), "no process was signalled");
}

#[tokio::test]
async fn a_process_in_another_cgroup_counts_as_changed() {
    let (_service, mut found) = serve(&["sleep", "600"]);
    let moved = |cgroups: &mut Cgroups| {
        let home = cgroups.unified.as_mut().or(cgroups.cpu.as_mut()).unwrap();
        home.id += 1;
    };
    moved(&mut found.cgroups);
    let error = run(&gentle(), &found).await.unwrap_err();
    assert!(matches!(error, RestartError::Changed(_)), "{error}");
    assert!(alive(found.instance));
}

#[test]
fn the_agent_and_its_ancestors_are_refused() {
    let tree = Tree::default();
    let table = tree.table().unwrap();
    let own = std::process::id().cast_signed();
    let hierarchies = tree.hierarchies().unwrap();
    let line: Vec<_> = table.line(own).filter_map(|pid| table.0.get(&pid)).collect();
    assert!(line.len() > 1);
    for stat in line {
        let cgroups = tree.cgroups(&hierarchies, stat.pid).unwrap();
        // Only pinned: if the guard were broken, a signal would end the test's own session.
        let patient = Candidate { tree: tree.clone(), main: stat.instance(), cgroups, port: None };
        let error = patient.pin().unwrap_err();
        assert!(matches!(error, RestartError::Protected(_)), "{stat:?}: {error}");
    }
}

#[tokio::test]
async fn a_command_replaces_the_signals() {
    let (_service, found) = serve(&["sleep", "600"]);
    let account = run(&command("echo one; echo two >&2"), &found).await.unwrap();
    assert_eq!(account.output.as_deref(), Some("one\ntwo\n"));
    assert_eq!(account.signalled, Vec::<i32>::new());
    assert!(alive(found.instance));
}

#[tokio::test]
async fn a_failed_command_returns_the_end_of_its_output() {
    let (_service, found) = serve(&["sleep", "600"]);
    let long = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; \
                echo no such unit >&2; exit 5";
    let error = run(&command(long), &found).await.unwrap_err();
    assert!(!error.is_not_performed());
    let RestartError::Command { status, output } = error else { panic!("{error}") };
    assert_eq!(status.code(), Some(5));
    assert!(output.len() <= 4096 && output.ends_with("line 2999\nno such unit\n"), "{output}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let (_service, found) = serve(&["sleep", "600"]);
    let text = "sleep 600 & echo $!; wait";
    let hanging = Restart { command_timeout: Duration::from_secs(8), ..command(text) };
    let error = run(&hanging, &found).await.unwrap_err();
    let RestartError::CommandTimeout { output, .. } = error else { panic!("{error}") };
    let child: i32 = output.trim().parse().unwrap();
    // Its number is free, or it ends; another process would outlive the test.
    if let Ok(child) = PidFd::open(child) {
        tokio::time::timeout(Duration::from_secs(20), child.ended()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_command_may_leave_a_service_running() {
    let (_service, found) = serve(&["sleep", "600"]);
    let account = run(&command("sleep 600 & echo $!"), &found).await.unwrap();
    let pid: i32 = account.output.unwrap().trim().parse().unwrap();
    let started = Tree::default().stat(pid).unwrap();
    assert!(started.runs());
    PidFd::open(pid).unwrap().send(SIGKILL).unwrap();
}
