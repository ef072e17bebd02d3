//! Clocks. Instants are nanoseconds since boot (`CLOCK_BOOTTIME`), the clock that Paramedic and the
//! kernel's records use too, so that times of faults here and remedies there can be subtracted.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot.
pub(crate) fn boot_nanos() -> u64 {
    read(ClockId::CLOCK_BOOTTIME).map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}

/// CPU time that this process has used so far, all threads.
pub(crate) fn process_cpu() -> Option<Duration> {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time that this thread has used so far.
pub(crate) fn thread_cpu() -> Option<Duration> {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Milliseconds since 1970, for display and logs only.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn read(clock: ClockId) -> Option<Duration> {
    clock_gettime(clock).ok().map(Duration::from)
}
