//! Time as Paramedic knows it: the node's boot clock, which no administrator can set back.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// An instant: nanoseconds since boot (`CLOCK_BOOTTIME`, which counts through suspend).
///
/// The core never reads a clock: it is handed a `Moment`. Comparable only within one boot; the
/// journal keeps the boot id beside it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// The present, for the edges of the program only.
    #[must_use]
    pub fn now() -> Self {
        // CLOCK_BOOTTIME exists on every kernel that runs eBPF; were it to fail, time stands
        // still and every gate that waits for time refuses: the safe side.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Self(0), |t| Self::from(Duration::from(t)))
    }

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
            Self::Boot => Moment::now(),
            Self::Tokio(since) => Moment::from(since.elapsed()),
        }
    }
}

impl From<Duration> for Moment {
    fn from(since_boot: Duration) -> Self {
        Self(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Seconds since 1970, UTC, by the node's clock: for people and the hour of the day only, since an
/// administrator may set it.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
