//! Agents and metrics API of version 0.1.0 and of this one work together, in both directions.
use paramedic_pod_metrics::{AUDIENCE, CLIENT_NAME, Frame, Hello, Metric, PATH, PodMetrics};
use serde::Deserialize;

/// What an agent of 0.1.0 sends: written by its own code.
const STREAM: &str = include_str!("fixtures/stream-0.1.0.jsonl");

/// The reader of 0.1.0, as its metrics API has it: it takes exactly four values.
mod reader_of_0_1_0 {
    use super::*;

    #[derive(Deserialize)]
    pub(super) struct Frame {
        pub(super) pods: Vec<Reading>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    pub(super) struct Reading {
        pub(super) uid: String,
        pub(super) age_ms: u64,
        pub(super) window_ms: u64,
        pub(super) verdict_age_ms: u64,
        pub(super) healing: bool,
        pub(super) values: [Option<f32>; 4],
    }
}

#[test]
fn an_agent_of_0_1_0_is_read() {
    let mut lines = STREAM.lines();
    let hello: Hello = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(hello.token, "a-token");
    let frame = Frame::parse(lines.next().unwrap().as_bytes()).unwrap();
    let pod = |uid: &str, healing, values| PodMetrics {
        uid: uid.to_owned(),
        age_ms: 120,
        window_ms: 10_000,
        verdict_age_ms: 20,
        healing,
        values,
    };
    let expected = [
        pod("uid-1", false, [Some(12.5), Some(0.25), None, Some(0.01), None, None]),
        pod("uid-2", true, [Some(0.0), Some(0.0), Some(0.5), Some(0.9), None, None]),
    ];
    assert_eq!(frame.pods, expected);
}

#[test]
fn a_metrics_api_of_0_1_0_reads_this_agent() {
    let pod = PodMetrics {
        uid: "uid-1".to_owned(),
        age_ms: 120,
        window_ms: 10_000,
        verdict_age_ms: 20,
        healing: true,
        values: [Some(12.5), Some(0.25), None, Some(0.01), Some(0.2), Some(3.0)],
    };
    let line = serde_json::to_string(&Frame { pods: vec![pod] }).unwrap();
    let read: reader_of_0_1_0::Frame = serde_json::from_str(&line).unwrap();
    let expected = reader_of_0_1_0::Reading {
        uid: "uid-1".to_owned(),
        age_ms: 120,
        window_ms: 10_000,
        verdict_age_ms: 20,
        healing: true,
        values: [Some(12.5), Some(0.25), None, Some(0.01)],
    };
    assert_eq!(read.pods, [expected]);
}

#[test]
fn both_sides_call_things_as_in_0_1_0() {
    assert_eq!(PATH, "/v1/readings");
    assert_eq!((AUDIENCE, CLIENT_NAME), ("paramedic-metrics-api", "paramedic-metrics-api"));
    // The order of `values`, and the names in HPAs.
    let names = Metric::ALL.map(Metric::name);
    let first = [
        "http_requests_per_second",
        "http_5xx_ratio",
        "cpu_throttled_ratio",
        "unhealthy_probability",
    ];
    assert_eq!(names[..4], first);
}
