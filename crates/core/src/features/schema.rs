//! The feature schema: the contract between what the agent measures and what a model was trained
//! on. The order is part of it. A model whose metadata has other names is refused.
use std::ops::{Index, IndexMut};

use serde::{Serialize, Serializer, ser::SerializeMap};

/// Version of the schema; a model trained on another one is refused. Version 1 ended with
/// `upstream_5xx_rate`.
pub const SCHEMA_VERSION: u32 = 2;

/// Number of columns.
pub const COUNT: usize = 19;

/// Column names, in the order in which a model receives them.
pub const FEATURES: [&str; COUNT] = [
    "cpu_usage",
    "memory_usage",
    "error_count",
    "uptime",
    "hour_of_day",
    "http_5xx_rate",
    "http_5xx_ratio",
    "http_request_rate",
    "tcp_reset_rate",
    "tcp_retransmit_rate",
    "cpu_throttled_ratio",
    "health_failures",
    "health_latency",
    "upstream_5xx_rate",
    "unanswered_ratio",
    "response_time",
    "upstream_waiting_ratio",
    "upstream_refused_rate",
    "cpu_pressure",
];

/// One column of the schema. Units: see each variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Feature {
    /// Percent of the limit, 0–100; from `/health`, else from the cgroup.
    CpuUsage,
    /// Percent of the limit, 0–100; from `/health`, else from the cgroup.
    MemoryUsage,
    /// Errors: the rise of the count in `/health` within the last minute, else own 5xx (not 502,
    /// 503, 504) that the kernel saw in the window.
    ErrorCount,
    /// Seconds since the start.
    Uptime,
    /// 0–23, UTC.
    HourOfDay,
    /// 5xx responses per second, without 502, 503 and 504.
    Http5xxRate,
    /// Their share among all responses in the window, 0–1, without those to the agent's own polls.
    Http5xxRatio,
    /// Responses of all classes per second, without those to the agent's own polls.
    HttpRequestRate,
    /// TCP resets per second, sent and received.
    TcpResetRate,
    /// TCP segments retransmitted per second.
    TcpRetransmitRate,
    /// Share of throttled bandwidth periods in the window, 0–1.
    CpuThrottledRatio,
    /// Consecutive polls of `/health` without a response within a second (of an instance that gave
    /// one before), or in which the app reports that it is sick.
    HealthFailures,
    /// Seconds that the last poll of `/health` took.
    HealthLatency,
    /// 5xx responses received as a client, per second.
    Upstream5xxRate,
    /// The share of recent requests of clients that got no response, 0–1, while clients are left
    /// unanswered by the service's own measure (see [`Clients`](super::Clients)); else 0.
    UnansweredRatio,
    /// Seconds within which 95 % of the recent responses came; 0 without responses.
    ResponseTime,
    /// The share of its requests as a client that have waited for a response for some seconds, 0–1.
    UpstreamWaitingRatio,
    /// Its failed connects as a client, per second.
    UpstreamRefusedRate,
    /// The share of the last 10 s in which a task of its cgroup waited for a CPU, 0–1; 0 if the
    /// kernel does not report it (cgroup v1).
    CpuPressure,
}

impl Feature {
    /// All columns, in order.
    pub const ALL: [Self; COUNT] = [
        Self::CpuUsage,
        Self::MemoryUsage,
        Self::ErrorCount,
        Self::Uptime,
        Self::HourOfDay,
        Self::Http5xxRate,
        Self::Http5xxRatio,
        Self::HttpRequestRate,
        Self::TcpResetRate,
        Self::TcpRetransmitRate,
        Self::CpuThrottledRatio,
        Self::HealthFailures,
        Self::HealthLatency,
        Self::Upstream5xxRate,
        Self::UnansweredRatio,
        Self::ResponseTime,
        Self::UpstreamWaitingRatio,
        Self::UpstreamRefusedRate,
        Self::CpuPressure,
    ];

    /// The column's name in the schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        FEATURES[self as usize]
    }

    /// Whether the column counts the target's HTTP responses as the kernel sees them.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http5xxRate | Self::Http5xxRatio | Self::HttpRequestRate)
    }

    /// Whether a healthy service has such a value, or the column only shows how busy or old it is:
    /// it is then never a reason to act.
    #[must_use]
    pub fn is_neutral(self, value: f32) -> bool {
        match self {
            Self::Uptime | Self::HourOfDay | Self::HttpRequestRate => true,
            Self::CpuUsage | Self::MemoryUsage => value < 50.0,
            Self::HealthLatency | Self::ResponseTime => value < 0.25,
            Self::CpuPressure => value < 0.2,
            Self::ErrorCount
            | Self::Http5xxRate
            | Self::Http5xxRatio
            | Self::TcpResetRate
            | Self::TcpRetransmitRate
            | Self::CpuThrottledRatio
            | Self::HealthFailures
            | Self::Upstream5xxRate
            | Self::UnansweredRatio
            | Self::UpstreamWaitingRatio
            | Self::UpstreamRefusedRate => value <= 0.0,
        }
    }

    /// Whether the source of the column is the kernel, and not the app or the poll.
    #[must_use]
    pub const fn is_kernel(self) -> bool {
        matches!(
            self,
            Self::Http5xxRate
                | Self::Http5xxRatio
                | Self::HttpRequestRate
                | Self::TcpResetRate
                | Self::TcpRetransmitRate
                | Self::CpuThrottledRatio
                | Self::Upstream5xxRate
                | Self::UnansweredRatio
                | Self::ResponseTime
                | Self::UpstreamWaitingRatio
                | Self::UpstreamRefusedRate
                | Self::CpuPressure
        )
    }
}

/// One row for the model: a value per column of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeatureVector([f32; COUNT]);

impl FeatureVector {
    /// A row from values in the order of [`FEATURES`].
    #[must_use]
    pub const fn new(values: [f32; COUNT]) -> Self {
        Self(values)
    }

    /// The values in the order of [`FEATURES`].
    #[must_use]
    pub const fn values(&self) -> &[f32; COUNT] {
        &self.0
    }

    /// Whether every value is a number. A model must never see any other row: a NaN takes the false
    /// branch of every comparison and yields a confident answer.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.0.iter().all(|v| v.is_finite())
    }
}

impl Index<Feature> for FeatureVector {
    type Output = f32;

    fn index(&self, feature: Feature) -> &f32 {
        &self.0[feature as usize]
    }
}

impl IndexMut<Feature> for FeatureVector {
    fn index_mut(&mut self, feature: Feature) -> &mut f32 {
        &mut self.0[feature as usize]
    }
}

impl Serialize for FeatureVector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COUNT))?;
        for (name, value) in FEATURES.iter().zip(&self.0) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_the_order_of_their_names() {
        for (i, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(feature as usize, i);
        }
        assert_eq!(Feature::CpuUsage.name(), "cpu_usage");
        assert_eq!(Feature::CpuPressure.name(), "cpu_pressure");
    }
}
