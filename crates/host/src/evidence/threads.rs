//! The threads of a target by state, wait channel and kernel stack: where it hangs.
use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Instant,
};

use paramedic_core::target::Target;
use serde::{Deserialize, Serialize};

use super::{Missing, NO_TIME, Reading, is_over, members_of, plain, text_of};
use crate::procfs::{Stat, Tree};

/// Maximum number of threads to read.
pub const MAX_THREADS: usize = 512;
/// Maximum number of groups; further ones are only counted.
const MAX_GROUPS: usize = 64;
/// Maximum number of names and of ids of a group.
const MAX_NAMES: usize = 16;
/// Maximum number of frames of a stack, and of bytes of a frame.
const MAX_FRAMES: usize = 32;
const MAX_FRAME: usize = 96;
/// Larger than any of the files of a thread.
const MAX_TEXT: u64 = 8 << 10;

/// The threads of a target's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threads {
    /// Their number.
    pub total: usize,
    /// How many of them were read, at most 512.
    pub read: usize,
    /// Those that were read, in groups of equal state, wait channel and stack; the largest first.
    pub groups: Vec<Group>,
    /// The number of further groups that are left out.
    pub more_groups: usize,
}

/// Threads with the same state, wait channel and stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Their number.
    pub count: usize,
    /// `R` (runs), `S` (sleeps), `D` (sleeps in the kernel, uninterruptible), `T` (stopped), …
    pub state: char,
    /// The kernel's function in which they wait, if it is shown.
    pub waits_in: Option<String>,
    /// The kernel's functions, the innermost first; empty if they are not shown.
    pub stack: Vec<String>,
    /// Their names, and how many have each; at most 16 names.
    pub names: BTreeMap<String, usize>,
    /// Their ids, at most 16.
    pub ids: Vec<i32>,
}

/// One thread as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    id: i32,
    name: String,
    state: char,
    waits_in: Option<String>,
    stack: Vec<String>,
}

/// Reads the threads of all processes of a target.
#[must_use]
pub fn read(tree: &Tree, target: &Target, until: Instant) -> Reading<Threads> {
    let pids = match members_of(tree, target) {
        Ok((pids, _)) => pids,
        Err(why) => return Reading::nothing("threads", why),
    };
    let places: Vec<PathBuf> = pids.iter().flat_map(|pid| tasks(tree, *pid)).collect();
    let mut reader = Reader::default();
    let mut missing = Vec::new();
    for place in places.iter().take(MAX_THREADS) {
        if is_over(until) {
            missing.push(Missing::new("threads", NO_TIME));
            break;
        }
        reader.read(place);
    }
    missing.extend(reader.missing());
    let (groups, more_groups) = group(&reader.threads);
    let read = reader.threads.len();
    Reading { found: Some(Threads { total: places.len(), read, groups, more_groups }), missing }
}

/// The directories of a process's threads.
fn tasks(tree: &Tree, pid: i32) -> Vec<PathBuf> {
    let entries = fs::read_dir(tree.of(pid, "task"));
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Reads one thread after the other.
#[derive(Default)]
struct Reader {
    threads: Vec<Thread>,
    /// Why stacks are not shown, once one was refused: then none is.
    no_stacks: Option<String>,
}

impl Reader {
    fn read(&mut self, place: &Path) {
        let text = |name: &str| text_of(&place.join(name), MAX_TEXT);
        // One that has ended meanwhile is left out.
        let Some(stat) = text("stat").ok().and_then(|line| Stat::parse(&line)) else { return };
        let waits_in = text("wchan").ok().and_then(|text| wait_channel(&text));
        let stack = match &self.no_stacks {
            Some(_) => Vec::new(),
            None => text("stack").map_or_else(|error| self.refused(&error), |text| frames(&text)),
        };
        let Stat { pid, name, state, .. } = stat;
        self.threads.push(Thread { id: pid, name, state, waits_in, stack });
    }

    fn refused(&mut self, error: &io::Error) -> Vec<String> {
        let why = match error.kind() {
            ErrorKind::PermissionDenied => format!("{error}: CAP_SYS_ADMIN is needed"),
            ErrorKind::NotFound => "this kernel does not show them".to_owned(),
            // The thread has ended.
            _ => return Vec::new(),
        };
        self.no_stacks = Some(why);
        Vec::new()
    }

    fn missing(&self) -> impl Iterator<Item = Missing> {
        let stacks = self.no_stacks.as_ref().map(|why| Missing::new("kernel stacks", why));
        let waits = |thread: &Thread| matches!(thread.state, 'S' | 'D');
        let hidden = self.threads.iter().any(waits)
            && self.threads.iter().all(|thread| thread.waits_in.is_none());
        let why = "the kernel shows none: CAP_SYS_PTRACE is needed for processes of other users";
        stacks.into_iter().chain(hidden.then(|| Missing::new("wait channels", why)))
    }
}

/// The text of `wchan`: a function's name; `0` if the thread runs or may not be seen.
fn wait_channel(text: &str) -> Option<String> {
    let name = text.trim();
    (!matches!(name, "" | "0")).then(|| plain(name.as_bytes(), MAX_FRAME))
}

/// The functions in the text of `stack`, whose lines are `[<0>] name+0x12/0x340 [module]`. Offsets are
/// left out, so that threads at the same place are equal.
fn frames(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.trim();
        let place = line.split_once("] ").map_or(line, |(_, place)| place);
        let name = place.split('+').next().unwrap_or_default().trim();
        (!name.is_empty()).then(|| plain(name.as_bytes(), MAX_FRAME))
    };
    text.lines().filter_map(name).take(MAX_FRAMES).collect()
}

/// Groups threads by state, wait channel and stack; returns the largest groups and the number of the
/// others.
fn group(threads: &[Thread]) -> (Vec<Group>, usize) {
    let mut groups: BTreeMap<(char, &Option<String>, &Vec<String>), Group> = BTreeMap::new();
    for thread in threads {
        let Thread { id, name, state, waits_in, stack } = thread;
        let group = groups.entry((*state, waits_in, stack)).or_insert_with(|| Group {
            count: 0,
            state: *state,
            waits_in: waits_in.clone(),
            stack: stack.clone(),
            names: BTreeMap::new(),
            ids: Vec::new(),
        });
        group.count += 1;
        if group.ids.len() < MAX_NAMES {
            group.ids.push(*id);
        }
        if group.names.len() < MAX_NAMES || group.names.contains_key(name) {
            *group.names.entry(name.clone()).or_default() += 1;
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    let more = groups.len().saturating_sub(MAX_GROUPS);
    groups.truncate(MAX_GROUPS);
    (groups, more)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier, Mutex},
        thread,
        time::Duration,
    };

    use paramedic_core::target::Cgroups;

    use super::*;

    fn thread_at(id: i32, name: &str, state: char, waits_in: &str, stack: &[&str]) -> Thread {
        Thread {
            id,
            name: name.to_owned(),
            state,
            waits_in: wait_channel(waits_in),
            stack: stack.iter().map(|&frame| frame.to_owned()).collect(),
        }
    }

    fn own() -> Target {
        let stat = Tree::default().stat(std::process::id().cast_signed()).unwrap();
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        Target { main: Some(stat.instance()), cgroups, ..Target::for_tests("own", 1) }
    }

    #[test]
    fn a_wait_channel_of_0_or_nothing_is_none() {
        assert_eq!(wait_channel("0"), None);
        assert_eq!(wait_channel(""), None);
        assert_eq!(wait_channel("hrtimer_nanosleep"), Some("hrtimer_nanosleep".to_owned()));
        assert!(wait_channel(&"x".repeat(5000)).unwrap().len() <= MAX_FRAME);
    }

    #[test]
    fn frames_are_names_without_addresses_and_offsets() {
        let text = "[<0>] futex_wait_queue+0x63/0x90\n[<0>] do_futex+0xc6/0x190 [mod]\n\n\
                    [<ffffffff8108>] odd\n";
        assert_eq!(frames(text), ["futex_wait_queue", "do_futex", "odd"]);
        assert_eq!(frames(""), Vec::<String>::new());
        assert_eq!(frames(&"[<0>] f+0x1/0x2\n".repeat(500)).len(), MAX_FRAMES);
    }

    #[test]
    fn equal_threads_are_one_group_and_the_largest_comes_first() {
        let stuck = |id| thread_at(id, "worker", 'S', "futex_wait_queue", &["futex", "syscall"]);
        let threads = [
            thread_at(1, "main", 'S', "ep_poll", &["ep_poll", "syscall"]),
            stuck(2),
            stuck(3),
            thread_at(4, "other", 'S', "futex_wait_queue", &["futex", "syscall"]),
            thread_at(5, "disk", 'D', "io_schedule", &[]),
        ];
        let (groups, more) = group(&threads);
        assert_eq!((groups.len(), more), (3, 0));
        assert_eq!((groups[0].count, groups[0].state), (3, 'S'));
        assert_eq!(groups[0].waits_in.as_deref(), Some("futex_wait_queue"));
        assert_eq!(groups[0].names, [("worker".to_owned(), 2), ("other".to_owned(), 1)].into());
        assert_eq!(groups[0].ids, [2, 3, 4]);
    }

    #[test]
    fn groups_names_and_ids_are_bounded() {
        let many: Vec<Thread> =
            (0..300).map(|id| thread_at(id, "t", 'S', &format!("f{id}"), &[])).collect();
        let (groups, more) = group(&many);
        assert_eq!((groups.len(), more), (MAX_GROUPS, 300 - MAX_GROUPS));
        let named: Vec<Thread> =
            (0..300).map(|id| thread_at(id, &format!("t{id}"), 'S', "f", &[])).collect();
        let (groups, _) = group(&named);
        assert_eq!(groups[0].count, 300);
        assert_eq!((groups[0].names.len(), groups[0].ids.len()), (MAX_NAMES, MAX_NAMES));
    }

    #[test]
    fn threads_of_this_process_that_wait_are_found_by_name_and_wait_channel() {
        let lock = Arc::new(Mutex::new(()));
        let held = lock.lock().unwrap();
        let ready = Arc::new(Barrier::new(4));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let (lock, ready) = (Arc::clone(&lock), Arc::clone(&ready));
                let wait = move || {
                    ready.wait();
                    drop(lock.lock());
                };
                thread::Builder::new().name("stuck-in-lock".to_owned()).spawn(wait).unwrap()
            })
            .collect();
        ready.wait();
        let deadline = Instant::now() + Duration::from_secs(10);
        let group = loop {
            let read = read(&Tree::default(), &own(), deadline);
            let groups = read.found.unwrap().groups;
            let of_them = |group: &Group| group.names.get("stuck-in-lock") == Some(&3);
            if let Some(group) = groups.into_iter().find(of_them) {
                break group;
            }
            assert!(Instant::now() < deadline, "they are not seen to wait at one place");
            thread::sleep(Duration::from_millis(10));
        };
        drop(held);
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(group.state, 'S');
        assert!(group.waits_in.is_none_or(|name| name.contains("futex")), "a lock is a futex");
    }

    #[test]
    fn what_may_not_be_read_is_missing_with_the_right_that_is_needed() {
        let mut reader = Reader::default();
        reader.threads.push(thread_at(1, "a", 'S', "0", &[]));
        assert_eq!(reader.refused(&ErrorKind::PermissionDenied.into()), Vec::<String>::new());
        let missing: Vec<Missing> = reader.missing().collect();
        assert!(missing[0].why.contains("CAP_SYS_ADMIN"), "{missing:?}");
        assert!(missing[1].why.contains("CAP_SYS_PTRACE"), "{missing:?}");
    }

    #[test]
    fn without_time_no_thread_is_read() {
        let read = read(&Tree::default(), &own(), Instant::now());
        let threads = read.found.unwrap();
        assert_eq!(threads.read, 0);
        assert!(threads.total > 0);
        assert_eq!(read.missing, [Missing::new("threads", NO_TIME)]);
    }
}
