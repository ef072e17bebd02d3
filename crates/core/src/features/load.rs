//! [`Load`]: how much work a target does, for autoscaling.
//!
//! Rates here are divided by the observed time, unlike the model's columns. Otherwise a window that
//! restarted after a remedy would make a busy target look idle, and a healed workload would be
//! scaled down.
use std::time::Duration;

use crate::boot_time::BootTime;

/// The work of a target within one window. `None` means that the kernel did not measure it; it is
/// never replaced by zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// The end of the window.
    pub at: BootTime,
    /// Its length, from [`MIN`] to a little more than the window's span.
    pub window: Duration,
    /// HTTP responses per second, of all classes, without those to the agent's own polls.
    pub responses_per_second: Option<f32>,
    /// The share of 5xx among them, 0–1; 0 without responses.
    pub ratio_5xx: Option<f32>,
    /// The share of the CPU quota's periods in which the target was throttled, 0–1; 0 without a
    /// quota.
    pub throttled_ratio: Option<f32>,
    /// Seconds within which 95 % of the responses of the last 10 to 20 s came, those to the agent's
    /// own polls among them. Without responses, how long the oldest request waits; 0 if none does.
    pub p95_seconds: Option<f32>,
    /// Requests that had no response at the end of the window.
    pub in_flight: Option<f32>,
}

/// Minimum length of a window: one request in 100 ms is not ten a second.
pub const MIN: Duration = Duration::from_secs(2);
