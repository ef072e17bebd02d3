//! Reads of a target what a restart destroys: its cgroup's files, sockets, descriptors, threads,
//! processes and log.
//!
//! Each reader is separate and blocks, because each may fail or hang by itself. A reader that reads
//! many files stops at its deadline and returns what it has. Nothing here reads a command line, an
//! environment or the memory of a process: they hold secrets.
pub mod cgroup;
pub mod descriptors;
pub mod log;
pub mod processes;
pub mod sockets;
pub mod threads;

use std::{fs::File, io, io::Read as _, path::Path, time::Instant};

use paramedic_core::target::{ProcessId, Target};
use serde::{Deserialize, Serialize};

use crate::{cgroup::members, procfs::Tree};

/// Maximum number of processes to read.
const MAX_PROCESSES: usize = 64;
/// Why a reader that was stopped by its deadline has read only a part.
const NO_TIME: &str = "there was no time for more";

/// A part that is missing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The part, such as `kernel stacks`.
    pub part: String,
    /// The reason, with what would help if something does.
    pub why: String,
}

impl Missing {
    /// This part is missing for this reason.
    pub fn new(part: &str, why: impl Into<String>) -> Self {
        Self { part: part.to_owned(), why: why.into() }
    }
}

/// What a reader found, and what of it is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<T> {
    /// What it found; `None` if nothing.
    pub found: Option<T>,
    /// What is missing.
    pub missing: Vec<Missing>,
}

impl<T> Reading<T> {
    /// Nothing was found, for this reason.
    pub fn nothing(part: &str, why: impl Into<String>) -> Self {
        Self { found: None, missing: vec![Missing::new(part, why)] }
    }
}

/// The processes of a target: all of its cgroup, or in a shared cgroup its main process and the
/// descendants of that. The main process is the first; at most 64, and their number in all.
///
/// # Errors
/// If its process is not known or has ended.
pub fn members_of(tree: &Tree, target: &Target) -> Result<(Vec<i32>, usize), String> {
    let main = target.main.ok_or("its process is not known")?;
    if !tree.still_alive(main) {
        return Err(format!("process {main} has ended"));
    }
    let own = if target.cgroups.shared { None } else { target.cgroups.any() };
    let in_cgroup = own.and_then(|group| members(group).ok());
    let mut pids = match in_cgroup.filter(|pids| pids.contains(&main.pid)) {
        Some(pids) => pids,
        None => descendants(tree, main),
    };
    pids.sort_unstable_by_key(|pid| (*pid != main.pid, *pid));
    pids.dedup();
    let all = pids.len();
    pids.truncate(MAX_PROCESSES);
    Ok((pids, all))
}

fn descendants(tree: &Tree, main: ProcessId) -> Vec<i32> {
    let Ok(table) = tree.table() else { return vec![main.pid] };
    table.0.keys().copied().filter(|pid| table.descends(*pid, main.pid)).collect()
}

/// At most this much of a file's text, without control characters; replaces invalid UTF-8.
fn text_of(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(plain(&bytes, usize::try_from(most).unwrap_or(usize::MAX)))
}

/// Text that is safe to print and does not grow in JSON: control characters but line breaks and tabs
/// become `?`. Cut at `most` bytes.
#[must_use]
pub fn plain(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '?' } else { c };
    let mut text: String = text.chars().map(clean).collect();
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

/// Whether the deadline has passed.
fn is_over(until: Instant) -> bool {
    Instant::now() >= until
}

#[cfg(test)]
mod tests {
    use paramedic_core::target::Cgroups;

    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_has_no_control_characters() {
        assert_eq!(plain(b"a\x1b[2Jb\r\n\tc", 100), "a?[2Jb?\n\tc");
        assert_eq!(plain("aäb".as_bytes(), 2), "a", "the second byte is within a character");
        assert_eq!(plain(&[b'a', 0xff], 100), "a\u{fffd}");
        assert_eq!(plain(&[0xff; 10], 9).len(), 9);
    }

    #[test]
    fn this_process_comes_first_and_its_children_follow() {
        let tree = Tree::default();
        let pid = std::process::id().cast_signed();
        let main = Some(tree.stat(pid).unwrap().instance());
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        let own = Target { main, cgroups, ..Target::for_tests("own", 1) };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (pids, all) = members_of(&tree, &own).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(pids[0], pid);
        assert!(pids.contains(&child.id().cast_signed()), "{pids:?}");
        assert!(all >= pids.len());
    }

    #[test]
    fn a_process_that_has_ended_or_is_not_known_is_said_to_be() {
        let mut target = Target::for_tests("gone", 1);
        assert_eq!(members_of(&Tree::default(), &target), Err("its process is not known".into()));
        target.main = Some(ProcessId { pid: i32::MAX, start_time: 1 });
        let why = members_of(&Tree::default(), &target).unwrap_err();
        assert!(why.contains("has ended"), "{why}");
    }
}
