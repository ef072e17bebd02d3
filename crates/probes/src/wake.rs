//! Wake-ups: one record per armed target, on its first bad event since the last sample.
use std::{io, os::fd::AsRawFd};

use agent_common::{Wakeup, cause};
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use paramedic_core::boot_time::BootTime;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
};

use super::{Kernel, Slot};

/// The event that woke the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It sent an HTTP 5xx other than 502, 503 and 504.
    Http5xx,
    /// It sent or received a TCP reset.
    Reset,
    /// Its CPU quota was used up.
    Throttled,
    /// The OOM killer chose one of its processes.
    OomKill,
}

impl Cause {
    /// The cause's name, as in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http5xx => "http_5xx",
            Self::Reset => "reset",
            Self::Throttled => "throttled",
            Self::OomKill => "oom_kill",
        }
    }

    const fn from_record(cause: u32) -> Option<Self> {
        Some(match cause {
            cause::HTTP_5XX => Self::Http5xx,
            cause::RESET => Self::Reset,
            cause::THROTTLED => Self::Throttled,
            cause::OOM_KILL => Self::OomKill,
            _ => return None,
        })
    }
}

/// The first bad event of an armed target since the last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Its slot. It may have been freed meanwhile, and then equals no slot in use.
    pub slot: Slot,
    /// The event.
    pub cause: Cause,
    /// Time of the event.
    pub at: BootTime,
}

/// The receiver of the wake-ups, separate from [`Kernel`] so that a loop can wait for one while it
/// uses the other.
pub struct Wakeups {
    ring: AsyncFd<Ring>,
    log: Option<EbpfLogger<TracingLog>>,
}

impl Kernel {
    /// The receiver of the wake-ups, the first time; `None` after that.
    ///
    /// # Errors
    /// Outside a tokio runtime, or the runtime refuses to wait for the ring.
    pub fn wakeups(&mut self) -> io::Result<Option<Wakeups>> {
        // tokio would panic.
        Handle::try_current().map_err(io::Error::other)?;
        let Some((ring, log)) = self.rings.take() else { return Ok(None) };
        // SAFETY: the ring owns its descriptor, which stays open and the same until it is dropped,
        // and `AsyncFd` drops its registration first.
        let ring = unsafe { AsyncFd::register_with_interest(Ring(ring), Interest::READABLE) };
        let ring = ring.map_err(io::Error::from)?;
        Ok(Some(Wakeups { ring, log }))
    }
}

impl Wakeups {
    /// Waits for the next wake-up. Cancel-safe: none is lost.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn next(&mut self) -> io::Result<Wake> {
        loop {
            if let Some(wake) = self.ring.get_mut().pop() {
                return Ok(wake);
            }
            let mut ready = self.ring.readable_mut().await?;
            if let Some(wake) = ready.get_inner_mut().pop() {
                return Ok(wake);
            }
            // Empty: the next record makes it readable again.
            ready.clear_ready();
            if let Some(log) = &mut self.log {
                log.flush();
            }
        }
    }
}

struct Ring(RingBuf<MapData>);

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Ring {
    /// The next valid record, if there is one.
    fn pop(&mut self) -> Option<Wake> {
        while let Some(record) = self.0.next() {
            if let Some(wake) = parse(&record) {
                return Some(wake);
            }
        }
        None
    }
}

fn parse(record: &[u8]) -> Option<Wake> {
    if record.len() != size_of::<Wakeup>() {
        return None;
    }
    let at = u64::from_ne_bytes(*record.first_chunk()?);
    let word = |at: usize| record.get(at..)?.first_chunk().map(|w| u32::from_ne_bytes(*w));
    Some(Wake {
        slot: Slot { index: word(8)?, generation: word(12)? },
        cause: Cause::from_record(word(16)?)?,
        at: BootTime::from_nanos(at),
    })
}

/// Forwards log messages of the programs (rare events only) to tracing.
#[derive(Debug)]
pub(super) struct TracingLog;

impl Log for TracingLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args();
        match record.level() {
            Level::Error | Level::Warn => tracing::warn!(%message, "message of the eBPF programs"),
            Level::Info | Level::Debug | Level::Trace => {
                tracing::debug!(%message, "message of the eBPF programs");
            }
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cause: u32) -> Vec<u8> {
        let mut bytes = 5u64.to_ne_bytes().to_vec();
        for word in [7, 3, cause, 0] {
            bytes.extend_from_slice(&u32::to_ne_bytes(word));
        }
        bytes
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let slot = Slot { index: 7, generation: 3 };
        let expected = Wake { slot, cause: Cause::Reset, at: BootTime::from_nanos(5) };
        assert_eq!(parse(&record(cause::RESET)), Some(expected));
    }

    #[test]
    fn invalid_records_are_dropped() {
        assert_eq!(parse(&record(99)), None);
        assert_eq!(parse(&record(cause::RESET)[..23]), None);
        assert_eq!(parse(&[]), None);
    }
}
