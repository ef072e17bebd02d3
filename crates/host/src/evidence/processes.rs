//! The processes of a target by their command names. Command lines and environments are not read:
//! they hold secrets.
use std::time::Instant;

use paramedic_core::target::Target;
use serde::{Deserialize, Serialize};

use super::{Missing, NO_TIME, Reading, is_over, members_of};
use crate::procfs::{Stat, Tree, page_bytes, ticks};

/// The processes of a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Processes {
    /// Their number, of which at most 64 are listed.
    pub total: usize,
    /// The main process first.
    pub list: Vec<Process>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its command's name, at most 15 bytes.
    pub name: String,
    /// `R`, `S`, `D`, `T`, `Z` and so on.
    pub state: char,
    /// The number of its threads.
    pub threads: u32,
    /// CPU time that it has used, in seconds.
    pub cpu_s: f64,
    /// Resident memory, in bytes.
    pub rss_bytes: Option<u64>,
}

impl Process {
    fn of(stat: Stat, rss_bytes: Option<u64>) -> Self {
        Self {
            pid: stat.pid,
            parent: stat.parent,
            name: stat.name,
            state: stat.state,
            threads: stat.threads,
            cpu_s: ticks(stat.cpu_ticks).as_secs_f64(),
            rss_bytes,
        }
    }
}

/// Reads the list.
#[must_use]
pub fn read(tree: &Tree, target: &Target, until: Instant) -> Reading<Processes> {
    let (pids, total) = match members_of(tree, target) {
        Ok(found) => found,
        Err(why) => return Reading::nothing("processes", why),
    };
    let mut processes = Processes { total, list: Vec::new() };
    let mut missing = Vec::new();
    let page = page_bytes();
    for pid in pids {
        if is_over(until) {
            missing.push(Missing::new("processes", NO_TIME));
            break;
        }
        // One that has ended meanwhile is left out.
        let Ok(stat) = tree.stat(pid) else { continue };
        let resident = tree.read(pid, "statm").ok().and_then(|text| resident_pages(&text));
        processes.list.push(Process::of(stat, resident.map(|pages| pages.saturating_mul(page))));
    }
    Reading { found: Some(processes), missing }
}

/// The second number of `/proc/PID/statm`.
fn resident_pages(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paramedic_core::target::Cgroups;

    use super::*;

    #[test]
    fn this_process_is_listed_by_its_command_name() {
        let tree = Tree::default();
        let stat = tree.stat(std::process::id().cast_signed()).unwrap();
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        let own = Target { main: Some(stat.instance()), cgroups, ..Target::for_tests("own", 1) };
        let read = read(&tree, &own, Instant::now() + Duration::from_secs(60));
        let list = read.found.unwrap().list;
        assert_eq!((list[0].pid, &list[0].name), (stat.pid, &stat.name));
        assert!(list[0].threads >= 1 && list[0].rss_bytes > Some(1 << 16), "{:?}", list[0]);
        assert_eq!(read.missing, []);
    }

    #[test]
    fn resident_memory_is_the_second_number() {
        assert_eq!(resident_pages("900 120 30 1 0 50 0\n"), Some(120));
        assert_eq!(resident_pages("900"), None);
        assert_eq!(resident_pages("a b"), None);
    }
}
