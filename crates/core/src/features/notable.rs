//! Symptoms that need no remedy: the reasons why a target is left alone.
//!
//! The forest says what to do and which columns weighed; it cannot say why resets are not the
//! target's fault. These sentences can. They explain a verdict and never change one.
use std::fmt;

use super::schema::{Feature, FeatureVector};

/// Facts that are not in the row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sight {
    /// 502, 503 and 504 responses per second, which the row excludes.
    pub unavailable_rate: f32,
    /// Whether a signal has stopped its main process.
    pub stopped: bool,
    /// Whether its main process waits in the kernel and takes no signal.
    pub stuck: bool,
    /// For how many seconds requests of clients have waited while none was answered.
    pub silent: f32,
    /// Whether the kernel saw the target answer other clients well.
    pub answers_well: bool,
    /// Whether the last poll got a response.
    pub answers_polls: bool,
}

/// A symptom that needs no remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Notable {
    /// A signal has stopped its main process.
    Stopped,
    /// Its main process waits in the kernel.
    Stuck,
    /// Requests wait, and none was answered since the oldest of them.
    Unanswered,
    /// Some requests get no response.
    SomeUnanswered,
    /// Throttled by its CPU quota.
    Throttled,
    /// Connections are reset, but its own responses are good.
    Resets,
    /// Connections are reset, and none of its responses was seen.
    ResetsAlone,
    /// It answers 502, 503 or 504.
    Unavailable,
    /// Its backends answer 5xx.
    UpstreamFails,
    /// Segments are lost in the network.
    Retransmits,
    /// Some of its responses are 5xx.
    SomeErrors,
    /// Its responses are slow.
    Slow,
    /// Polls fail.
    PollsFail,
}

impl Notable {
    /// The first symptom in the row, most significant first.
    #[must_use]
    pub fn first(row: &FeatureVector, sight: Sight) -> Option<Self> {
        const LOOK_FOR: [(Notable, Feature, f32); 8] = [
            (Notable::SomeUnanswered, Feature::UnansweredRatio, f32::MIN_POSITIVE),
            (Notable::Throttled, Feature::CpuThrottledRatio, 0.1),
            (Notable::UpstreamFails, Feature::Upstream5xxRate, 0.1),
            (Notable::Resets, Feature::TcpResetRate, 0.5),
            (Notable::SomeErrors, Feature::Http5xxRate, 0.1),
            (Notable::PollsFail, Feature::HealthFailures, 1.0),
            (Notable::Retransmits, Feature::TcpRetransmitRate, 1.0),
            (Notable::Slow, Feature::HealthLatency, 0.5),
        ];
        let first = LOOK_FOR.into_iter().find(|(_, f, least)| row[*f] >= *least);
        match first.map(|(notable, ..)| notable) {
            _ if sight.stopped => Some(Self::Stopped),
            _ if sight.stuck => Some(Self::Stuck),
            _ if sight.silent >= SILENT => Some(Self::Unanswered),
            Some(first @ (Self::SomeUnanswered | Self::Throttled | Self::UpstreamFails)) => {
                Some(first)
            }
            _ if sight.unavailable_rate >= UNAVAILABLE => Some(Self::Unavailable),
            Some(Self::Resets) if !sight.answers_well => Some(Self::ResetsAlone),
            Some(Self::PollsFail) if sight.answers_polls => Some(Self::Slow),
            // Without a response, the latency is only the time waited.
            Some(Self::Slow) if !sight.answers_polls => None,
            other => other,
        }
    }

    /// The value that shows it, with its name.
    #[must_use]
    pub fn shown(self, row: &FeatureVector, sight: Sight) -> (&'static str, f32) {
        let feature = match self {
            Self::Throttled => Feature::CpuThrottledRatio,
            Self::Resets | Self::ResetsAlone => Feature::TcpResetRate,
            Self::UpstreamFails => Feature::Upstream5xxRate,
            Self::Retransmits => Feature::TcpRetransmitRate,
            Self::SomeErrors => Feature::Http5xxRate,
            Self::Slow => Feature::HealthLatency,
            Self::PollsFail => Feature::HealthFailures,
            Self::SomeUnanswered => Feature::UnansweredRatio,
            Self::Unavailable => return ("http_unavailable_rate", sight.unavailable_rate),
            Self::Stopped => return ("process_stopped", 1.0),
            Self::Stuck => return ("process_uninterruptible", 1.0),
            Self::Unanswered => return ("oldest_request_seconds", sight.silent),
        };
        (feature.name(), row[feature])
    }
}

/// A request that has waited for so many seconds, while no other was answered, is reported.
const SILENT: f32 = 4.0;
/// Rate of 502, 503 and 504 from which they are reported, per second.
const UNAVAILABLE: f32 = 0.1;

impl fmt::Display for Notable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => {
                "a signal has stopped its main process (SIGSTOP): it serves nothing until SIGCONT"
            }
            Self::Stuck => {
                "its main process waits for a disk or a network file system and takes no signal: no \
                 restart can end that"
            }
            Self::Unanswered => "requests wait, and it has answered none since the oldest of them",
            Self::SomeUnanswered => "a share of the requests gets no response",
            Self::Throttled => "its CPU quota throttles it: it needs more CPU, not a restart",
            Self::Resets => {
                "connections are reset, but its own responses are good: the cause is elsewhere"
            }
            Self::ResetsAlone => "connections are reset; the kernel saw none of its responses",
            Self::Unavailable => {
                "it answers 502, 503 or 504: a backend fails, or it does not serve now"
            }
            Self::UpstreamFails => "its backends fail: no remedy for this target can repair them",
            Self::Retransmits => {
                "segments are retransmitted: the cause is the network, not the target"
            }
            Self::SomeErrors => "some responses are 5xx, too few for a remedy",
            Self::Slow => "its last response was slow",
            Self::PollsFail => "its health check fails, but not often enough yet",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_called_external_only_if_good_responses_were_seen() {
        let mut row = FeatureVector::default();
        row[Feature::TcpResetRate] = 3.0;
        let sight = |answers_well| Sight { answers_well, ..Sight::default() };
        assert_eq!(Notable::first(&row, sight(true)), Some(Notable::Resets));
        assert_eq!(Notable::first(&row, sight(false)), Some(Notable::ResetsAlone));
        assert!(!Notable::ResetsAlone.to_string().contains("well"));
    }

    #[test]
    fn a_missing_response_is_not_called_slow() {
        let mut row = FeatureVector::default();
        row[Feature::HealthLatency] = 1.0;
        let sight = |answers_polls| Sight { answers_polls, ..Sight::default() };
        assert_eq!(Notable::first(&row, sight(true)), Some(Notable::Slow));
        assert_eq!(Notable::first(&row, sight(false)), None);
    }

    #[test]
    fn a_rate_outside_the_row_is_reported() {
        let sight = Sight { unavailable_rate: 4.0, ..Sight::default() };
        let row = FeatureVector::default();
        let notable = Notable::first(&row, sight).unwrap();
        assert_eq!(notable.shown(&row, sight), ("http_unavailable_rate", 4.0));
        assert_eq!(Notable::first(&row, Sight::default()), None);
    }
}
