//! The process's own usage, compared with the machine.
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use super::{Reading, Scope};
use crate::clock;

#[derive(Debug)]
pub(super) struct Process {
    status: PathBuf,
    meminfo: PathBuf,
}

impl Process {
    pub(super) fn new(root: &Path) -> Self {
        Self { status: root.join("proc/self/status"), meminfo: root.join("proc/meminfo") }
    }

    /// CPU seconds used so far, against the cores that the process may run on.
    pub(super) fn cpu(&self) -> Option<Reading> {
        let cores = thread::available_parallelism().ok()?.get();
        let used = clock::process_cpu()?.as_secs_f64();
        Some(Reading { used, limit: cores as f64, scope: Scope::Process })
    }

    /// Resident bytes, against the machine's memory.
    pub(super) fn memory(&self) -> Option<Reading> {
        let used = kibibytes(&fs::read_to_string(&self.status).ok()?, "VmRSS:")?;
        let limit = kibibytes(&fs::read_to_string(&self.meminfo).ok()?, "MemTotal:")?;
        let reading = Reading { used: used * 1024.0, limit: limit * 1024.0, scope: Scope::Process };
        (limit > 0.0).then_some(reading)
    }
}

/// The number after `key` in a `/proc` file of lines such as `VmRSS:   1234 kB`.
fn kibibytes(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_are_found_by_key() {
        let text = "VmPeak:\t  9000 kB\nVmRSS:\t  5120 kB\nThreads:\t1\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(5120.0));
        assert_eq!(kibibytes(text, "Threads:"), None);
        assert_eq!(kibibytes(text, "VmSwap:"), None);
        assert_eq!(kibibytes("VmRSS: lots kB", "VmRSS:"), None);
    }
}
