//! The clocks of the machine. The core receives a [`BootTime`] and reads no clock.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use paramedic_core::boot_time::BootTime;

/// The present time on the node's boot clock.
#[must_use]
pub fn now() -> BootTime {
    // CLOCK_BOOTTIME exists on every kernel that runs eBPF. If it failed, time would stand still
    // and every gate that waits for time would refuse, which is safe.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(BootTime::default(), |t| BootTime::from(Duration::from(t)))
}

/// The source of the present time at the edges of the program.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The node's boot clock.
    #[default]
    Boot,
    /// tokio's clock since an instant of its own, which tests can pause and advance.
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// The present time.
    #[must_use]
    pub fn now(self) -> BootTime {
        match self {
            Self::Boot => now(),
            Self::Tokio(since) => BootTime::from(since.elapsed()),
        }
    }
}

/// Seconds since 1970, UTC, on the node's clock: only for display and for the hour of the day,
/// because an administrator may set it.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The same, as time stamps are stored.
#[must_use]
pub fn wall_time() -> i64 {
    i64::try_from(unix_seconds()).unwrap_or(i64::MAX)
}
