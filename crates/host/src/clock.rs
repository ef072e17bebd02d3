//! The clocks of the machine. The core receives a [`Moment`] and reads no clock.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use paramedic_core::moment::Moment;

/// The present, by the node's boot clock.
#[must_use]
pub fn now() -> Moment {
    // CLOCK_BOOTTIME exists on every kernel that runs eBPF; were it to fail, time stands
    // still and every gate that waits for time refuses: the safe side.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(Moment::default(), |t| Moment::from(Duration::from(t)))
}

/// Where the edges of the program get the present from.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The node's boot clock.
    #[default]
    Boot,
    /// tokio's clock since an instant of its own, which tests pause and turn.
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// The present.
    #[must_use]
    pub fn now(self) -> Moment {
        match self {
            Self::Boot => now(),
            Self::Tokio(since) => Moment::from(since.elapsed()),
        }
    }
}

/// Seconds since 1970, UTC, by the node's clock: for people and the hour of the day only, since an
/// administrator may set it.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
