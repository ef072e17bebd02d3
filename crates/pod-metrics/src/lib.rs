//! What autoscalers are told: four numbers for each watched pod, once a second.
//!
//! The agent measures them anyway, and serves them on a port of its own to the one client that
//! proves to be Paramedic's metrics API, which answers the HPA with them. Nothing here is judged or
//! averaged: what a number is worth for scaling is for the owner of the HPA to say.
//!
//! The types that cross the wire are all there is without the feature `server`, the agent's side.
#[cfg(feature = "server")]
mod feed;
#[cfg(feature = "server")]
mod port;
mod reading;

use std::time::Duration;

#[cfg(feature = "server")]
pub use feed::Feed;
#[cfg(feature = "server")]
pub use port::{Credentials, Port};
pub use reading::{Frame, FrameError, Hello, MAX_READINGS, Reading};
use serde::Serialize;

/// A metric that the HPA can be given, always one value per pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Metric {
    /// HTTP/1.x responses per second that the kernel saw the pod send, the agent's own polls
    /// subtracted.
    HttpRequestsPerSecond = 0,
    /// The share of 5xx among them, 0–1; 0 where there were none.
    Http5xxRatio = 1,
    /// The share of its CPU quota's periods in which it was held back, 0–1; 0 without a quota.
    CpuThrottledRatio = 2,
    /// One less the calibrated probability of `no_action`, 0–1.
    UnhealthyProbability = 3,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 4] = [
        Self::HttpRequestsPerSecond,
        Self::Http5xxRatio,
        Self::CpuThrottledRatio,
        Self::UnhealthyProbability,
    ];

    /// The metric's name in paths and in an HPA.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HttpRequestsPerSecond => "http_requests_per_second",
            Self::Http5xxRatio => "http_5xx_ratio",
            Self::CpuThrottledRatio => "cpu_throttled_ratio",
            Self::UnhealthyProbability => "unhealthy_probability",
        }
    }

    /// The metric of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The largest value that makes sense.
    const fn most(self) -> f32 {
        match self {
            // No pod answers a billion times a second.
            Self::HttpRequestsPerSecond => 1e9,
            Self::Http5xxRatio | Self::CpuThrottledRatio | Self::UnhealthyProbability => 1.0,
        }
    }
}

/// The label that a pod is watched for; its value is the ceiling of its remedies.
pub const HEAL_LABEL: &str = "paramedic.dev/heal";
/// Whom the agents' tokens are for: a token for anybody else is refused.
pub const AUDIENCE: &str = "paramedic-metrics-api";
/// The name that the metrics API's certificate carries towards agents.
pub const CLIENT_NAME: &str = "paramedic-metrics-api";
/// The path of the stream.
pub const PATH: &str = "/v1/readings";

/// What is older than this no longer says anything. Looks come every 2 s, at 500 pods every 2.5.
pub const FRESH: Duration = Duration::from_secs(10);

/// That of a pod that is being healed stays for this long: a restart in place takes a second,
/// with the kubelet's first back-off half a minute.
pub const HELD: Duration = Duration::from_secs(60);
