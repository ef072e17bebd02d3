//! Writes a recording as the trace of an agent that only observed.
//!
//! A trace holds cumulative counts, so rates become counts. Between two lines of the recording the
//! rates of the later line hold, and the agent takes a sample every second: at the pace of the
//! recording, one line in five seconds, it could never confirm what it sees.
use serde_json::{Value, json};

use super::wide::{Recording, Service};

/// Version of the lines that are written here.
const VERSION: u32 = 3;
/// Time between two samples, in seconds.
const STEP_S: f64 = 1.0;
/// When the recording begins on its boot clock, in nanoseconds. The services run since boot.
const BEGIN: u64 = 3600 * SECOND;
const SECOND: u64 = 1_000_000_000;
/// The period in which a quota is enforced: the default of the kernel.
const PERIOD_NS: u64 = 100_000_000;
/// How long a health check takes, in nanoseconds.
const POLL_NS: u64 = 2_000_000;
/// More hard remedies than a replay has: each must be seen.
const NODE_BUDGET: u32 = 1_000_000;

/// What was counted of a service since the recording began.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    good: f64,
    errors: f64,
    cpu_s: f64,
    throttled_s: f64,
    polls: u64,
}

/// The lines of the trace.
pub(super) fn lines(recording: &Recording) -> impl Iterator<Item = String> {
    let mut lines = vec![header()];
    let line = |at: u64, what: Value| json!([at, recording.hour, what]);
    lines.extend(
        recording
            .services
            .iter()
            .enumerate()
            .map(|(index, service)| line(BEGIN, json!({ "added": [index, target(service)] }))),
    );
    let quotas: Vec<_> = recording.services.iter().map(Service::quota).collect();
    let mut counts = vec![Counts::default(); recording.services.len()];
    let mut now_s = 0.0;
    for (row, time_s) in recording.times_s.iter().enumerate() {
        loop {
            let next_s = if *time_s - now_s > STEP_S { now_s + STEP_S } else { *time_s };
            for (index, service) in recording.services.iter().enumerate() {
                counts[index].add(service, row, next_s - now_s);
                let at = BEGIN + (next_s * SECOND as f64).round() as u64;
                let memory = service.memory[row].map(|bytes| bytes as u64);
                let sample = counts[index].sample(index, at, memory, quotas[index]);
                lines.push(line(at, json!({ "look": sample })));
            }
            now_s = next_s;
            if now_s >= *time_s {
                break;
            }
        }
    }
    let end = BEGIN + (now_s * SECOND as f64).round() as u64;
    lines.push(line(end, json!("end")));
    lines.into_iter().map(|line| line.to_string())
}

fn header() -> Value {
    json!({
        "paramedic_trace": VERSION, "agent": "external", "run": "external/1", "part": 0,
        "boot_ns": BEGIN, "unix_s": 0, "max_action": "observe", "dry_run": false,
        "rules_may_restart": false, "node_budget": NODE_BUDGET, "tick_ns": 2 * SECOND,
        "verify_window_ns": 15 * SECOND,
    })
}

fn target(service: &Service) -> Value {
    json!({
        "uid": service.name, "instance": "1", "name": service.name, "ceiling": "observe",
        "min_confidence": 0.8, "polled": true, "shared": false, "started_ns": 0,
    })
}

impl Counts {
    /// Adds what a line says of so many seconds.
    fn add(&mut self, service: &Service, row: usize, seconds: f64) {
        let rate = |of: &[Option<f64>]| of[row].unwrap_or(0.0);
        // Without a share, all requests count as answered well.
        let success = service.success[row].unwrap_or(1.0);
        let requests = rate(&service.requests) * seconds;
        self.good += requests * success;
        self.errors += requests * (1.0 - success);
        self.cpu_s += rate(&service.cpu) * seconds;
        self.throttled_s += rate(&service.throttled) * seconds;
        self.polls += 1;
    }

    /// The sample, with a health check that is answered well: a recording has none, and without one
    /// the gates would permit no restart whatever the model says.
    fn sample(&self, index: usize, at: u64, memory: Option<u64>, quota: Option<f64>) -> Value {
        let nanoseconds = |seconds: f64| (seconds * SECOND as f64).round() as u64;
        let throttled_ns = nanoseconds(self.throttled_s);
        let periods = throttled_ns / PERIOD_NS;
        // Ten times a tenth is a whole one.
        let whole = |count: f64| (count + 1e-6) as u64;
        let (good, errors, polls) = (whole(self.good), whole(self.errors), self.polls);
        // By position: responses by class, of the agent's own requests too; the rest is zero.
        let mut counts = [0; 25];
        (counts[1], counts[4], counts[5]) = (good + polls, errors, good + errors + polls);
        (counts[11], counts[12], counts[13]) = (periods, throttled_ns, PERIOD_NS);
        counts[15] = polls;
        let health = json!([POLL_NS, [0, 1, 0, 0, 0], [null, null, null, null, "well"]]);
        let cpu_ns = nanoseconds(self.cpu_s);
        json!({
            "i": index, "t": at, "w": "tick", "k": counts.as_slice(), "p": health,
            "u": [cpu_ns, memory, periods, throttled_ns, PERIOD_NS, null], "l": [quota, null],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(text: &str) -> Vec<Value> {
        let recording = Recording::read(text).unwrap();
        let lines: Vec<Value> =
            lines(&recording).map(|line| serde_json::from_str(&line).unwrap()).collect();
        assert_eq!(lines.last().unwrap()[2], "end");
        lines.iter().filter(|line| line[2].get("look").is_some()).cloned().collect()
    }

    const ROWS: &str = "time,web-rps,web-success_rate,web-cpu,web-cpu_cfs,web-mem\n\
                        2026-01-02 23:00:00,10,1,0.1,0,1000\n\
                        2026-01-02 23:00:05,10,0.8,0.2,0.6,2000\n";

    #[test]
    fn rates_become_counts_once_a_second() {
        let looks = looks(ROWS);
        assert_eq!(looks.len(), 6, "one at the start and five in five seconds");
        let last = &looks[5];
        assert_eq!((&last[0], &last[1]), (&json!(BEGIN + 5 * SECOND), &json!(23)));
        let sample = &last[2]["look"];
        let count = |position: usize| sample["k"][position].as_u64().unwrap();
        let polls = 6;
        assert_eq!((count(1), count(4)), (40 + polls, 10), "8 of 10 requests succeed");
        assert_eq!((count(5), count(15)), (50 + polls, polls));
        assert_eq!((count(11), count(13)), (30, PERIOD_NS), "throttled for 3 of 5 s");
        assert_eq!(
            sample["u"],
            json!([1_000_000_000, 2000, 30, 3_000_000_000_u64, PERIOD_NS, null])
        );
        assert_eq!(sample["l"], json!([0.2, null]), "the quota that the throttling shows");
    }

    #[test]
    fn what_is_missing_changes_nothing() {
        let looks = looks(
            "time,web-rps,web-success_rate\n\
                           2026-01-02 23:00:00,,\n\
                           2026-01-02 23:00:01,4,\n",
        );
        let sample = &looks[1][2]["look"];
        assert_eq!((&sample["k"][1], &sample["k"][4]), (&json!(4 + 2), &json!(0)));
        assert_eq!(sample["u"], json!([0, null, 0, 0, PERIOD_NS, null]));
        assert_eq!(sample["l"], json!([null, null]));
    }
}
