//! Reads the process table from `/proc`.
//!
//! A pid alone identifies a process only briefly, because it is reused. A process is identified by
//! its pid *and* its start time, everywhere here.
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{SysconfVar, sysconf};
use paramedic_core::{boot_time::BootTime, target::ProcessId};

/// Maximum size of a text in `/proc`. No text on a real node reaches it (mountinfo is the longest,
/// at 100 to 300 bytes for each mount).
const LIMIT: u64 = 16 << 20;

/// Root of the kernel's files: `/proc`, and the prefix before the mount points that it names. Tests
/// use recorded trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The mount point of procfs.
    pub proc: PathBuf,
    /// The prefix before absolute paths: `/` on a real machine.
    pub root: PathBuf,
}

impl Default for Tree {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), root: PathBuf::from("/") }
    }
}

impl Tree {
    /// The path of a process's file.
    pub fn of(&self, pid: i32, file: &str) -> PathBuf {
        self.proc.join(pid.to_string()).join(file)
    }

    /// Reads `/proc/PID/FILE`, at most 16 MiB of it.
    pub fn read(&self, pid: i32, file: &str) -> io::Result<String> {
        read_text(&self.of(pid, file))
    }

    /// The pids of this PID namespace.
    pub fn pids(&self) -> io::Result<impl Iterator<Item = i32> + use<>> {
        Ok(fs::read_dir(&self.proc)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
    }

    /// Reads `/proc/PID/stat` of a process.
    ///
    /// # Errors
    /// `NotFound` if there is no such process; `InvalidData` if the line is invalid.
    pub fn stat(&self, pid: i32) -> io::Result<Stat> {
        Stat::parse(&self.read(pid, "stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether exactly the process `instance` still runs; a zombie does not.
    #[must_use]
    pub fn still_alive(&self, instance: ProcessId) -> bool {
        self.stat(instance.pid).is_ok_and(|s| s.runs() && s.instance() == instance)
    }

    /// Whether it is the first process of its PID namespace.
    pub fn leads_namespace(&self, pid: i32) -> bool {
        leads_namespace(&self.read(pid, "status").unwrap_or_default())
    }

    /// A snapshot of all processes, without those that end meanwhile.
    pub fn table(&self) -> io::Result<Table> {
        Ok(Table(self.pids()?.filter_map(|pid| Some((pid, self.stat(pid).ok()?))).collect()))
    }
}

/// The same for the text of `/proc/PID/status`: the innermost of its pids is 1.
pub fn leads_namespace(status: &str) -> bool {
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.and_then(|pids| pids.split_ascii_whitespace().last()) == Some("1")
}

/// Reads a text of at most [`LIMIT`] bytes; replaces invalid UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The used fields of a `/proc/PID/stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The process id.
    pub pid: i32,
    /// The command's name (at most 15 bytes), control characters replaced.
    pub name: String,
    /// `R`, `S`, `D`, `Z` and so on.
    pub state: char,
    /// The parent.
    pub parent: i32,
    /// The process group; a shell creates one for each of its jobs.
    pub group: i32,
    /// CPU time in user and kernel mode, in clock ticks.
    pub cpu_ticks: u64,
    /// Its threads.
    pub threads: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl Stat {
    /// Parses one line; the name is in parentheses and may contain some itself.
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let numbers = Numbers::parse(rest)?;
        let name = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name,
            state: numbers.state,
            parent: numbers.parent,
            group: numbers.group,
            cpu_ticks: numbers.cpu_ticks,
            threads: numbers.threads,
            start_time: numbers.start_time,
        })
    }

    /// The identity of this process.
    #[must_use]
    pub const fn instance(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_time: self.start_time }
    }

    /// Whether it runs: a zombie has ended, but its parent has not noticed.
    #[must_use]
    pub const fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The fields after the name: all that a repeated read needs, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// `R`, `S`, `D`, `Z` and so on.
    pub state: char,
    parent: i32,
    group: i32,
    /// CPU time in user and kernel mode, in clock ticks.
    pub cpu_ticks: u64,
    /// Its threads.
    pub threads: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl Numbers {
    /// `after_name` starts with the state, field 3 of proc(5).
    pub fn parse(after_name: &str) -> Option<Self> {
        let mut fields = after_name.split_ascii_whitespace();
        // `nth` counts from the field after the last one taken.
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?; // 4
        let group = fields.next()?.parse().ok()?; // 5
        let user: u64 = fields.nth(8)?.parse().ok()?; // 14
        let system: u64 = fields.next()?.parse().ok()?; // 15
        let threads = fields.nth(4)?.parse().ok()?; // 20
        let start_time = fields.nth(1)?.parse().ok()?; // 22
        let cpu_ticks = user.checked_add(system)?;
        Some(Self { state, parent, group, cpu_ticks, threads, start_time })
    }
}

/// All processes at one instant, by pid.
#[derive(Clone, Debug, Default)]
pub struct Table(pub BTreeMap<i32, Stat>);

impl Table {
    /// `pid` and its ancestors, nearest first. Ends even if the snapshot contains a cycle.
    pub fn line(&self, pid: i32) -> impl Iterator<Item = i32> {
        let parent = |&pid: &i32| self.0.get(&pid).map(|s| s.parent).filter(|&p| p > 0);
        std::iter::successors(Some(pid), parent).take(self.0.len() + 1)
    }

    /// Whether `pid` is `ancestor` itself or descends from it.
    pub fn descends(&self, pid: i32, ancestor: i32) -> bool {
        self.line(pid).any(|p| p == ancestor)
    }
}

/// The resources of the machine: the limit of a target without its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Number of online CPUs.
    pub cpus: f32,
    /// Physical memory, in bytes; 0 if unknown.
    pub memory_bytes: u64,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let pages = positive(SysconfVar::_PHYS_PAGES).unwrap_or(0);
        let cpus = positive(SysconfVar::_NPROCESSORS_ONLN).unwrap_or(1);
        Self { cpus: cpus as f32, memory_bytes: pages.saturating_mul(page_bytes()) }
    }
}

/// Bytes per page.
pub fn page_bytes() -> u64 {
    positive(SysconfVar::PAGE_SIZE).unwrap_or(4096)
}

/// The duration of `ticks` clock ticks.
pub fn ticks(ticks: u64) -> Duration {
    let per_second = positive(SysconfVar::CLK_TCK).unwrap_or(100);
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second))
}

/// The instant at which a process with this start time started.
pub fn started(start_time: u64) -> BootTime {
    BootTime::from(ticks(start_time))
}

fn positive(variable: SysconfVar) -> Option<u64> {
    let value = sysconf(variable).ok()??;
    u64::try_from(value).ok().filter(|&v| v > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "4242 (a) b (c)) S 17 4241 4242 0 -1 4194304 103 0 0 0 250 50 0 0 20 0 1 0 \
                        987654 9000000 512 18446744073709551615 1 1 0 0 0 0 0 4096 0";

    #[test]
    fn a_name_may_hold_parentheses_and_spaces() {
        let stat = Stat::parse(LINE).unwrap();
        assert_eq!(stat.name, "a) b (c)");
        assert_eq!((stat.pid, stat.parent, stat.group, stat.state), (4242, 17, 4241, 'S'));
        assert_eq!((stat.cpu_ticks, stat.start_time), (300, 987_654));
        assert_eq!(stat.instance().to_string(), "4242@987654");
    }

    #[test]
    fn a_truncated_or_invalid_stat_line_is_refused() {
        for cut in 0..LINE.find("987654").unwrap() {
            assert_eq!(Stat::parse(&LINE[..cut]), None, "{:?}", &LINE[..cut]);
        }
        assert_eq!(Stat::parse(&LINE.replace("987654", "-1")), None);
        assert_eq!(Stat::parse(&LINE.replace(" 250 ", " 18446744073709551615 ")), None);
    }

    #[test]
    fn ancestors_end_at_a_cycle_in_the_table() {
        let stat = |pid, parent| {
            (pid, Stat::parse(&LINE.replace("S 17", &format!("S {parent}"))).unwrap())
        };
        let table = Table([stat(5, 6), stat(6, 5), stat(7, 0)].into());
        assert!(table.descends(5, 6) && table.descends(7, 7));
        assert!(!table.descends(5, 7));
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let tree = Tree::default();
        let own = tree.stat(std::process::id().cast_signed()).unwrap().instance();
        assert!(tree.still_alive(own));
        assert!(!tree.still_alive(ProcessId { start_time: own.start_time + 1, ..own }));
        assert!(started(own.start_time) <= crate::clock::now());
        assert!(tree.table().unwrap().descends(own.pid, own.pid));
        let machine = Machine::here();
        assert!(machine.cpus >= 1.0 && machine.memory_bytes > 1 << 20);
    }
}
