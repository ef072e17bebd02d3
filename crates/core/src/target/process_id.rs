//! One process, by pid and start time: a pid alone is reused.
use std::{fmt, str::FromStr};

/// Identity of a process: written `pid@start`, the start in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The process id in the agent's PID namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_time: u64,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start_time)
    }
}

/// The text is not of the form `pid@start`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not name a process: expected pid@start, such as 4242@1234567")]
pub struct NotAProcessId(String);

impl FromStr for ProcessId {
    type Err = NotAProcessId;

    fn from_str(text: &str) -> Result<Self, NotAProcessId> {
        let parse = || {
            let (pid, start) = text.split_once('@')?;
            let pid = pid.parse().ok().filter(|&pid: &i32| pid > 0)?;
            Some(Self { pid, start_time: start.parse().ok()? })
        };
        parse().ok_or_else(|| NotAProcessId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_reads_back_what_it_wrote() {
        let id = ProcessId { pid: 7, start_time: u64::MAX };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "7", "7@", "@7", "0@1", "-7@1", "7@-1", "7@1@1", "x@1"] {
            assert!(bad.parse::<ProcessId>().is_err(), "{bad}");
        }
    }
}
