//! The vital signs: measured CPU and memory usage of the app.
//!
//! If the app's own cgroup limits a resource, the cgroup's usage is compared with that limit;
//! otherwise the process's usage is compared with the machine. A value that cannot be read is left
//! out.
mod cgroup;
mod process;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use cgroup::Cgroup;
use process::Process;

/// Minimum interval over which CPU usage is averaged, and how long a measurement is reused.
const INTERVAL: Duration = Duration::from_millis(500);

/// The basis of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// The cgroup, against its limit.
    Cgroup,
    /// The process, against the machine.
    Process,
}

/// Usage of a resource and its limit: CPU in seconds so far and in cores, memory in bytes and in
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Reading {
    pub(crate) used: f64,
    pub(crate) limit: f64,
    pub(crate) scope: Scope,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Vitals {
    pub(crate) cpu: Option<Reading>,
    pub(crate) memory: Option<Reading>,
    /// Share of the CPU limit used since the last measurement, 0 to 1.
    pub(crate) cpu_ratio: Option<f64>,
}

impl Vitals {
    /// Share of the memory limit in use, 0 to 1.
    pub(crate) fn memory_ratio(&self) -> Option<f64> {
        self.memory.map(|m| (m.used / m.limit).clamp(0.0, 1.0))
    }
}

/// A share as whole percent.
pub(crate) fn percent(ratio: f64) -> u8 {
    (ratio * 100.0).round().clamp(0.0, 100.0) as u8
}

/// Measures on demand, at most once per [`INTERVAL`].
#[derive(Debug)]
pub(crate) struct Monitor {
    root: PathBuf,
    process: Process,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    vitals: Vitals,
    /// Searched each time: a process can be moved to another cgroup.
    cgroup: Cgroup,
    at: Instant,
    /// Whether `vitals` is more than the start of the first interval.
    complete: bool,
}

impl Monitor {
    /// A monitor of this process, found below `root` (`/`, or a copied tree).
    pub(crate) fn new(root: &Path) -> Self {
        let (cgroup, process) = (Cgroup::discover(root), Process::new(root));
        let vitals = read(&cgroup, &process);
        let latest = Latest { vitals, cgroup, at: Instant::now(), complete: false };
        Self { root: root.to_owned(), process, latest: Mutex::new(latest) }
    }

    /// The vital signs at `now`.
    pub(crate) fn vitals(&self, now: Instant) -> Vitals {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(latest.at);
        if latest.complete && elapsed < INTERVAL {
            return latest.vitals;
        }
        let cgroup = Cgroup::discover(&self.root);
        let mut vitals = read(&cgroup, &self.process);
        vitals.cpu_ratio = if cgroup == latest.cgroup {
            cpu_ratio(&latest.vitals, &vitals, elapsed)
        } else {
            latest.vitals.cpu_ratio
        };
        *latest = Latest { vitals, cgroup, at: now, complete: true };
        vitals
    }
}

fn read(cgroup: &Cgroup, process: &Process) -> Vitals {
    Vitals {
        cpu: cgroup.cpu().or_else(|| process.cpu()),
        memory: cgroup.memory().or_else(|| process.memory()),
        cpu_ratio: None,
    }
}

/// CPU usage between two measurements as a share of the maximum.
///
/// A young process is measured over a whole interval, part of which it did not run yet: otherwise
/// its start alone would look like full load. If the scope changed in between (a limit was set or
/// removed), the previous share stays.
fn cpu_ratio(before: &Vitals, after: &Vitals, elapsed: Duration) -> Option<f64> {
    let (from, to) = (before.cpu?, after.cpu?);
    if from.scope != to.scope {
        return before.cpu_ratio;
    }
    let possible = elapsed.max(INTERVAL).as_secs_f64() * to.limit;
    Some(((to.used - from.used) / possible).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(used: f64, scope: Scope) -> Vitals {
        Vitals { cpu: Some(Reading { used, limit: 2.0, scope }), ..Vitals::default() }
    }

    #[test]
    fn cpu_is_a_share_of_the_limit_over_the_interval() {
        let ratio = |a, b, ms| {
            cpu_ratio(&used(a, Scope::Process), &used(b, Scope::Process), Duration::from_millis(ms))
        };
        assert_eq!(ratio(10.0, 12.0, 2000), Some(0.5));
        assert_eq!(ratio(10.0, 99.0, 2000), Some(1.0), "more than possible is all");
        assert_eq!(ratio(10.0, 9.0, 2000), Some(0.0), "a counter that fell is none");
        assert_eq!(ratio(0.0, 0.1, 1), Some(0.1), "a young process has a whole interval");
    }

    #[test]
    fn a_changed_scope_or_a_missing_reading_yields_no_new_share() {
        let second = Duration::from_secs(1);
        let before = Vitals { cpu_ratio: Some(0.3), ..used(5.0, Scope::Process) };
        assert_eq!(cpu_ratio(&before, &used(900.0, Scope::Cgroup), second), Some(0.3));
        assert_eq!(cpu_ratio(&before, &Vitals::default(), second), None);
    }

    #[test]
    fn this_very_process_has_vital_signs() {
        let monitor = Monitor::new(Path::new("/"));
        let vitals = monitor.vitals(Instant::now());
        assert!(vitals.cpu_ratio.is_some());
        let memory = vitals.memory_ratio().unwrap();
        assert!(memory > 0.0 && memory <= 1.0, "{memory}");
    }

    #[test]
    fn an_empty_tree_yields_no_values() {
        let empty = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nothing-here");
        let monitor = Monitor::new(&empty);
        assert_eq!(monitor.vitals(Instant::now()).memory, None);
    }

    #[test]
    fn percent_is_whole_and_bounded() {
        assert_eq!([0.0, 0.004, 0.796, 1.0, 7.0].map(percent), [0, 0, 80, 100, 100]);
        assert_eq!(percent(f64::NAN), 0);
    }
}
