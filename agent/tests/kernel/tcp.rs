use std::net::SocketAddr;

use crate::kernel::{
    counters, eventually, load_without, one_patient,
    patient::{Client, Patient},
    target,
    upstream::{refused_connects_are_counted, syns_sent_again_are_counted},
};
use paramedic_probes::{Kernel, Mechanism, Signal, Slot, Status};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn resets_are_attributed_to_the_socket_they_end() {
    let (kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    for _ in 0..3 {
        let mut client = Client::connect(address);
        client.get("/200");
        client.reset();
    }
    let received = |kernel: &Kernel| counters(kernel, slot).resets_received;
    eventually("three resets received", || (received(&kernel) == 3).then_some(()));
    assert_eq!(counters(&kernel, slot).resets_sent, 0, "the client sent them");

    for _ in 0..2 {
        assert!(Client::connect(address).send("GET", "/reset").is_err());
    }
    eventually("two resets sent", || (counters(&kernel, slot).resets_sent == 2).then_some(()));
    assert_eq!(received(&kernel), 3);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn resets_are_narrowed_to_the_port() {
    let (mut kernel, mut patient, other, everything) = one_patient("127.0.0.1:0");
    kernel.unwatch(everything).unwrap();
    let own = patient.listen("[::1]:0");
    let slot = kernel.watch(&target(patient.cgroups(), Some(own.port()))).unwrap();
    for address in [other, own] {
        assert!(Client::connect(address).send("GET", "/reset").is_err());
        let mut client = Client::connect(address);
        client.get("/200");
        client.reset();
    }
    // Those of the other port came first: when these are counted, those would be too.
    eventually("one reset each way", || {
        let counted = counters(&kernel, slot);
        (counted.resets_sent >= 1 && counted.resets_received >= 1).then_some(())
    });
    let counted = counters(&kernel, slot);
    assert_eq!((counted.resets_sent, counted.resets_received), (1, 1));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn segments_sent_again_are_counted() {
    let (kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    are_counted(&kernel, address, slot);
    assert_eq!(counters(&kernel, slot).connects_failed, 0, "no SYN was");
}

fn are_counted(kernel: &Kernel, address: SocketAddr, slot: Slot) {
    // The response finds the client deaf, and is retransmitted.
    let mut client = Client::connect(address);
    assert_eq!(client.get("/200"), 200);
    assert_eq!(counters(kernel, slot).retransmits, 0);
    client.deaf();
    client.ask("GET", "/200").unwrap();
    eventually("a retransmit", || (counters(kernel, slot).retransmits > 0).then_some(()));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn classic_tracepoints_stand_in_where_there_is_tracefs() {
    let mut kernel = load_without(1, &[Mechanism::TpBtf]);
    let probe = |kernel: &Kernel, signal| {
        kernel.probes().iter().find(|probe| probe.signal == signal).unwrap().clone()
    };
    let received = probe(&kernel, Signal::TcpResetsReceived);
    assert_eq!(received.mechanism, Mechanism::Tracepoint);
    assert_eq!(received.tried, [(Mechanism::TpBtf, "switched off".to_owned())]);
    let tracefs = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    if !tracefs.iter().any(|path| std::path::Path::new(path).is_dir()) {
        let Status::Unavailable { reason } = received.status else { panic!("{received:?}") };
        assert!(reason.contains("tracefs"), "{reason}");
        return;
    }
    assert_eq!(received.status, Status::Attached);
    let mut patient = Patient::start();
    let address = patient.listen("127.0.0.1:0");
    let slot = kernel.watch(&target(patient.cgroups(), Some(address.port()))).unwrap();
    assert!(Client::connect(address).send("GET", "/reset").is_err());
    let mut client = Client::connect(address);
    client.get("/200");
    client.reset();
    eventually("one reset each way", || {
        let counted = counters(&kernel, slot);
        ((counted.resets_sent, counted.resets_received) == (1, 1)).then_some(())
    });
    kernel.unwatch(slot).unwrap();
    let everything = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    refused_connects_are_counted(&kernel, &mut patient, everything);
    syns_sent_again_are_counted(&kernel, &mut patient, everything);
    are_counted(&kernel, address, everything);
}
