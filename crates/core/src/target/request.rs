//! Requests to people: the owner of a target may want to be asked before a hard remedy.
//!
//! A [`Request`] names one remedy, for one instance, in one incident. Its text is the same for the
//! person who approves it and for the agent that waits, and no later request has it.
use std::fmt;

use super::Remedy;
use crate::boot_time::BootTime;

/// A request for approval: `restart-1a2b3c`, the remedy and the millisecond of the node's boot clock,
/// in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The remedy.
    pub remedy: Remedy,
    at_ms: u64,
}

impl Request {
    /// A request for this remedy at this moment.
    #[must_use]
    pub fn new(remedy: Remedy, now: BootTime) -> Self {
        Self { remedy, at_ms: now.as_nanos() / 1_000_000 }
    }

    /// Reads its text.
    ///
    /// # Errors
    /// [`NotARequest`] if it is not the text of one.
    pub fn read(text: &str) -> Result<Self, NotARequest> {
        let read = || {
            let (remedy, at) = text.trim_end().split_once('-')?;
            let remedy = Remedy::from_name(remedy).filter(|remedy| remedy.is_hard())?;
            let is_hex = at.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            let at_ms = u64::from_str_radix(at, 16).ok().filter(|_| is_hex)?;
            Some(Self { remedy, at_ms })
        };
        read().ok_or(NotARequest)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.remedy.name(), self.at_ms)
    }
}

/// A text is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::WHY)]
pub struct NotARequest;

impl NotARequest {
    /// The reason.
    pub const WHY: &'static str = "not a request of the agent, such as restart-1a2b3c";
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_written() {
        for remedy in [Remedy::Restart, Remedy::Evict] {
            let request = Request::new(remedy, BootTime::from_nanos(1_234_567_891_234));
            assert_eq!(Request::read(&request.to_string()), Ok(request));
        }
        let request =
            Request::new(Remedy::Restart, BootTime::from(Duration::from_millis(0x1a2b3c)));
        assert_eq!(request.to_string(), "restart-1a2b3c");
        assert_eq!(Request::read("restart-1a2b3c\n"), Ok(request), "a line of a file");
        for text in [
            "",
            "restart",
            "restart-",
            "restart-1A",
            "restart--1",
            "restart-+1",
            "soft-1a",
            "observe-1a",
            "restart-11111111111111111",
            " restart-1a",
            "restart 1a",
            "true",
        ] {
            assert_eq!(Request::read(text), Err(NotARequest), "{text:?}");
        }
    }
}
