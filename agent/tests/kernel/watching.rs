use crate::kernel::{
    cgroups::TestCgroups,
    counters, load, one_patient,
    patient::{Client, Patient},
    target,
};
use paramedic_probes::{ReadError, WatchError};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn nothing_is_counted_after_unwatch_and_all_is_counted_once_after_watching_again() {
    let (mut kernel, patient, address, slot) = one_patient("127.0.0.1:0");
    Client::connect(address).get("/500");
    assert_eq!(counters(&kernel, slot).responses[4], 1);
    kernel.unwatch(slot).unwrap();
    Client::connect(address).get("/500");
    assert!(matches!(kernel.counters(slot), Err(ReadError::Stale)));
    assert!(matches!(kernel.rearm(slot), Err(ReadError::Stale)));
    assert!(matches!(kernel.unwatch(slot), Err(WatchError::Stale)));

    // Leftover programs would count twice, and old counts would show.
    for round in 0..5 {
        let again = kernel.watch(&target(patient.cgroups(), None)).unwrap();
        assert_ne!(again, slot);
        assert_eq!(counters(&kernel, again).responses, [0; 5], "round {round}");
        Client::connect(address).get("/500");
        assert_eq!(counters(&kernel, again).responses[4], 1, "round {round}");
        kernel.unwatch(again).unwrap();
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn nested_cgroups_are_counted_once_each() {
    let outer_home = TestCgroups::new();
    let inner_home = outer_home.below();
    let mut outer = Patient::start_in(outer_home);
    let mut inner = Patient::start_in(inner_home);
    let addresses = [outer.listen("127.0.0.1:0"), inner.listen("127.0.0.1:0")];
    let mut kernel = load(2);
    let once_each = |kernel: &paramedic_probes::Kernel, slots: [_; 2], so_far| {
        for (address, slot) in addresses.into_iter().zip(slots) {
            Client::connect(address).get("/500");
            assert_eq!(counters(kernel, slot).responses[4], so_far);
        }
    };
    let inside = kernel.watch(&target(inner.cgroups(), None)).unwrap();
    let outside = kernel.watch(&target(outer.cgroups(), None)).unwrap();
    once_each(&kernel, [outside, inside], 1);
    // Without the outer one the inner one has its own programs again.
    kernel.unwatch(outside).unwrap();
    Client::connect(addresses[1]).get("/500");
    assert_eq!(counters(&kernel, inside).responses[4], 2);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_target_that_cannot_be_watched_says_why_and_leaves_nothing_behind() {
    let mut kernel = load(1);
    let patient = Patient::start();
    let mut nowhere = target(patient.cgroups(), None);
    nowhere.cgroups.unified = None;
    assert!(matches!(kernel.watch(&nowhere), Err(WatchError::NoUnified)));

    let mut other = target(patient.cgroups(), None);
    other.cgroups.unified.as_mut().unwrap().id += 1;
    assert!(matches!(kernel.watch(&other), Err(WatchError::Replaced(_))));

    let mut gone = target(patient.cgroups(), None);
    gone.cgroups.unified.as_mut().unwrap().path.push("gone");
    assert!(matches!(kernel.watch(&gone), Err(WatchError::Open { .. })));

    // A directory, but not a cgroup.
    let mut plain = target(patient.cgroups(), None);
    let root = plain.cgroups.unified.as_mut().unwrap();
    root.path = "/proc".into();
    root.id = std::os::unix::fs::MetadataExt::ino(&root.path.metadata().unwrap());
    assert!(matches!(kernel.watch(&plain), Err(WatchError::Attach { .. })));

    let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    assert!(matches!(kernel.watch(&target(patient.cgroups(), None)), Err(WatchError::Taken)));
    let full = kernel.watch(&target(patient.cgroups(), Some(1)));
    assert!(matches!(full, Err(WatchError::Full)));
    kernel.unwatch(slot).unwrap();
    kernel.watch(&target(patient.cgroups(), Some(1))).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_cgroup_may_vanish_while_it_is_watched() {
    let mut kernel = load(1);
    let patient = Patient::start();
    let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    drop(patient);
    assert_eq!(counters(&kernel, slot).responses, [0; 5]);
    kernel.unwatch(slot).unwrap();
}
