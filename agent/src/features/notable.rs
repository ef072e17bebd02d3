//! What stands out in a row that calls for nothing: the reasons for leaving a target alone.
//!
//! The forest says what to do and which columns weighed; it cannot say why resets are nobody's
//! illness. These sentences can. They explain a verdict and never make one.
use std::fmt;

use super::schema::{Feature, FeatureVector};

/// Something that looks bad and yet calls for no heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Notable {
    /// Throttled by its CPU quota.
    Throttled,
    /// Connections are reset.
    Resets,
    /// What it calls answers with 5xx.
    UpstreamFails,
    /// Segments are lost on the way.
    Retransmits,
    /// Some of its responses are 5xx.
    SomeErrors,
    /// Slow to answer.
    Slow,
    /// Polls fail.
    PollsFail,
}

impl Notable {
    /// The first thing that stands out, most telling first.
    #[must_use]
    pub fn first(row: &FeatureVector) -> Option<Self> {
        const LOOK_FOR: [(Notable, Feature, f32); 7] = [
            (Notable::Throttled, Feature::CpuThrottledRatio, 0.1),
            (Notable::UpstreamFails, Feature::Upstream5xxRate, 0.1),
            (Notable::Resets, Feature::TcpResetRate, 0.5),
            (Notable::SomeErrors, Feature::Http5xxRate, 0.1),
            (Notable::PollsFail, Feature::HealthFailures, 1.0),
            (Notable::Retransmits, Feature::TcpRetransmitRate, 1.0),
            (Notable::Slow, Feature::HealthLatency, 0.5),
        ];
        LOOK_FOR.into_iter().find(|(_, f, least)| row[*f] >= *least).map(|(notable, ..)| notable)
    }

    /// The column that shows it.
    #[must_use]
    pub const fn feature(self) -> Feature {
        match self {
            Self::Throttled => Feature::CpuThrottledRatio,
            Self::Resets => Feature::TcpResetRate,
            Self::UpstreamFails => Feature::Upstream5xxRate,
            Self::Retransmits => Feature::TcpRetransmitRate,
            Self::SomeErrors => Feature::Http5xxRate,
            Self::Slow => Feature::HealthLatency,
            Self::PollsFail => Feature::HealthFailures,
        }
    }
}

impl fmt::Display for Notable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throttled => "its CPU quota throttles it: it needs more CPU, not a restart",
            Self::Resets => {
                "connections are reset, but its own responses are well: not its illness"
            }
            Self::UpstreamFails => "what it calls fails: no heal of this target can clear that",
            Self::Retransmits => "segments are retransmitted: the network's illness, not its own",
            Self::SomeErrors => "some responses are 5xx, too few to call for a heal",
            Self::Slow => "slow to answer, but it answers",
            Self::PollsFail => "polls of /health fail, not often enough yet",
        })
    }
}
