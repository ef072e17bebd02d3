//! The body of `/health`, and the rule for its `status`. Pure.
use std::time::Duration;

use serde::Serialize;

use crate::illness::Disguise;
use crate::vitals::{Vitals, percent};

/// The reported status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Healthy,
    Degraded,
    Critical,
}

/// The body of `/health`, without values that cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    pub(crate) status: Status,
    /// Percent of the limit, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_usage: Option<u8>,
    /// Percent of the limit, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_usage: Option<u8>,
    /// Errors since the last reset.
    pub(crate) error_count: u64,
    /// Seconds since the start.
    pub(crate) uptime: u64,
}

impl Health {
    /// The measured state.
    pub(crate) fn measured(vitals: &Vitals, error_count: u64, uptime: Duration) -> Self {
        let cpu_usage = vitals.cpu_ratio.map(percent);
        let memory_usage = vitals.memory_ratio().map(percent);
        Self {
            status: status(error_count, cpu_usage.unwrap_or(0), memory_usage.unwrap_or(0)),
            cpu_usage,
            memory_usage,
            error_count,
            uptime: uptime.as_secs(),
        }
    }

    /// An invented state, except for the uptime.
    pub(crate) const fn invented(disguise: Disguise, uptime: Duration) -> Self {
        let (status, percent, error_count) = match disguise {
            Disguise::Healthy => (Status::Healthy, 0, 0),
            Disguise::Critical => (Status::Critical, 97, 25),
        };
        let usage = Some(percent);
        let uptime = uptime.as_secs();
        Self { status, cpu_usage: usage, memory_usage: usage, error_count, uptime }
    }
}

/// Up to 5 errors healthy, up to 10 degraded, above critical; likewise CPU or memory at 80 %
/// degraded, both at 90 % critical. The worse counts.
const fn status(errors: u64, cpu: u8, memory: u8) -> Status {
    if errors > 10 || (cpu >= 90 && memory >= 90) {
        Status::Critical
    } else if errors > 5 || cpu >= 80 || memory >= 80 {
        Status::Degraded
    } else {
        Status::Healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_decide_at_five_and_ten() {
        let of = |errors| status(errors, 0, 0);
        assert_eq!([0, 5].map(of), [Status::Healthy; 2]);
        assert_eq!([6, 10].map(of), [Status::Degraded; 2]);
        assert_eq!([11, u64::MAX].map(of), [Status::Critical; 2]);
    }

    #[test]
    fn cpu_and_memory_decide_at_eighty_and_both_at_ninety() {
        let of = |(cpu, memory)| status(0, cpu, memory);
        assert_eq!([(79, 79), (0, 0)].map(of), [Status::Healthy; 2]);
        assert_eq!([(80, 0), (0, 80), (100, 89), (89, 100)].map(of), [Status::Degraded; 4]);
        assert_eq!([(90, 90), (100, 100)].map(of), [Status::Critical; 2]);
        assert_eq!(status(6, 90, 90), Status::Critical, "the worse counts");
    }

    #[test]
    fn what_is_not_measured_is_left_out() {
        let health = Health::measured(&Vitals::default(), 7, Duration::from_millis(2900));
        assert_eq!(
            serde_json::to_value(health).unwrap(),
            serde_json::json!({ "status": "degraded", "error_count": 7, "uptime": 2 })
        );
    }
}
