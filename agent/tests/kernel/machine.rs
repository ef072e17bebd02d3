use std::time::Duration;

use crate::kernel::load;
use paramedic_probes::{Capabilities, MeasureError, Signal, Status};

/// An Ethernet frame with a TCP segment from port 80 to port 40000.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&[8, 0]);
    let length = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
    frame.extend_from_slice(&[0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&[127, 0, 0, 1, 127, 0, 0, 1]);
    frame.extend_from_slice(&[
        0, 80, 0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    frame.extend_from_slice(payload);
    frame
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_signal_is_accounted_for() {
    let kernel = load(1);
    let signals: Vec<Signal> = kernel.probes().iter().map(|probe| probe.signal).collect();
    assert_eq!(
        signals,
        [
            Signal::HttpResponses,
            Signal::HttpRequests,
            Signal::TcpResetsReceived,
            Signal::TcpResetsSent,
            Signal::TcpRetransmits,
            Signal::CpuThrottling,
            Signal::OomKills,
        ]
    );
    for probe in &kernel.probes()[..5] {
        assert!(probe.is_live(), "{probe:?}");
    }
    assert!(Capabilities::read().missing().is_empty());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_can_be_measured() {
    let mut kernel = load(1);
    for program in ["http_egress", "http_ingress"] {
        for payload in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 1400]] {
            let mean = kernel.measure(program, &frame(payload), 1000).unwrap();
            // Far more than it takes even when emulated and interrupted.
            assert!(mean < Duration::from_millis(100), "{program}: {mean:?}");
        }
    }
    let unknown = kernel.measure("oom_victim", &frame(b""), 1);
    assert!(matches!(unknown, Err(MeasureError::Unknown(_))));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_maps_grow_with_the_number_of_targets() {
    let bytes = [1, 110, 500].map(|capacity| load(capacity).map_bytes());
    assert!(bytes[0] > 0 && bytes[0] < bytes[1] && bytes[1] < bytes[2], "{bytes:?}");
    assert!(bytes[2] < 8 << 20, "{bytes:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_verifier_is_done_soon() {
    for cost in load(1).costs() {
        println!("{}: {:?} instructions", cost.name, cost.verified);
        // A tenth of what a kernel permits. An emulated machine takes 2 s for it.
        assert!(cost.verified.is_none_or(|verified| verified < 100_000), "{cost:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_tls_programs_load_and_are_verified_soon() {
    let mut kernel = load(1);
    let is_of_tls = |name: &str| name.starts_with("ssl_") || name.starts_with("go_");
    assert!(!kernel.costs().iter().any(|cost| is_of_tls(&cost.name)), "nobody asked for them");
    let probe = kernel.probe_tls();
    assert_eq!((probe.signal, &probe.status), (Signal::TlsResponses, &Status::Ready), "{probe:?}");
    let costs: Vec<_> = kernel.costs().into_iter().filter(|cost| is_of_tls(&cost.name)).collect();
    assert_eq!(costs.len(), 7);
    for cost in costs {
        println!("{}: {:?} instructions", cost.name, cost.verified);
        assert!(cost.verified.is_none_or(|verified| verified < 100_000), "{cost:?}");
    }
    assert_eq!(kernel.tls_files(), 0);
}
