//! The values for autoscaling: a few numbers for each watched pod, once a second.
//!
//! The agent measures them anyway. It serves them on a separate port to one client, the metrics
//! API, which answers the HPA with them. This crate neither judges nor averages: the owner of the
//! HPA decides what a number means for scaling.
//!
//! Without the feature `server` (the agent's side) the crate has only the types of the wire format.
#[cfg(feature = "server")]
mod feed;
#[cfg(feature = "server")]
mod port;
mod pod_metrics;

use std::time::Duration;

#[cfg(feature = "server")]
pub use feed::Feed;
pub use pod_metrics::{Frame, FrameError, Hello, MAX_READINGS, PodMetrics};
#[cfg(feature = "server")]
pub use port::{Credentials, Port};
use serde::Serialize;

/// A metric for the HPA, with one value per pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Metric {
    /// HTTP responses per second that the kernel saw the pod send, without those to the agent's
    /// own polls.
    HttpRequestsPerSecond = 0,
    /// The share of 5xx among them, 0–1; 0 without responses.
    Http5xxRatio = 1,
    /// The share of its CPU quota's periods in which it was throttled, 0–1; 0 without a quota.
    CpuThrottledRatio = 2,
    /// 1 minus the calibrated probability of `no_action`, 0–1.
    UnhealthyProbability = 3,
    /// Seconds within which 95 % of its responses came. Without responses, how long the oldest
    /// request waits; 0 if none does.
    HttpRequestDurationP95Seconds = 4,
    /// Requests that have no response yet.
    HttpRequestsInFlight = 5,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 6] = [
        Self::HttpRequestsPerSecond,
        Self::Http5xxRatio,
        Self::CpuThrottledRatio,
        Self::UnhealthyProbability,
        Self::HttpRequestDurationP95Seconds,
        Self::HttpRequestsInFlight,
    ];

    /// The metric's name in paths and in an HPA.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HttpRequestsPerSecond => "http_requests_per_second",
            Self::Http5xxRatio => "http_5xx_ratio",
            Self::CpuThrottledRatio => "cpu_throttled_ratio",
            Self::UnhealthyProbability => "unhealthy_probability",
            Self::HttpRequestDurationP95Seconds => "http_request_duration_p95_seconds",
            Self::HttpRequestsInFlight => "http_requests_in_flight",
        }
    }

    /// The metric of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The largest plausible value.
    const fn most(self) -> f32 {
        match self {
            // No pod sends a billion responses per second, or waits for 30 years.
            Self::HttpRequestsPerSecond
            | Self::HttpRequestDurationP95Seconds
            | Self::HttpRequestsInFlight => 1e9,
            Self::Http5xxRatio | Self::CpuThrottledRatio | Self::UnhealthyProbability => 1.0,
        }
    }
}

/// The metric of workloads: the most requests per second that the metrics API expects soon.
pub const FORECAST: &str = "http_requests_per_second_forecast";

/// The label that makes a pod a target; its value is the ceiling of its remedies.
pub const HEAL_LABEL: &str = "paramedic.dev/heal";
/// The audience of the agents' tokens. A token for another audience is refused.
pub const AUDIENCE: &str = "paramedic-metrics-api";
/// The name in the metrics API's client certificate.
pub const CLIENT_NAME: &str = "paramedic-metrics-api";
/// The path of the stream.
pub const PATH: &str = "/v1/readings";

/// Maximum age of a value. Samples come every 2 s, at 500 pods every 2.5 s.
pub const FRESH: Duration = Duration::from_secs(10);

/// Maximum age of a value while its pod is being healed: a restart in place takes a second, with
/// the kubelet's first back-off half a minute.
pub const HELD: Duration = Duration::from_secs(60);
