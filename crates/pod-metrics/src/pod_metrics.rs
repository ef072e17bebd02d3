//! The wire format: lines of JSON, one [`Hello`], then a [`Frame`] every second.
//!
//! Both ends validate: an agent sends only what it measured, and the metrics API rejects
//! implausible values.
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FRESH, HELD, Metric};

/// Maximum number of readings in a frame. An agent watches at most 500 pods.
pub const MAX_READINGS: usize = 1000;
/// Maximum window. A window spans 10 s, and starts again after a gap of 20 s.
const MAX_WINDOW: Duration = Duration::from_secs(60);
/// The metrics of version 0.1.0, whose reader takes exactly so many `values`. The others are `more`.
const FIRST: usize = 4;

/// The first line: authenticates the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's service account token, for [`AUDIENCE`](super::AUDIENCE) only.
    pub token: String,
}

/// Every further line: all pods that this agent has measured. A pod that is not in it has no values
/// now.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// In no particular order.
    pub pods: Vec<PodMetrics>,
}

/// The values of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct PodMetrics {
    /// The pod's uid.
    pub uid: String,
    /// How long ago the window ended, in milliseconds. An age needs no common clock.
    pub age_ms: u64,
    /// Length of the window, in milliseconds.
    pub window_ms: u64,
    /// Age of the sample behind the verdict, in milliseconds. While a pod is being healed its load
    /// is kept, and its verdict continues.
    pub verdict_age_ms: u64,
    /// Whether the pod is being healed: its values then stay valid for longer.
    pub healing: bool,
    /// In the order of [`Metric::ALL`]; nothing if the kernel cannot measure it, or if the other end
    /// does not send it: the two may be of different versions.
    pub values: [Option<f32>; Metric::ALL.len()],
}

/// [`PodMetrics`] on the wire. A field is never taken away, `values` keeps its length, and a reader
/// ignores fields and further values that it does not know.
#[derive(Serialize, Deserialize)]
struct Wire {
    uid: String,
    age_ms: u64,
    window_ms: u64,
    verdict_age_ms: u64,
    healing: bool,
    /// The first [`FIRST`] metrics.
    values: Vec<Option<f32>>,
    /// The metrics after them, which version 0.1.0 neither sends nor reads.
    #[serde(default)]
    more: Vec<Option<f32>>,
}

/// Why a frame is rejected.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not the expected JSON.
    #[error("not a frame: {0}")]
    Malformed(#[from] serde_json::Error),
    /// More pods than an agent watches.
    #[error("it has {0} readings, and an agent watches at most {MAX_READINGS} pods")]
    TooMany(usize),
    /// An implausible time.
    #[error("{what} of pod {uid} is {ms} ms, more than the maximum of {most} ms")]
    Time {
        /// Which time.
        what: &'static str,
        /// The pod.
        uid: String,
        /// The time, in milliseconds.
        ms: u64,
        /// The bound, in milliseconds.
        most: u64,
    },
    /// An implausible number.
    #[error("{metric} of pod {uid} is {value}")]
    Impossible {
        /// The metric's name.
        metric: &'static str,
        /// The pod.
        uid: String,
        /// The number.
        value: f32,
    },
}

impl Frame {
    /// Parses a line.
    ///
    /// # Errors
    /// If anything in it is implausible. The whole frame is then rejected.
    pub fn parse(line: &[u8]) -> Result<Self, FrameError> {
        let frame: Self = serde_json::from_slice(line)?;
        if frame.pods.len() > MAX_READINGS {
            return Err(FrameError::TooMany(frame.pods.len()));
        }
        for reading in &frame.pods {
            for (what, ms, most) in [
                ("the age", reading.age_ms, millis(HELD)),
                ("the verdict's age", reading.verdict_age_ms, millis(HELD)),
                ("the window", reading.window_ms, millis(MAX_WINDOW)),
            ] {
                if ms > most {
                    return Err(FrameError::Time { what, uid: reading.uid.clone(), ms, most });
                }
            }
            for (metric, value) in Metric::ALL.into_iter().zip(reading.values) {
                let Some(value) = value else { continue };
                // This form also rejects NaN, which JSON cannot hold but a later format might.
                if !(0.0..=metric.most()).contains(&value) {
                    let (metric, uid) = (metric.name(), reading.uid.clone());
                    return Err(FrameError::Impossible { metric, uid, value });
                }
            }
        }
        Ok(frame)
    }
}

impl From<PodMetrics> for Wire {
    fn from(pod: PodMetrics) -> Self {
        let (first, more) = pod.values.split_at(FIRST);
        Self {
            uid: pod.uid,
            age_ms: pod.age_ms,
            window_ms: pod.window_ms,
            verdict_age_ms: pod.verdict_age_ms,
            healing: pod.healing,
            values: first.to_vec(),
            more: more.to_vec(),
        }
    }
}

impl From<Wire> for PodMetrics {
    fn from(sent: Wire) -> Self {
        let mut values = [None; Metric::ALL.len()];
        let (first, more) = values.split_at_mut(FIRST);
        let known = first.iter_mut().zip(sent.values).chain(more.iter_mut().zip(sent.more));
        known.for_each(|(value, sent)| *value = sent);
        Self {
            uid: sent.uid,
            age_ms: sent.age_ms,
            window_ms: sent.window_ms,
            verdict_age_ms: sent.verdict_age_ms,
            healing: sent.healing,
            values,
        }
    }
}

impl PodMetrics {
    /// How long ago a metric's value was true, according to the agent.
    #[must_use]
    pub const fn age(&self, metric: Metric) -> Duration {
        Duration::from_millis(match metric {
            Metric::UnhealthyProbability => self.verdict_age_ms,
            _ => self.age_ms,
        })
    }

    /// The window of a metric; zero for the verdict and the requests in flight, which are of one
    /// instant.
    #[must_use]
    pub const fn window(&self, metric: Metric) -> Duration {
        match metric {
            Metric::UnhealthyProbability | Metric::HttpRequestsInFlight => Duration::ZERO,
            _ => Duration::from_millis(self.window_ms),
        }
    }

    /// Maximum age of the values, including transmission.
    #[must_use]
    pub const fn counts_for(&self) -> Duration {
        if self.healing { HELD } else { FRESH }
    }

    /// The value of a metric, if known.
    #[must_use]
    pub const fn value(&self, metric: Metric) -> Option<f32> {
        self.values[metric as usize]
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: &str) -> Result<Frame, FrameError> {
        let line = format!(
            r#"{{"pods":[{{"uid":"a","age_ms":1,"window_ms":10000,"verdict_age_ms":1,"healing":false,"values":[{values}]}}]}}"#
        );
        Frame::parse(line.as_bytes())
    }

    fn reading() -> PodMetrics {
        PodMetrics {
            uid: "a".to_owned(),
            age_ms: 120,
            window_ms: 10_000,
            verdict_age_ms: 20,
            healing: false,
            values: [Some(12.5), Some(0.25), None, Some(0.01), Some(0.2), Some(3.0)],
        }
    }

    #[test]
    fn a_serialised_frame_parses_to_the_same() {
        let sent = Frame { pods: vec![reading()] };
        let line = serde_json::to_vec(&sent).unwrap();
        assert_eq!(Frame::parse(&line).unwrap(), sent);
        assert_eq!(sent.pods[0].value(Metric::Http5xxRatio), Some(0.25));
        assert_eq!(sent.pods[0].value(Metric::CpuThrottledRatio), None);
    }

    #[test]
    fn implausible_values_are_rejected() {
        assert!(frame("1,0,0,0").is_ok());
        for values in ["-1,0,0,0", "1e12,0,0,0", "1,1.5,0,0", "1,0,0,-0.1", "1e999,0,0,0"] {
            assert!(frame(values).is_err(), "{values}");
        }
        assert!(frame(r#"1,0,0,0],"more":[-0.1"#).is_err());
        assert!(matches!(frame("\"1\",0,0,0"), Err(FrameError::Malformed(_))));
        assert!(Frame::parse(b"[]").is_err());
        assert!(Frame::parse(b"{\"pods\":[").is_err());
    }

    #[test]
    fn the_other_end_may_know_more_or_fewer_metrics() {
        let of = |values| frame(values).unwrap().pods.remove(0);
        let older = of("1,0,0,0");
        assert_eq!(older.value(Metric::UnhealthyProbability), Some(0.0));
        assert_eq!(older.value(Metric::HttpRequestsInFlight), None);
        let newer = of(r#"1,0,0,0],"later":{"a":[1]},"more":[0.2,3,-77,null,5"#);
        assert_eq!(newer.value(Metric::HttpRequestsInFlight), Some(3.0));
        assert_eq!(of("").value(Metric::HttpRequestsPerSecond), None);
    }

    #[test]
    fn times_beyond_their_bounds_are_rejected() {
        let parse = |change: fn(&mut PodMetrics)| {
            let mut reading = reading();
            change(&mut reading);
            let frame = Frame { pods: vec![reading] };
            Frame::parse(&serde_json::to_vec(&frame).unwrap()).map_err(|error| error.to_string())
        };
        let longest =
            parse(|r| (r.age_ms, r.verdict_age_ms, r.window_ms) = (60_000, 60_000, 60_000));
        assert!(longest.is_ok());
        for (change, what) in [
            ((|r| r.age_ms = 60_001) as fn(&mut PodMetrics), "the age of pod a is 60001 ms"),
            (|r| r.verdict_age_ms = u64::MAX, "the verdict's age of pod a is 18446744073709551615"),
            (|r| r.window_ms = u64::MAX, "the window of pod a is 18446744073709551615 ms"),
        ] {
            let error = parse(change).unwrap_err();
            assert!(error.starts_with(what), "{error}");
        }
    }

    #[test]
    fn the_verdict_has_its_own_age() {
        let (load, verdict) = (Metric::Http5xxRatio, Metric::UnhealthyProbability);
        let reading = reading();
        assert_eq!(reading.age(load), Duration::from_millis(120));
        assert_eq!(reading.window(load), Duration::from_secs(10));
        assert_eq!(reading.age(verdict), Duration::from_millis(20));
        assert_eq!(reading.window(verdict), Duration::ZERO);
    }

    #[test]
    fn too_many_readings_are_rejected() {
        let reading = serde_json::to_string(&reading()).unwrap();
        let line = |n: usize| format!(r#"{{"pods":[{}]}}"#, vec![reading.as_str(); n].join(","));
        assert!(Frame::parse(line(MAX_READINGS).as_bytes()).is_ok());
        let more = Frame::parse(line(MAX_READINGS + 1).as_bytes());
        assert!(matches!(more, Err(FrameError::TooMany(1001))));
    }
}
