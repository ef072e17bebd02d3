//! CPU and memory of one target, from the source that is its own.
//!
//! This is the cgroup if the target owns it. In a shared cgroup (a shell's, the root's) it is the
//! main process, against the machine's limits: the load of neighbours must not count for the
//! target.
use std::{fs::File, io};

use paramedic_core::{
    signal::{CgroupReading, ProcessState},
    target::{Cgroups, ProcessId},
};

use crate::{
    cgroup_files::{CgroupError, CgroupFiles, read_from_start},
    procfs::{Numbers, Tree, page_bytes, ticks},
};

/// The numbers of one process, without its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessReading {
    /// CPU time since it started, in nanoseconds, with the resolution of a clock tick (10 ms).
    pub cpu_ns: u64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
}

/// Why a target's usage cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The cgroup cannot be read.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The process has ended.
    #[error("process {0} has ended: look for the target again")]
    Ended(ProcessId),
    /// `/proc` cannot be read.
    #[error("cannot read the state of process {instance}: {source}")]
    Process {
        /// The process.
        instance: ProcessId,
        /// The system's error.
        source: io::Error,
    },
}

/// The open files of a process: they belong to this process and never to a later one with its pid.
#[derive(Debug)]
struct ProcessFiles {
    instance: ProcessId,
    stat: File,
    /// Memory is not taken from `stat`, whose number may be off by some hundred pages per CPU.
    statm: File,
    page: u64,
}

impl ProcessFiles {
    fn open(tree: &Tree, instance: ProcessId) -> Result<Self, UsageError> {
        let open = |name| File::open(tree.of(instance.pid, name)).map_err(|e| failed(instance, e));
        let files =
            Self { instance, stat: open("stat")?, statm: open("statm")?, page: page_bytes() };
        files.read().map(|_| files)
    }

    fn read(&self) -> Result<ProcessReading, UsageError> {
        let numbers = self.numbers()?;
        let successor = numbers.start_time != self.instance.start_time;
        if successor || matches!(numbers.state, 'Z' | 'X' | 'x') {
            return Err(UsageError::Ended(self.instance));
        }
        let resident = |line: &str| line.split(' ').nth(1)?.parse::<u64>().ok();
        Ok(ProcessReading {
            cpu_ns: u64::try_from(ticks(numbers.cpu_ticks).as_nanos()).unwrap_or(u64::MAX),
            rss_bytes: self.parse(&self.statm, resident)?.saturating_mul(self.page),
        })
    }

    fn state(&self) -> Option<ProcessState> {
        let numbers = self.numbers().ok()?;
        let is_same = numbers.start_time == self.instance.start_time;
        is_same.then_some(match numbers.state {
            'T' => ProcessState::Stopped,
            'D' => ProcessState::Uninterruptible,
            _ => ProcessState::Active,
        })
    }

    fn numbers(&self) -> Result<Numbers, UsageError> {
        // The name is in parentheses and may contain some itself.
        self.parse(&self.stat, |line| Numbers::parse(line.rsplit_once(") ")?.1))
    }

    fn parse<T>(&self, file: &File, of: impl Fn(&str) -> Option<T>) -> Result<T, UsageError> {
        let mut buffer = [0; 2048];
        let text = read_from_start(file, &mut buffer).map_err(|e| failed(self.instance, e))?;
        text.and_then(of).ok_or_else(|| failed(self.instance, io::ErrorKind::InvalidData.into()))
    }
}

fn failed(instance: ProcessId, source: io::Error) -> UsageError {
    let ended =
        source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ESRCH);
    if ended { UsageError::Ended(instance) } else { UsageError::Process { instance, source } }
}

/// Reads one target's usage repeatedly.
#[derive(Debug)]
pub struct Usage {
    cgroup: CgroupFiles,
    process: Option<ProcessFiles>,
    shared: bool,
}

impl Usage {
    /// Opens the target's cgroup files and, if its main process is known, that process's.
    ///
    /// # Errors
    /// If the cgroup or the process is gone, or its files cannot be opened.
    pub fn open(
        tree: &Tree,
        cgroups: &Cgroups,
        main: Option<ProcessId>,
    ) -> Result<Self, UsageError> {
        let process = main.map(|instance| ProcessFiles::open(tree, instance)).transpose()?;
        Ok(Self { cgroup: CgroupFiles::open(cgroups)?, process, shared: cgroups.shared })
    }

    /// Reads the usage. A limit of `None` is replaced by the machine's.
    ///
    /// # Errors
    /// If the cgroup was removed or the process has ended.
    pub fn read(&self) -> Result<CgroupReading, UsageError> {
        let process = self.process.as_ref().map(ProcessFiles::read).transpose()?;
        Ok(pick(self.shared, self.cgroup.read()?, process))
    }

    /// The state of the main process, if it is known and has not ended.
    #[must_use]
    pub fn process_state(&self) -> Option<ProcessState> {
        self.process.as_ref()?.state()
    }
}

/// Of a shared cgroup, only throttling and OOM kills are kept (the output marks them as shared);
/// usage comes from the process, and no limit is its own. Of an exclusive cgroup everything is
/// kept, and the process fills the gaps.
#[must_use]
pub fn pick(shared: bool, cgroup: CgroupReading, process: Option<ProcessReading>) -> CgroupReading {
    let cpu_ns = process.map(|p| p.cpu_ns);
    let rss_bytes = process.map(|p| p.rss_bytes);
    if shared {
        return CgroupReading {
            cpu_usage_ns: cpu_ns,
            cpu_limit: None,
            memory_bytes: rss_bytes,
            memory_limit_bytes: None,
            ..cgroup
        };
    }
    CgroupReading {
        cpu_usage_ns: cgroup.cpu_usage_ns.or(cpu_ns),
        memory_bytes: cgroup.memory_bytes.or(rss_bytes),
        ..cgroup
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Service, listen};

    const PROCESS: ProcessReading = ProcessReading { cpu_ns: 5, rss_bytes: 6 };

    fn full() -> CgroupReading {
        CgroupReading {
            cpu_usage_ns: Some(100),
            cpu_limit: Some(0.5),
            memory_bytes: Some(200),
            memory_limit_bytes: Some(400),
            throttled_periods: Some(3),
            throttled_ns: Some(30),
            period_ns: Some(100_000_000),
            oom_kills: Some(1),
            cpu_pressure: Some(0.1),
        }
    }

    #[test]
    fn an_exclusive_cgroup_gives_usage_and_limits() {
        assert_eq!(pick(false, full(), Some(PROCESS)), full());
        let blind = CgroupReading { cpu_usage_ns: None, memory_bytes: None, ..full() };
        let expected = CgroupReading { cpu_usage_ns: Some(5), memory_bytes: Some(6), ..full() };
        assert_eq!(pick(false, blind, Some(PROCESS)), expected);
        assert_eq!(pick(false, blind, None), blind);
    }

    #[test]
    fn usage_and_limits_of_a_shared_cgroup_are_not_used() {
        let expected = CgroupReading {
            cpu_usage_ns: Some(5),
            cpu_limit: None,
            memory_bytes: Some(6),
            memory_limit_bytes: None,
            ..full()
        };
        assert_eq!(pick(true, full(), Some(PROCESS)), expected);
        assert_eq!(pick(true, full(), None).cpu_usage_ns, None);
    }

    #[test]
    fn a_process_is_read_until_it_ends() {
        let tree = Tree::default();
        let service = Service::start(listen("127.0.0.1").0, &["sleep", "600"]);
        let instance = tree.stat(service.pid()).unwrap().instance();
        let shared = Cgroups { shared: true, ..Cgroups::default() };
        let usage = Usage::open(&tree, &shared, Some(instance)).unwrap();
        let reading = usage.read().unwrap();
        assert!(reading.memory_bytes.is_some_and(|bytes| bytes > 100_000), "{reading:?}");
        assert!(reading.cpu_usage_ns.is_some());
        drop(service);
        assert!(matches!(usage.read(), Err(UsageError::Ended(i)) if i == instance));
        let again = Usage::open(&tree, &shared, Some(instance));
        assert!(matches!(again, Err(UsageError::Ended(_))));
    }

    #[test]
    fn a_reused_pid_is_refused() {
        let tree = Tree::default();
        let own = tree.stat(std::process::id().cast_signed()).unwrap().instance();
        let other = ProcessId { start_time: own.start_time + 1, ..own };
        let opened = Usage::open(&tree, &Cgroups::default(), Some(other));
        assert!(matches!(opened, Err(UsageError::Ended(_))));
    }
}
