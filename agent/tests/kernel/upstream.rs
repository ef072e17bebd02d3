//! A target as a client: its requests, the responses, and failed connects.
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use crate::kernel::{
    counters, eventually, load, one_patient,
    patient::{Client, Patient},
    target,
};
use agent_common::Counters;
use nix::sys::socket::{Backlog, listen};
use paramedic_probes::{Kernel, Slot};

/// Serves one connection, always with the same response.
fn answers(at: &str, answer: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let upstream = TcpListener::bind(at).unwrap();
    let address = upstream.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if line.is_empty() {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (address, server)
}

fn as_client(requests: u64, responses: u64, upstream_5xx: u64) -> Counters {
    let upstream = Counters { upstream_requests: requests, upstream_5xx, ..Counters::default() };
    Counters { upstream_responses: responses, ..upstream }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn client_responses_are_counted_without_interim_ones_and_5xx_apart() {
    let (kernel, mut patient, _, slot) = one_patient("127.0.0.1:0");
    let mut expected = Counters::default();
    for (answer, responses, upstream_5xx) in [
        ("HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", 7, 0),
        ("HTTP/1.1 304 x\r\nContent-Length: 0\r\n\r\n", 7, 0),
        ("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", 7, 0),
        ("HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n", 7, 7),
        ("HTTP/1.1 599 x\r\nContent-Length: 0\r\n\r\n", 7, 7),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", 0, 0),
    ] {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (address, server) = answers(at, answer);
            patient.ask(&format!("get {address} /any 7"));
            server.join().unwrap();
            expected = expected.plus(&as_client(7, responses, upstream_5xx));
            assert_eq!(counters(&kernel, slot), expected, "{answer} on {at}");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_that_turn_the_client_away_are_counted_apart() {
    let (kernel, mut patient, _, slot) = one_patient("127.0.0.1:0");
    let mut expected = Counters::default();
    for (status, upstream_denied) in [(401, 3), (403, 3), (407, 3), (402, 0), (411, 0), (501, 0)] {
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").leak();
        let (address, server) = answers("127.0.0.1:0", answer);
        patient.ask(&format!("get {address} /any 3"));
        server.join().unwrap();
        let upstream_5xx = if status == 501 { 3 } else { 0 };
        let seen = Counters { upstream_denied, ..as_client(3, 3, upstream_5xx) };
        expected = expected.plus(&seen);
        assert_eq!(counters(&kernel, slot), expected, "{status}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_target_that_calls_itself_is_its_own_client() {
    let (kernel, mut patient, address, slot) = one_patient("127.0.0.1:0");
    patient.ask(&format!("get {address} /503 7"));
    let own =
        Counters { requests: 7, responses: [0, 0, 0, 0, 7], unavailable: 7, ..Counters::default() };
    assert_eq!(counters(&kernel, slot), Counters::plus(own, &as_client(7, 7, 7)));
}

/// The reset that refuses a connection is sent without a socket. Newer kernels report it as well,
/// and a program that assumes a socket would crash the machine.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_refused_connect_of_an_unwatched_cgroup_is_not_counted() {
    let (kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    for _ in 0..3 {
        assert!(TcpStream::connect(closed("127.0.0.1:0")).is_err());
    }
    assert_eq!(counters(&kernel, slot), Counters::default());
    assert_eq!(Client::connect(address).get("/200"), 200);
}

fn closed(at: &str) -> SocketAddr {
    TcpListener::bind(at).unwrap().local_addr().unwrap()
}

pub(super) fn refused_connects_are_counted(kernel: &Kernel, patient: &mut Patient, slot: Slot) {
    let before = counters(kernel, slot);
    assert_eq!(patient.ask(&format!("refused {} 5", closed("127.0.0.1:0"))), "5");
    assert_eq!(patient.ask(&format!("refused {} 4", closed("[::1]:0"))), "4");
    let expected = Counters { connects_failed: before.connects_failed + 9, ..before };
    eventually("nine refused connects", || {
        let counted = counters(kernel, slot);
        assert!(counted.connects_failed <= expected.connects_failed, "{counted:?}");
        (counted.connects_failed == expected.connects_failed).then_some(())
    });
    // And as nothing else.
    assert_eq!(counters(kernel, slot), expected);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn refused_connects_count_as_failed_connects_not_as_resets() {
    let (kernel, mut patient, _, slot) = one_patient("127.0.0.1:0");
    refused_connects_are_counted(&kernel, &mut patient, slot);
}

pub(super) fn syns_sent_again_are_counted(kernel: &Kernel, patient: &mut Patient, slot: Slot) {
    // Nothing accepts: with its queue full the listener ignores further requests to connect, and
    // they are retransmitted after a second.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&full, Backlog::new(0).unwrap()).unwrap();
    let address = full.local_addr().unwrap();
    let before = counters(kernel, slot);
    for _ in 0..3 {
        patient.tell(&format!("connect {address}"));
    }
    eventually("a SYN sent again", || {
        (counters(kernel, slot).connects_failed > before.connects_failed).then_some(())
    });
    let counted = counters(kernel, slot);
    assert_eq!(counted, Counters { connects_failed: counted.connects_failed, ..before });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn retransmitted_syns_count_as_failed_connects_not_as_retransmits() {
    let (kernel, mut patient, _, slot) = one_patient("127.0.0.1:0");
    syns_sent_again_are_counted(&kernel, &mut patient, slot);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn client_calls_are_not_counted_in_a_shared_or_neighbouring_cgroup() {
    let (mut kernel, _quiet, _, quiet) = one_patient("127.0.0.1:0");
    let mut patient = Patient::start();
    let own = patient.listen("127.0.0.1:0");
    let mut shared = patient.cgroups();
    shared.shared = true;
    let slot = kernel.watch(&target(shared, Some(own.port()))).unwrap();
    let (address, server) = answers("127.0.0.1:0", "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n");
    patient.ask(&format!("get {address} /any 7"));
    server.join().unwrap();
    assert_eq!(patient.ask(&format!("refused {} 5", closed("127.0.0.1:0"))), "5");
    // Its own traffic comes after all that, and is counted first.
    assert_eq!(Client::connect(own).get("/200"), 200);
    let only = Counters { requests: 1, responses: [0, 1, 0, 0, 0], ..Counters::default() };
    assert_eq!(counters(&kernel, slot), only);
    assert_eq!(counters(&kernel, quiet), Counters::default(), "no traffic of its own");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn client_calls_of_two_ports_in_one_cgroup_go_to_the_first_then_the_next() {
    let mut kernel = load(2);
    let mut patient = Patient::start();
    let first = kernel.watch(&target(patient.cgroups(), Some(1))).unwrap();
    let second = kernel.watch(&target(patient.cgroups(), Some(2))).unwrap();
    refused_connects_are_counted(&kernel, &mut patient, first);
    assert_eq!(counters(&kernel, second), Counters::default());
    kernel.unwatch(first).unwrap();
    refused_connects_are_counted(&kernel, &mut patient, second);
}
