use std::net::{TcpListener, TcpStream};

use nix::sys::socket::{Backlog, listen};
use paramedic::signal::kernel::{Kernel, Mechanism, Signal, Slot, Status};

use super::{
    counters, eventually, load_without, one_patient,
    patient::{Client, Patient},
    target,
};

#[test]
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
    // The other port's came first: when these are here, those would be.
    eventually("one reset each way", || {
        let counted = counters(&kernel, slot);
        (counted.resets_sent >= 1 && counted.resets_received >= 1).then_some(())
    });
    let counted = counters(&kernel, slot);
    assert_eq!((counted.resets_sent, counted.resets_received), (1, 1));
}

/// The reset that refuses a connection is sent without a socket. Newer kernels show that as well,
/// and a program that takes the socket for granted would be the end of the machine.
#[test]
fn a_refused_connection_is_blamed_on_nobody() {
    let (kernel, mut patient, address, slot) = one_patient("127.0.0.1:0");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..3 {
        assert!(TcpStream::connect(closed).is_err());
    }
    assert_eq!(counters(&kernel, slot), agent_common::Counters::default());
    // As a client it is told of the refusal, by a reset.
    patient.tell(&format!("connect {closed}"));
    eventually("a reset", || (counters(&kernel, slot).resets_received == 1).then_some(()));
    assert_eq!(counters(&kernel, slot).resets_sent, 0);
    assert_eq!(Client::connect(address).get("/200"), 200);
}

#[test]
fn segments_sent_again_are_counted() {
    let (kernel, patient, _, slot) = one_patient("127.0.0.1:0");
    are_counted(&kernel, patient, slot);
}

fn are_counted(kernel: &Kernel, mut patient: Patient, slot: Slot) {
    // Nobody accepts: with its queue full the listener ignores further requests to connect, and
    // they are repeated after a second.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&full, Backlog::new(0).unwrap()).unwrap();
    let address = full.local_addr().unwrap();
    for _ in 0..3 {
        patient.tell(&format!("connect {address}"));
    }
    eventually("a retransmit", || (counters(kernel, slot).retransmits > 0).then_some(()));
}

#[test]
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
    are_counted(&kernel, patient, everything);
}
