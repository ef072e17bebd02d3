//! What goes over the wire: lines of JSON, one [`Hello`], then a [`Frame`] every second.
//!
//! Both ends check: an agent sends only what it measured, and the metrics API believes nothing that
//! makes no sense.
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Metric;
use crate::{
    decide::Action,
    engine::{Case, State},
    moment::Moment,
};

/// More readings than this no agent sends: it watches at most 500 pods.
pub const MOST_READINGS: usize = 1000;
/// A measurement that is older than this is left out. Looks come every 2 s, at 500 pods every 2.5.
const FRESH: Duration = Duration::from_secs(10);
/// That of a pod that is being healed stays for this long: a restart in place takes a second, with
/// the kubelet's first back-off half a minute.
const HELD: Duration = Duration::from_secs(60);

/// The first line: who speaks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's service account token, for [`AUDIENCE`](super::AUDIENCE) only.
    pub token: String,
}

/// Every further line: all pods that this agent has measured. Who is not in it has no values now.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// In no order.
    pub pods: Vec<Reading>,
}

/// The values of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The pod's uid.
    pub uid: String,
    /// How long ago the window ended, in milliseconds: an age needs no common clock.
    pub age_ms: u64,
    /// Length of the window, in milliseconds.
    pub window_ms: u64,
    /// In the order of [`Metric::ALL`]; `null` where the kernel does not tell.
    pub values: [Option<f32>; Metric::ALL.len()],
}

/// A frame that is not believed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not the expected JSON.
    #[error("it is no frame: {0}")]
    Malformed(#[from] serde_json::Error),
    /// More pods than an agent watches.
    #[error("it has {0} readings, and an agent watches {MOST_READINGS} pods at the most")]
    TooMany(usize),
    /// A number that cannot be.
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
    /// Reads a line.
    ///
    /// # Errors
    /// If anything about it makes no sense; none of it is believed then.
    pub fn parse(line: &[u8]) -> Result<Self, FrameError> {
        let frame: Self = serde_json::from_slice(line)?;
        if frame.pods.len() > MOST_READINGS {
            return Err(FrameError::TooMany(frame.pods.len()));
        }
        for reading in &frame.pods {
            for (metric, value) in Metric::ALL.into_iter().zip(reading.values) {
                let Some(value) = value else { continue };
                // Written so that NaN, which JSON cannot say but a later reader might, fails too.
                if !(0.0..=metric.most()).contains(&value) {
                    let (metric, uid) = (metric.name(), reading.uid.clone());
                    return Err(FrameError::Impossible { metric, uid, value });
                }
            }
        }
        Ok(frame)
    }
}

impl Reading {
    /// What is known of a case now; `None` if it is no pod, or nothing recent is known.
    #[must_use]
    pub fn of(case: &Case, now: Moment) -> Option<Self> {
        let (pod, load) = (case.target.pod.as_ref()?, case.load?);
        let decision = case.decision?;
        let age = now.since(load.at);
        // A pod that is being healed keeps its metric: to go missing would look like idleness.
        let limit = if matches!(case.state, State::Watching) { FRESH } else { HELD };
        if age > limit {
            return None;
        }
        let well = decision.probabilities[Action::NoAction as usize];
        Some(Self {
            uid: pod.uid.clone(),
            age_ms: millis(age),
            window_ms: millis(load.window),
            values: [
                load.responses_per_second,
                load.ratio_5xx,
                load.throttled_ratio,
                Some((1.0 - well).clamp(0.0, 1.0)),
            ],
        })
    }

    /// The value of a metric, if it is known.
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
            r#"{{"pods":[{{"uid":"a","age_ms":1,"window_ms":10000,"values":[{values}]}}]}}"#
        );
        Frame::parse(line.as_bytes())
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let reading = Reading {
            uid: "a".to_owned(),
            age_ms: 120,
            window_ms: 10_000,
            values: [Some(12.5), Some(0.25), None, Some(0.01)],
        };
        let sent = Frame { pods: vec![reading] };
        let line = serde_json::to_vec(&sent).unwrap();
        assert_eq!(Frame::parse(&line).unwrap(), sent);
        assert_eq!(sent.pods[0].value(Metric::Http5xxRatio), Some(0.25));
        assert_eq!(sent.pods[0].value(Metric::CpuThrottledRatio), None);
    }

    #[test]
    fn nothing_that_makes_no_sense_is_believed() {
        assert!(frame("1,0,0,0").is_ok());
        for values in ["-1,0,0,0", "1e12,0,0,0", "1,1.5,0,0", "1,0,0,-0.1", "1e999,0,0,0"] {
            assert!(frame(values).is_err(), "{values}");
        }
        for values in ["1,0,0", "1,0,0,0,0", "\"1\",0,0,0", ""] {
            assert!(matches!(frame(values), Err(FrameError::Malformed(_))), "{values}");
        }
        assert!(Frame::parse(b"[]").is_err());
        assert!(Frame::parse(b"{\"pods\":[").is_err());
    }

    #[test]
    fn no_agent_watches_so_many() {
        let reading = r#"{"uid":"a","age_ms":1,"window_ms":1,"values":[null,null,null,null]}"#;
        let line = |n: usize| format!(r#"{{"pods":[{}]}}"#, vec![reading; n].join(","));
        assert!(Frame::parse(line(MOST_READINGS).as_bytes()).is_ok());
        let more = Frame::parse(line(MOST_READINGS + 1).as_bytes());
        assert!(matches!(more, Err(FrameError::TooMany(1001))));
    }
}
