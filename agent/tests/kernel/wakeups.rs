use std::future::ready;

use crate::kernel::{DEADLINE, counters, eventually, load, one_patient, patient::Client, target};
use paramedic_probes::{Cause, Wake, Wakeups};
use tokio::{runtime, time::timeout};

fn runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn next(wakeups: &mut Wakeups) -> Wake {
    timeout(DEADLINE, wakeups.next()).await.expect("no wake-up").unwrap()
}

/// Discards queued wake-ups.
async fn drain(wakeups: &mut Wakeups) -> Vec<Wake> {
    let mut found = Vec::new();
    loop {
        tokio::select! {
            biased;
            wake = wakeups.next() => found.push(wake.unwrap()),
            () = ready(()) => return found,
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_storm_is_counted_exactly_and_wakes_once_per_look() {
    let (mut kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    runtime().block_on(async {
        let mut wakeups = kernel.wakeups().unwrap().unwrap();
        assert!(kernel.wakeups().unwrap().is_none(), "handed out once");
        let mut client = Client::connect(address);
        client.get("/200");
        assert_eq!(drain(&mut wakeups).await, [], "nothing bad happened");
        for _ in 0..2000 {
            client.get("/500");
        }
        let first = next(&mut wakeups).await;
        assert_eq!((first.slot, first.cause), (slot, Cause::Http5xx));
        // CPUs may race for the first; never one per event.
        assert!(drain(&mut wakeups).await.len() < 8);
        assert_eq!(counters(&kernel, slot).responses, [0, 1, 0, 0, 2000]);

        kernel.rearm(slot).unwrap();
        assert_eq!(drain(&mut wakeups).await, [], "arming is no event");
        client.get("/500");
        let second = next(&mut wakeups).await;
        assert_eq!((second.slot, second.cause), (slot, Cause::Http5xx));
        assert!(second.at > first.at);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn only_an_own_error_wakes_the_agent() {
    let (mut kernel, mut patient, address, slot) = one_patient("127.0.0.1:0");
    runtime().block_on(async {
        let mut wakeups = kernel.wakeups().unwrap().unwrap();
        let mut client = Client::connect(address);
        for path in ["/502", "/503", "/504"] {
            for _ in 0..100 {
                client.get(path);
            }
        }
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(patient.ask(&format!("refused {closed} 3")), "3");
        eventually("refused connects", || {
            (counters(&kernel, slot).connects_failed == 3).then_some(())
        });
        assert_eq!(drain(&mut wakeups).await, [], "somebody behind it, or not now");
        for (so_far, path) in ["/500", "/501", "/505"].into_iter().enumerate() {
            client.get(path);
            let wake = next(&mut wakeups).await;
            assert_eq!((wake.slot, wake.cause), (slot, Cause::Http5xx), "{path}");
            kernel.rearm(slot).unwrap();
            let counted = counters(&kernel, slot);
            assert_eq!(counted.responses[4], 301 + so_far as u64);
            assert_eq!(counted.unavailable, 300);
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_waiting_reader_is_woken() {
    let (mut kernel, _patient, address, slot) = one_patient("[::1]:0");
    runtime().block_on(async {
        let mut wakeups = kernel.wakeups().unwrap().unwrap();
        for _ in 0..50 {
            let traffic = tokio::task::spawn_blocking(move || Client::connect(address).get("/500"));
            assert_eq!(next(&mut wakeups).await.slot, slot);
            traffic.await.unwrap();
            // A late second record of the same event could still arrive: only sample.
            drain(&mut wakeups).await;
            kernel.rearm(slot).unwrap();
        }
        assert_eq!(counters(&kernel, slot).responses[4], 50);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn resets_wake() {
    let (mut kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    runtime().block_on(async {
        let mut wakeups = kernel.wakeups().unwrap().unwrap();
        let mut client = Client::connect(address);
        client.get("/200");
        client.reset();
        let wake = next(&mut wakeups).await;
        assert_eq!((wake.slot, wake.cause), (slot, Cause::Reset));
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_full_ring_leaves_the_target_armed() {
    // The ring of one target takes 128 records.
    let mut kernel = load(1);
    let mut patient = super::Patient::start();
    let address = patient.listen("127.0.0.1:0");
    let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    runtime().block_on(async {
        let mut wakeups = kernel.wakeups().unwrap().unwrap();
        let mut client = Client::connect(address);
        for _ in 0..300 {
            client.get("/500");
            kernel.rearm(slot).unwrap();
        }
        client.get("/500");
        let sent = drain(&mut wakeups).await.len();
        assert!((64..300).contains(&sent), "{sent} records fit");
        assert_eq!(counters(&kernel, slot).responses[4], 301);
        client.get("/500");
        assert_eq!(next(&mut wakeups).await.slot, slot, "armed without another look");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_wakeup_of_a_freed_slot_matches_no_target() {
    let mut kernel = load(1);
    let mut patient = super::Patient::start();
    let address = patient.listen("127.0.0.1:0");
    let target = target(patient.cgroups(), None);
    let before = kernel.watch(&target).unwrap();
    Client::connect(address).get("/500");
    kernel.unwatch(before).unwrap();
    let after = kernel.watch(&target).unwrap();
    runtime().block_on(async {
        let mut wakeups = kernel.wakeups().unwrap().unwrap();
        let late = next(&mut wakeups).await;
        assert_eq!(late.slot, before);
        assert_ne!(late.slot, after);
        assert!(kernel.rearm(late.slot).is_err());
        Client::connect(address).get("/500");
        assert_eq!(next(&mut wakeups).await.slot, after);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn wakeups_outside_a_runtime_are_an_error() {
    let mut kernel = load(1);
    assert!(kernel.wakeups().is_err());
    // No count is lost by it.
    eventually("a runtime", || runtime().block_on(async { kernel.wakeups().unwrap() }));
}
