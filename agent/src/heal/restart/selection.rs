//! Selects the processes to restart.
use std::{collections::BTreeSet, fs, io};

use paramedic_core::target::{Cgroup, Cgroups, ProcessId};
use paramedic_host::{
    cgroup,
    mountinfo::Hierarchies,
    pidfd::PidFd,
    procfs::{Stat, Table, Tree, leads_namespace},
};

use super::{RestartError, neighbour};

/// The inode of the kernel's initial PID namespace (`PROC_PID_INIT_INO`).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The instance to restart.
#[derive(Debug)]
pub(in crate::heal) struct Candidate {
    pub(in crate::heal) tree: Tree,
    pub(in crate::heal) main: ProcessId,
    pub(in crate::heal) cgroups: Cgroups,
    /// The port that identifies it, if it is not a container.
    pub(in crate::heal) port: Option<u16>,
}

/// A pinned process of the target.
#[derive(Debug)]
pub(in crate::heal) struct Pinned {
    pub(in crate::heal) instance: ProcessId,
    pub(in crate::heal) fd: PidFd,
    /// SIGTERM would not reach it.
    pub(super) at_once: bool,
    /// Its `/proc/PID/status`, read while it was pinned.
    pub(in crate::heal) status: String,
}

impl Candidate {
    /// Checks that the judged instance exists.
    pub(super) fn present(&self) -> Result<(), RestartError> {
        let stat = self.tree.stat(self.main.pid).map_err(|_| RestartError::Ended(self.main))?;
        if stat.instance() != self.main {
            return Err(RestartError::Changed(self.main));
        }
        if stat.runs() { Ok(()) } else { Err(RestartError::Ended(self.main)) }
    }

    /// Chooses the target's processes and pins them, the main one first. Skips others that end
    /// meanwhile, or are in another cgroup.
    pub(super) fn pin(&self) -> Result<Vec<Pinned>, RestartError> {
        self.present()?;
        let home = self.cgroups.unified.as_ref().or(self.cgroups.cpu.as_ref());
        let alone = self.tree.leads_namespace(self.main.pid);
        let members = match home {
            // The others end with the first process of their PID namespace.
            _ if alone => Some(vec![self.main.pid]),
            Some(home) if !self.cgroups.shared => Some(cgroup::members(home)?),
            _ => None,
        };
        let table = self.tree.table()?;
        let protected = protected(&table, self.own_pid(), self.in_host_namespace());
        let chosen = choose(&table, self.main, members.as_deref(), &protected)?;
        if let Some(port) = self.port.filter(|_| !alone)
            && let Some(other) = neighbour::find(&self.tree, &table, self.main, &chosen, port)?
        {
            let neighbour::Neighbour { name, pid, port } = other;
            return Err(RestartError::OtherService { name, pid, port });
        }
        let hierarchies = self.tree.hierarchies()?;
        let pinned = chosen.into_iter().map(|instance| self.pin_one(&hierarchies, instance));
        pinned.filter_map(Result::transpose).collect()
    }

    fn pin_one(
        &self,
        hierarchies: &Hierarchies,
        instance: ProcessId,
    ) -> Result<Option<Pinned>, RestartError> {
        let is_main = instance == self.main;
        let fd = match PidFd::open(instance.pid) {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                return Err(RestartError::Unsupported);
            }
            Err(_) if is_main => return Err(RestartError::Ended(instance)),
            Err(_) => return Ok(None),
        };
        // In this order: it lived before the pidfd was opened, and it is still the same now, so the
        // pidfd refers to it.
        let status = self.tree.read(instance.pid, "status").unwrap_or_default();
        let theirs = self.tree.cgroups(hierarchies, instance.pid);
        let at_home = theirs.is_ok_and(|theirs| stands_in(&theirs, &self.cgroups));
        if !self.tree.still_alive(instance) {
            return if is_main { Err(RestartError::Ended(instance)) } else { Ok(None) };
        }
        if !at_home {
            return if is_main { Err(RestartError::Changed(instance)) } else { Ok(None) };
        }
        Ok(Some(Pinned { instance, fd, at_once: deaf_to_term(&status), status }))
    }

    /// Pins the main process alone.
    pub(in crate::heal) fn pin_main(&self) -> Result<Pinned, RestartError> {
        self.present()?;
        if protected(&self.tree.table()?, self.own_pid(), self.in_host_namespace())
            .contains(&self.main.pid)
        {
            return Err(RestartError::Protected(self.main));
        }
        let pinned = self.pin_one(&self.tree.hierarchies()?, self.main)?;
        pinned.ok_or(RestartError::Ended(self.main))
    }

    fn own_pid(&self) -> i32 {
        std::process::id().cast_signed()
    }

    /// In doubt, yes.
    fn in_host_namespace(&self) -> bool {
        let link: io::Result<_> = fs::read_link(self.tree.proc.join("self/ns/pid"));
        link.map_or(true, |name| name.as_os_str() == HOST_PID_NAMESPACE)
    }
}

/// Processes that are never signalled: the agent, its ancestors, the host's first process.
fn protected(table: &Table, own: i32, host: bool) -> BTreeSet<i32> {
    table.line(own).chain(host.then_some(1)).collect()
}

/// The main process and, if the cgroup belongs to the target alone (`members`), everything in it;
/// else its descendants. If a protected process is in the cgroup, it no longer belongs to the
/// target alone.
fn choose(
    table: &Table,
    main: ProcessId,
    members: Option<&[i32]>,
    protected: &BTreeSet<i32>,
) -> Result<Vec<ProcessId>, RestartError> {
    let stat = table.0.get(&main.pid).ok_or(RestartError::Ended(main))?;
    if stat.instance() != main {
        return Err(RestartError::Changed(main));
    }
    if protected.contains(&main.pid) {
        return Err(RestartError::Protected(main));
    }
    let members = members.filter(|m| !m.iter().any(|pid| protected.contains(pid)));
    let meant = |pid: i32| match members {
        Some(members) => members.contains(&pid),
        None => table.descends(pid, main.pid),
    };
    let others = table.0.values().filter(|s| s.pid != main.pid && s.runs());
    let others = others.filter(|s| meant(s.pid) && !protected.contains(&s.pid));
    Ok(std::iter::once(main).chain(others.map(Stat::instance)).collect())
}

/// Whether a process is in the target's cgroups, or below them if they belong to the target alone.
fn stands_in(theirs: &Cgroups, ours: &Cgroups) -> bool {
    let same = |theirs: &Option<Cgroup>, home: &Option<Cgroup>| match (theirs, home) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(theirs), Some(home)) if theirs.path == home.path => theirs.id == home.id,
        (Some(theirs), Some(home)) => !ours.shared && theirs.path.starts_with(&home.path),
    };
    same(&theirs.unified, &ours.unified)
        && same(&theirs.cpu, &ours.cpu)
        && same(&theirs.cpuacct, &ours.cpuacct)
        && same(&theirs.memory, &ours.memory)
}

/// Whether SIGTERM has no effect: the kernel delivers to the first process of a PID namespace only
/// signals that it catches, and SIGKILL from outside. A blocked signal is kept pending: a small
/// init (tini) receives them in that way.
fn deaf_to_term(status: &str) -> bool {
    let takes = |name| in_mask(status, name, libc::SIGTERM).unwrap_or(true);
    leads_namespace(status) && !takes("SigCgt:") && !takes("SigBlk:")
}

/// Whether a signal is in a mask of `/proc/PID/status`; `None` if that cannot be read.
pub(in crate::heal) fn in_mask(status: &str, name: &str, signal: i32) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask & 1 << (signal - 1) != 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MAIN: ProcessId = ProcessId { pid: 30, start_time: 30 };

    /// init 1 ─ shell 10 ─ agent 11; init ─ supervisor 20 ─ main 30 ─ workers 31, 32 ─ zombie 33;
    /// an orphan 40.
    fn table() -> Table {
        let family = [(1, 0), (10, 1), (11, 10), (20, 1), (30, 20), (31, 30), (32, 30), (33, 32)];
        let stat = |(pid, parent): (i32, i32)| {
            let state = if pid == 33 { 'Z' } else { 'S' };
            let (name, start_time) = ("x".to_owned(), u64::from(pid.unsigned_abs()));
            (pid, Stat { pid, name, state, parent, group: 1, start_time, ..Stat::default() })
        };
        Table(family.into_iter().chain([(40, 1)]).map(stat).collect())
    }

    fn chosen(members: Option<&[i32]>) -> Vec<i32> {
        let table = table();
        let chosen = choose(&table, MAIN, members, &protected(&table, 11, true)).unwrap();
        chosen.into_iter().map(|instance| instance.pid).collect()
    }

    #[test]
    fn in_a_shared_cgroup_the_main_process_and_its_descendants_are_chosen() {
        assert_eq!(chosen(None), [30, 31, 32]);
    }

    #[test]
    fn in_an_exclusive_cgroup_all_members_are_chosen_main_first() {
        assert_eq!(chosen(Some(&[40, 20, 31, 30])), [30, 20, 31, 40]);
        assert_eq!(chosen(Some(&[30, 33, 99, 0])), [30], "zombies, the ended, the unseen");
        assert_eq!(chosen(Some(&[])), [30]);
    }

    #[test]
    fn a_cgroup_with_the_agent_in_it_is_not_exclusive() {
        assert_eq!(chosen(Some(&[30, 31, 40, 11])), [30, 31, 32]);
        assert_eq!(chosen(Some(&[30, 40, 10])), [30, 31, 32]);
        assert_eq!(chosen(Some(&[30, 40, 1])), [30, 31, 32]);
    }

    #[test]
    fn protected_ended_and_changed_processes_are_refused() {
        let table = table();
        let guard = protected(&table, 11, true);
        let choose = |pid, start_time| choose(&table, ProcessId { pid, start_time }, None, &guard);
        for pid in [1_i32, 10, 11] {
            let start_time = u64::from(pid.unsigned_abs());
            assert!(matches!(choose(pid, start_time), Err(RestartError::Protected(_))));
        }
        assert!(matches!(choose(30, 31), Err(RestartError::Changed(_))));
        assert!(matches!(choose(99, 99), Err(RestartError::Ended(_))));
        let container = protected(&table, 31, false);
        assert_eq!(container, [1, 20, 30, 31].into(), "its ancestors in any case");
        assert_eq!(protected(&Table::default(), 7, false), [7].into());
        assert_eq!(protected(&Table::default(), 7, true), [1, 7].into());
    }

    fn home(path: &str, id: u64, shared: bool) -> Cgroups {
        let group = Some(Cgroup { path: Path::new(path).to_owned(), id });
        Cgroups { unified: group.clone(), memory: group, shared, ..Cgroups::default() }
    }

    #[test]
    fn a_process_outside_the_targets_cgroup_is_not_chosen() {
        let stands =
            |path, id, shared| stands_in(&home(path, id, true), &home("/c/app", 7, shared));
        assert!(stands("/c/app", 7, false) && stands("/c/app", 7, true));
        assert!(!stands("/c/app", 8, false), "created again under the same name");
        assert!(stands("/c/app/worker", 8, false), "below it, and it belongs to the target alone");
        assert!(!stands("/c/app/worker", 8, true), "below it, but it is shared");
        assert!(!stands("/c/app2", 7, false) && !stands("/c", 7, false));
        assert!(!stands_in(&Cgroups::default(), &home("/c/app", 7, false)));
        let elsewhere = Cgroups { memory: home("/d", 9, true).memory, ..home("/c/app", 7, true) };
        assert!(!stands_in(&elsewhere, &home("/c/app", 7, false)), "one hierarchy is enough");
    }

    #[test]
    fn a_containers_first_process_without_a_handler_is_deaf() {
        let status = |pids: &str, caught: &str| {
            let blocked = "SigBlk:\t0000000000000000";
            deaf_to_term(&format!("Name:\tx\nNSpid:\t{pids}\n{blocked}\nSigCgt:\t{caught}\n"))
        };
        assert!(status("4242\t1", "0000000000000000"));
        assert!(status("4242\t7\t1", "0000000180000002"));
        assert!(!status("4242\t1", "0000000000004000"), "it catches SIGTERM");
        assert!(!status("4242", "0000000000000000") && !status("4242\t7", "0"));
        let tini = "NSpid:\t4242\t1\nSigBlk:\t0000000000004000\nSigCgt:\t0000000000000000\n";
        assert!(!deaf_to_term(tini), "it waits for what it blocks");
        assert!(!status("4242\t1", "x") && !deaf_to_term("") && !deaf_to_term("NSpid:\t5\t1\n"));
    }
}
