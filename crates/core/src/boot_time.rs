//! Time in Paramedic: the node's boot clock, which no administrator can set back.
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant: nanoseconds since boot (`CLOCK_BOOTTIME`, which counts through suspend).
///
/// The core never reads a clock: its callers pass a `BootTime`. Boot times are comparable only within
/// one boot; the journal stores the boot id with them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootTime(u64);

impl BootTime {
    /// The instant `nanoseconds` after boot.
    #[must_use]
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for BootTime {
    fn from(since_boot: Duration) -> Self {
        Self(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}
