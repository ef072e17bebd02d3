//! Which process of those behind a port is the service.
//!
//! A service is the process that accepts connections, and its family: a pre-fork master that holds
//! the socket for its workers, or one whose workers each open their own (`SO_REUSEPORT`). A process
//! that merely holds the socket (`systemd --user`, a script that opened it) is not the service, and
//! its other children do not belong to it. Children that the service forked without another program
//! are part of it (uWSGI's workers beside its HTTP router, nginx's cache manager). If the family is
//! ambiguous there is no main process, and nothing is watched.
//!
//! Whether a process accepts is only known for an instant: a positive result counts, a negative one
//! alone decides nothing.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
};

use super::accepts::Accepts;
use crate::procfs::{Table, Tree};

/// Facts about processes besides the table; `None` means "not known".
pub(super) trait Facts {
    /// Whether it accepts connections.
    fn accepts(&self, pid: i32) -> Accepts;
    /// The file that it executes, by device and inode.
    fn program(&self, pid: i32) -> Option<(u64, u64)>;
    /// Whether it is a fork of the other that has not started another program since.
    fn is_fork(&self, pid: i32, of: i32) -> bool;
    /// Whether it is a helper process of its parent's language runtime, and not a service.
    fn is_helper(&self, pid: i32) -> bool;
    /// Its cgroup.
    fn place(&self, pid: i32) -> Option<String>;
    /// Whether it is the agent or one of its ancestors.
    fn protected(&self, pid: i32) -> bool;
}

/// Helpers that Python's multiprocessing starts beside its workers.
const HELPERS: [&str; 2] = ["multiprocessing.resource_tracker", "multiprocessing.forkserver"];

/// The facts from this machine.
pub(super) struct Known<'a> {
    pub(super) tree: &'a Tree,
    pub(super) table: &'a Table,
    pub(super) accepts: BTreeMap<i32, Accepts>,
}

impl Facts for Known<'_> {
    fn accepts(&self, pid: i32) -> Accepts {
        self.accepts.get(&pid).copied().unwrap_or(Accepts::Maybe)
    }

    fn program(&self, pid: i32) -> Option<(u64, u64)> {
        let file = fs::metadata(self.tree.of(pid, "exe")).ok()?;
        Some((file.dev(), file.ino()))
    }

    fn is_fork(&self, pid: i32, of: i32) -> bool {
        let stack = |pid| self.tree.read(pid, "stat").ok().and_then(|text| first_stack(&text));
        let own = stack(pid);
        own.is_some() && own == stack(of) && self.program(pid) == self.program(of)
    }

    fn is_helper(&self, pid: i32) -> bool {
        let line = self.tree.read(pid, "cmdline").unwrap_or_default();
        HELPERS.iter().any(|helper| line.contains(helper))
    }

    fn place(&self, pid: i32) -> Option<String> {
        self.tree.read(pid, "cgroup").ok()
    }

    fn protected(&self, pid: i32) -> bool {
        self.table.descends(std::process::id().cast_signed(), pid)
    }
}

/// Start of the stack (field 28 of proc(5)): exec sets a random one, and a fork keeps it. 0 means
/// "not reported".
fn first_stack(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_ascii_whitespace().nth(25)?.parse().ok().filter(|&address| address > 1)
}

/// The main process of the service whose sockets these processes hold; `None` if they are not one
/// service.
pub(super) fn main_of(
    held: &BTreeMap<i32, BTreeSet<u64>>,
    table: &Table,
    facts: &impl Facts,
) -> Option<i32> {
    // Socket activation: the init system keeps the socket, the service is another process.
    let holders: Vec<i32> = held.keys().copied().filter(|&p| p != 1 || held.len() == 1).collect();
    let family = Family { held, table, facts };
    match *holders {
        [only] => Some(family.master_of(only).unwrap_or(only)),
        _ => family.main(&holders),
    }
}

struct Family<'a, F> {
    held: &'a BTreeMap<i32, BTreeSet<u64>>,
    table: &'a Table,
    facts: &'a F,
}

impl<F: Facts> Family<'_, F> {
    /// Each step leaves fewer holders, so it ends.
    fn main(&self, holders: &[i32]) -> Option<i32> {
        let leads = |main: &&i32| holders.iter().all(|&pid| self.table.descends(pid, **main));
        match (holders, holders.iter().find(leads)) {
            (&[only], _) => Some(only),
            (_, Some(&top)) => self.led_by(top, holders),
            (_, None) => self.without_holder(holders),
        }
    }

    /// The master of the only holder: the same program, holds nothing itself and has no other
    /// children (`haproxy -W`).
    fn master_of(&self, only: i32) -> Option<i32> {
        let master = self.table.0.get(&only)?.parent;
        let part = |&child: &i32| {
            child == only || self.facts.is_fork(child, master) || self.facts.is_helper(child)
        };
        let is_master = self.same(only, master)
            && self.children(master).iter().all(part)
            && self.is_master(master, &[only]);
        is_master.then_some(master)
    }

    /// All holders descend from one of them.
    fn led_by(&self, top: i32, holders: &[i32]) -> Option<i32> {
        let accepting = self.accepting(holders);
        if accepting.is_empty() || accepting.contains(&top) {
            return Some(top);
        }
        let children = self.children(top);
        let below = |child: i32, all: &[i32]| -> Vec<i32> {
            all.iter().copied().filter(|&pid| self.table.descends(pid, child)).collect()
        };
        let over = |all: &[i32]| -> Vec<i32> {
            children.iter().copied().filter(|&child| !below(child, all).is_empty()).collect()
        };
        let holding = over(holders);
        let elsewhere = |pid: &i32| self.facts.place(*pid) != self.facts.place(top);
        match *over(&accepting) {
            // One of its children serves. The others are its spare workers, or other services.
            [serving] => {
                let stranger = accepting.iter().all(elsewhere);
                let part = |child: &i32| {
                    holding.contains(child)
                        || self.facts.is_fork(*child, top)
                        || self.facts.is_helper(*child)
                };
                let all_parts = children.iter().all(part);
                let spare = |&pid: &i32| {
                    pid != top && !self.table.descends(pid, serving) && self.same(pid, top)
                };
                if !stranger && (all_parts || holders.iter().any(spare)) {
                    return Some(top);
                }
                self.main(&below(serving, holders))
            }
            // A pre-fork master, if all its children are workers, or all workers are its copies.
            _ => {
                let workers = holding.len() == children.len()
                    || accepting.iter().all(|&pid| self.same(pid, top));
                workers.then_some(top)
            }
        }
    }

    /// Several holders, none of which is the ancestor of the others.
    fn without_holder(&self, holders: &[i32]) -> Option<i32> {
        if let Some(master) = self.ancestor(holders).filter(|&pid| self.is_master(pid, holders)) {
            return Some(master);
        }
        let accepting = self.accepting(holders);
        if !accepting.is_empty() && accepting.len() < holders.len() {
            return self.main(&accepting);
        }
        // All inherited one socket from a process that has closed it: take the oldest.
        let held = holders.iter().filter_map(|pid| self.held.get(pid).cloned());
        let inherited = held.reduce(|a, b| &a & &b).is_some_and(|common| !common.is_empty());
        let age = |pid: &i32| self.table.0.get(pid).map_or(u64::MAX, |stat| stat.start_time);
        holders.iter().copied().filter(|_| inherited).min_by_key(age)
    }

    /// Whether a process that holds no socket is the master of those that do, and not a shell or a
    /// supervisor of more: those give each service its own process group or cgroup, run another
    /// program, or have other children.
    fn is_master(&self, master: i32, holders: &[i32]) -> bool {
        if master <= 1 || self.facts.protected(master) {
            return false;
        }
        let group = |pid: i32| self.table.0.get(&pid).map(|stat| stat.group);
        let place = self.facts.place(master);
        let beside = |&pid: &i32| {
            place.is_some() && self.facts.place(pid) == place && group(pid) == group(master)
        };
        let holds = |&child: &i32| holders.iter().any(|&pid| self.table.descends(pid, child));
        holders.iter().all(beside)
            && (holders.iter().all(|&pid| self.same(pid, master))
                || self.children(master).iter().all(holds))
    }

    /// The nearest common ancestor.
    fn ancestor(&self, pids: &[i32]) -> Option<i32> {
        let (&first, others) = pids.split_first()?;
        self.table.line(first).find(|&one| others.iter().all(|&pid| self.table.descends(pid, one)))
    }

    fn accepting(&self, holders: &[i32]) -> Vec<i32> {
        holders.iter().copied().filter(|&pid| self.facts.accepts(pid) != Accepts::No).collect()
    }

    fn children(&self, parent: i32) -> Vec<i32> {
        let children = self.table.0.values().filter(|stat| stat.parent == parent && stat.runs());
        children.map(|stat| stat.pid).collect()
    }

    fn same(&self, one: i32, other: i32) -> bool {
        let program = self.facts.program(one);
        program.is_some() && program == self.facts.program(other)
    }
}

#[cfg(test)]
mod tests;
