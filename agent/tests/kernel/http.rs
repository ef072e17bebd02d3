use crate::kernel::{
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
#[ignore = "needs root: cargo xtask test"]
fn responses_are_counted_by_class_on_ipv4() {
    counts_every_class("127.0.0.1:0");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_are_counted_by_class_on_ipv6() {
    counts_every_class("[::1]:0");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_502_503_or_504_is_counted_as_an_error_and_apart() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let (kernel, _patient, address, slot) = one_patient(listen);
        let mut client = Client::connect(address);
        for path in ["/500", "/502", "/503", "/504"] {
            for _ in 0..100 {
                client.get(path);
            }
        }
        let expected = agent_common::Counters {
            requests: 400,
            responses: [0, 0, 0, 0, 400],
            unavailable: 300,
            ..Default::default()
        };
        assert_eq!(counters(&kernel, slot), expected, "{listen}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_only_looks_like_a_502_503_or_504_is_not_counted_apart() {
    let (kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    let mut client = Client::connect(address);
    for path in ["/501", "/505", "/512", "/513", "/593", "/599", "/403", "/203", "/303"] {
        client.get(path);
    }
    let counted = counters(&kernel, slot);
    assert_eq!((counted.responses, counted.unavailable), ([0, 1, 1, 1, 6], 0));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_method_is_a_request() {
    let (kernel, _patient, address, slot) = one_patient("127.0.0.1:0");
    let methods =
        ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "BREW"];
    let mut client = Client::connect(address);
    for method in methods {
        if method == "CONNECT" {
            // What follows its response is no HTTP.
            assert_eq!(Client::connect(address).send(method, "/204").unwrap(), 204);
        } else {
            assert_eq!(client.send(method, "/204").unwrap(), 204);
        }
    }
    let counted = counters(&kernel, slot);
    assert_eq!((counted.requests, counted.responses), (10, [0, 10, 0, 0, 0]));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
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
#[ignore = "needs root: cargo xtask test"]
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

    // Beside it, the target of the whole cgroup gets only the rest.
    let rest = kernel.watch(&target(shared, None)).unwrap();
    for address in [own, other] {
        Client::connect(address).get("/500");
    }
    assert_eq!(counters(&kernel, slot).responses[4], 4);
    assert_eq!(counters(&kernel, rest).responses[4], 1);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
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
