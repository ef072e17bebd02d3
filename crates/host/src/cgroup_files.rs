//! Reads a cgroup's own files: CPU, memory, throttling, OOM kills.
//!
//! The files stay open and are read again in place, into a buffer on the stack: a sample costs a
//! system call per file and no allocation. A missing file (another cgroup version, a controller
//! that is not enabled) leaves its value `None`. A removed cgroup is a separate error, because its
//! target has ended.
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use paramedic_core::{
    signal::CgroupReading,
    target::{Cgroup, Cgroups},
};

use crate::cgroup::gone;

/// Longer than any file read here: memory.stat has some 60 lines of 30 bytes.
const BUFFER: usize = 8192;

/// v1 writes "no limit" as the largest multiple of a page; no machine has this much memory.
const UNLIMITED: u64 = 1 << 62;

/// Why a cgroup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It was removed, or replaced by another.
    #[error("the cgroup {0} is gone, its target has ended: look for the target again")]
    Vanished(PathBuf),
    /// A file exists but cannot be opened.
    #[error("cannot open {path}: {source}; the agent needs /sys/fs/cgroup readable")]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The open cgroup files of one target.
#[derive(Debug)]
pub struct CgroupFiles {
    /// The target's directory, for errors.
    path: PathBuf,
    /// v1: cpuacct.usage; v2: cpu.stat, if accounting has a separate directory.
    usage: Option<File>,
    cpu_stat: Option<File>,
    /// v2: cpu.max.
    cpu_max: Option<File>,
    /// v1: cpu.cfs_quota_us and cpu.cfs_period_us.
    quota: Option<File>,
    period: Option<File>,
    /// v2 with pressure stall information.
    cpu_pressure: Option<File>,
    memory: Option<File>,
    memory_limit: Option<File>,
    memory_stat: Option<File>,
    /// v2: memory.events; v1: memory.oom_control.
    memory_events: Option<File>,
}

impl CgroupFiles {
    /// Opens the files that exist.
    ///
    /// # Errors
    /// If a directory is gone or was replaced, or an existing file cannot be opened.
    pub fn open(cgroups: &Cgroups) -> Result<Self, CgroupError> {
        let cpu = Directory::of(cgroups.cpu.as_ref())?;
        let cpuacct = Directory::of(cgroups.cpuacct.as_ref())?;
        let memory = Directory::of(cgroups.memory.as_ref())?;
        let unified = Directory::of(cgroups.unified.as_ref())?;
        let usage = match cpuacct.first(&["cpuacct.usage"])? {
            None if cgroups.cpuacct != cgroups.cpu => cpuacct.first(&["cpu.stat"])?,
            usage => usage,
        };
        let any = [&cgroups.unified, &cgroups.cpu, &cgroups.memory].into_iter().flatten().next();
        Ok(Self {
            path: any.map(|c| c.path.clone()).unwrap_or_default(),
            usage,
            cpu_stat: cpu.first(&["cpu.stat"])?,
            cpu_max: cpu.first(&["cpu.max"])?,
            quota: cpu.first(&["cpu.cfs_quota_us"])?,
            period: cpu.first(&["cpu.cfs_period_us"])?,
            // Kernels may be told to keep no pressure.
            cpu_pressure: unified.first(&["cpu.pressure"]).unwrap_or_default(),
            memory: memory.first(&["memory.current", "memory.usage_in_bytes"])?,
            memory_limit: memory.first(&["memory.max", "memory.limit_in_bytes"])?,
            memory_stat: memory.first(&["memory.stat"])?,
            memory_events: memory.first(&["memory.events", "memory.oom_control"])?,
        })
    }

    /// Reads all files again.
    ///
    /// # Errors
    /// [`CgroupError::Vanished`] if the cgroup was removed.
    pub fn read(&self) -> Result<CgroupReading, CgroupError> {
        let mut reading = CgroupReading::default();
        self.read_cpu(&mut reading)
            .and_then(|()| self.read_memory(&mut reading))
            .map_err(|Gone| CgroupError::Vanished(self.path.clone()))?;
        Ok(reading)
    }

    fn read_cpu(&self, to: &mut CgroupReading) -> Result<(), Gone> {
        let stat = |text: &str| {
            to.cpu_usage_ns = keyed(text, "usage_usec").and_then(nanos);
            to.throttled_periods = keyed(text, "nr_throttled");
            let v1 = keyed(text, "throttled_time");
            to.throttled_ns = keyed(text, "throttled_usec").and_then(nanos).or(v1);
        };
        with_text(self.cpu_stat.as_ref(), stat)?;
        let usage = |text: &str| number(text).or(keyed(text, "usage_usec").and_then(nanos));
        let usage = with_text(self.usage.as_ref(), usage)?.flatten();
        to.cpu_usage_ns = usage.or(to.cpu_usage_ns);
        let v2 = with_text(self.cpu_max.as_ref(), cpu_max)?;
        let (quota, period) = match v2 {
            Some(max) => max,
            // A quota of -1 means no limit, and does not parse as a number.
            None => (
                with_text(self.quota.as_ref(), number)?.flatten(),
                with_text(self.period.as_ref(), number)?.flatten(),
            ),
        };
        to.period_ns = period.filter(|&p| p > 0).and_then(nanos);
        to.cpu_limit = cores(quota, period);
        let pressure = with_text(self.cpu_pressure.as_ref(), some_avg10)?.flatten();
        to.cpu_pressure = pressure.map(|percent| percent / 100.0);
        Ok(())
    }

    fn read_memory(&self, to: &mut CgroupReading) -> Result<(), Gone> {
        let used = with_text(self.memory.as_ref(), number)?.flatten();
        // In v1, `inactive_file` counts the cgroup alone, and the total includes its children.
        let cache =
            |text: &str| keyed(text, "total_inactive_file").or(keyed(text, "inactive_file"));
        let cache = with_text(self.memory_stat.as_ref(), cache)?.flatten();
        // Without the cache's share the usage would look too high, so it is left out.
        to.memory_bytes = used.zip(cache).map(|(used, cache)| used.saturating_sub(cache));
        let limit = with_text(self.memory_limit.as_ref(), number)?.flatten();
        to.memory_limit_bytes = limit.filter(|&bytes| bytes < UNLIMITED);
        let kills = |text: &str| keyed(text, "oom_kill");
        to.oom_kills = with_text(self.memory_events.as_ref(), kills)?.flatten();
        Ok(())
    }
}

/// A directory whose files may be opened; `None` if the hierarchy does not exist.
struct Directory<'a>(Option<&'a Path>);

impl<'a> Directory<'a> {
    fn of(cgroup: Option<&'a Cgroup>) -> Result<Self, CgroupError> {
        let Some(Cgroup { path, id }) = cgroup else { return Ok(Self(None)) };
        match fs::metadata(path) {
            Ok(metadata) if metadata.ino() == *id => Ok(Self(Some(path))),
            Ok(_) => Err(CgroupError::Vanished(path.clone())),
            Err(error) if gone(&error) => Err(CgroupError::Vanished(path.clone())),
            Err(source) => Err(CgroupError::Open { path: path.clone(), source }),
        }
    }

    /// Opens the first of `names` that exists.
    fn first(&self, names: &[&str]) -> Result<Option<File>, CgroupError> {
        for path in names.iter().filter_map(|name| Some(self.0?.join(name))) {
            match File::open(&path) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if gone(&error) => {}
                Err(source) => return Err(CgroupError::Open { path, source }),
            }
        }
        Ok(None)
    }
}

/// The cgroup was removed while its files were open.
struct Gone;

/// Passes the file's text to `read`; `None` if there is no file, or it cannot be read.
fn with_text<T>(file: Option<&File>, read: impl FnOnce(&str) -> T) -> Result<Option<T>, Gone> {
    let Some(file) = file else { return Ok(None) };
    let mut buffer = [0; BUFFER];
    match read_from_start(file, &mut buffer) {
        Ok(text) => Ok(text.map(read)),
        Err(error) if gone(&error) => Err(Gone),
        Err(_) => Ok(None),
    }
}

/// The file's text from its start, cut after the last complete line that fits.
pub(super) fn read_from_start<'b>(
    file: &File,
    buffer: &'b mut [u8],
) -> io::Result<Option<&'b str>> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let full = filled >= buffer.len();
    let bytes = buffer.get(..filled).unwrap_or_default();
    let end = if full { bytes.iter().rposition(|&b| b == b'\n').unwrap_or(0) } else { filled };
    Ok(bytes.get(..end).and_then(|b| std::str::from_utf8(b).ok()))
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number after `key` in lines of `key number`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|&(name, _)| name == key).and_then(|(_, value)| number(value))
}

/// Pressure stall information: the share of the last 10 s in which some task waited, in percent.
pub(crate) fn some_avg10(text: &str) -> Option<f32> {
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    some.split(' ').next()?.parse::<f32>().ok().filter(|share| (0.0..=100.0).contains(share))
}

/// `quota period` or `max period`.
fn cpu_max(text: &str) -> (Option<u64>, Option<u64>) {
    let mut fields = text.split_ascii_whitespace().map(number);
    (fields.next().flatten(), fields.next().flatten())
}

/// Both in microseconds.
fn cores(quota: Option<u64>, period: Option<u64>) -> Option<f32> {
    let (quota, period) = quota.zip(period).filter(|&(quota, period)| quota > 0 && period > 0)?;
    Some((quota as f64 / period as f64) as f32)
}

fn nanos(micros: u64) -> Option<u64> {
    micros.checked_mul(1000)
}

#[cfg(test)]
mod tests;
