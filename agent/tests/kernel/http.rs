use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use super::{
    counters, one_patient,
    patient::{Client, Patient},
    target,
};

fn counts_every_class(listen: &str) {
    let (kernel, _patient, address, slot) = one_patient(listen);
    let mut client = Client::connect(address);
    for (times, path) in [(3, "/200"), (2, "/301"), (4, "/404"), (5, "/500"), (6, "/503")] {
        for _ in 0..times {
            assert_eq!(client.get(path), path[1..].parse::<u16>().unwrap());
        }
    }
    let counted = counters(&kernel, slot);
    assert_eq!(counted.responses, [0, 3, 2, 4, 11]);
    assert_eq!(counted.requests, 20);
    assert_eq!(counted.upstream_5xx, 0, "its own are not its upstream's");
    drop(client);
}

#[test]
fn responses_are_counted_by_class_on_ipv4() {
    counts_every_class("127.0.0.1:0");
}

#[test]
fn responses_are_counted_by_class_on_ipv6() {
    counts_every_class("[::1]:0");
}

#[test]
fn every_method_is_a_request() {
    let (kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    let methods =
        ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "BREW"];
    let mut client = Client::connect(address);
    for method in methods {
        assert_eq!(client.send(method, "/204").unwrap(), 204);
    }
    let counted = counters(&kernel, slot);
    assert_eq!(counted.requests, 9, "all but BREW");
    assert_eq!(counted.responses, [0, 10, 0, 0, 0]);
}

#[test]
fn large_responses_in_page_fragments_are_counted_once() {
    let (kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    let mut client = Client::connect(address);
    for _ in 0..20 {
        assert_eq!(client.get("/vector"), 200);
        assert_eq!(client.get("/file"), 200);
    }
    assert_eq!(counters(&kernel, slot).responses, [0, 40, 0, 0, 0]);
}

#[test]
fn traffic_is_narrowed_to_the_port_in_a_shared_cgroup() {
    let (mut kernel, mut patient, other, everything) = one_patient("127.0.0.1:0");
    let own = patient.listen("[::1]:0");
    kernel.unwatch(everything).unwrap();
    let mut shared = patient.cgroups();
    shared.shared = true;
    let slot = kernel.watch(&target(shared.clone(), Some(own.port()))).unwrap();
    for (address, times) in [(own, 3), (other, 5)] {
        let mut client = Client::connect(address);
        for _ in 0..times {
            client.get("/500");
        }
    }
    let counted = counters(&kernel, slot);
    assert_eq!((counted.responses[4], counted.requests), (3, 3));

    // Beside it, what takes the rest of the cgroup takes only the rest.
    let rest = kernel.watch(&target(shared, None)).unwrap();
    for address in [own, other] {
        Client::connect(address).get("/500");
    }
    assert_eq!(counters(&kernel, slot).responses[4], 4);
    assert_eq!(counters(&kernel, rest).responses[4], 1);
}

#[test]
fn a_foreign_cgroup_is_not_mixed_in() {
    let (mut kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    let mut neighbour = Patient::start();
    let unwatched = neighbour.listen("127.0.0.1:0");
    Client::connect(unwatched).get("/500");
    assert_eq!(counters(&kernel, slot), agent_common::Counters::default());

    let beside = kernel.watch(&target(neighbour.cgroups(), None)).unwrap();
    Client::connect(unwatched).get("/404");
    Client::connect(address).get("/500");
    assert_eq!(counters(&kernel, beside).responses, [0, 0, 0, 1, 0]);
    assert_eq!(counters(&kernel, slot).responses, [0, 0, 0, 0, 1]);
}

#[test]
fn errors_received_as_a_client_are_the_upstreams() {
    let (kernel, mut patient, _, slot) = one_patient("127.0.0.1:0");
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if line.is_empty() {
                stream.write_all(b"HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        }
    });
    patient.ask(&format!("get {address} /any 7"));
    server.join().unwrap();
    let counted = counters(&kernel, slot);
    assert_eq!(counted.upstream_5xx, 7);
    assert_eq!(counted.responses, [0; 5]);
    assert_eq!(counted.requests, 0);
}
