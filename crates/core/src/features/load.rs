//! [`Load`]: how much work a target does, for autoscaling.
//!
//! Rates here are divided by the observed time, unlike the model's columns. Otherwise a window that
//! restarted after a remedy would make a busy target look idle, and a healed workload would be
//! scaled down.
use std::time::Duration;

use crate::moment::Moment;

/// What a target did within one window. `None` is what the kernel did not tell: never a made-up
/// zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// The end of the window.
    pub at: Moment,
    /// Its length, from [`MIN`] to a little more than the window's span.
    pub window: Duration,
    /// HTTP responses per second, of all classes, the agent's own polls subtracted.
    pub responses_per_second: Option<f32>,
    /// The share of 5xx among them, 0–1; 0 where there were none.
    pub ratio_5xx: Option<f32>,
    /// The share of the CPU quota's periods in which the target was held back, 0–1; 0 without a
    /// quota.
    pub throttled_ratio: Option<f32>,
}

/// A shorter window says too little: one request in 100 ms is not ten a second.
pub const MIN: Duration = Duration::from_secs(2);
