//! A machine with the v1 controllers and without cgroup2: no program can be attached to a target,
//! and the agent must work nevertheless.
use crate::{
    agent::{Agent, Directory, until},
    process::Group,
    servers::Server,
};

#[test]
#[ignore = "takes a machine without cgroup2: cargo xtask vm"]
fn a_target_is_watched_through_its_files_and_its_health() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(" cgroup2 "), "there is a cgroup2");
    let state = Directory::new();
    let group = Group::new();
    let mut patient = Server::patient();
    group.admit(patient.pid());
    group.limit_to_a_tenth();
    let agent = Agent::watch(&[&patient.url], &state, &[]);
    let blind = agent.hears("no kernel signals for this target", &[]);
    assert!(blind.text("error").contains("cgroup2"), "{blind:?}");
    until("throttling is read from the files", || {
        patient.ask("/data", 20);
        (agent.feature("cpu_throttled_ratio") > 0.0).then_some(())
    });
    patient.errors(8);
    agent.hears("treatment ended", &[("remedy", "soft"), ("outcome", "healed")]);
    assert!(patient.is_alive());
}
