//! Starts and stops watching a target.
use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use agent_common::{Counters, Latencies, Throttling};
use aya::{
    maps::{MapError, PerCpuValues},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, cgroup_skb::CgroupSkbLink,
    },
    util::nr_cpus,
};
use paramedic_core::target::{Cgroup, Target};
use thiserror::Error;

use super::{
    Kernel, Maps, connections,
    slots::{Change, Slot, cgroup_keys, traffic_cgroup, traffic_key},
};

/// Why a target cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// Its cgroup2 directory is unknown.
    #[error("no cgroup2 directory: mount cgroup2 where the agent can see it")]
    NoUnified,
    /// The directory is gone or not readable.
    #[error("cannot open the cgroup {}", path.display())]
    Open {
        /// Path of the directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The directory was replaced by another one.
    #[error("the cgroup {} was replaced by another: look the target up again", .0.display())]
    Replaced(PathBuf),
    /// Another target has the same cgroup and port.
    #[error("another target has the same cgroup and port: unwatch it first")]
    Taken,
    /// No slot is left.
    #[error("all slots are in use: load with a larger capacity")]
    Full,
    /// The slot was freed.
    #[error("the slot belongs to no target any more")]
    Stale,
    /// The kernel refused to attach a program.
    #[error("cannot attach to the cgroup {}", path.display())]
    Attach {
        /// Path of the directory.
        path: PathBuf,
        /// The kernel's error.
        source: ProgramError,
    },
    /// The kernel refused to change a map.
    #[error("cannot change the kernel's map of targets")]
    Map(#[from] MapError),
    /// The number of CPUs is unknown.
    #[error("cannot count the CPUs")]
    Cpus(#[source] io::Error),
}

/// The packet programs on one directory; dropping them detaches the programs.
#[derive(Debug)]
#[expect(dead_code, reason = "held for their drop")]
pub(super) struct Links {
    egress: Option<CgroupSkbLink>,
    ingress: Option<CgroupSkbLink>,
}

/// Where the programs are attached, and the directories of each slot's target: one, or its
/// process's and its sockets', of which one may contain the other.
#[derive(Debug, Default)]
pub(super) struct Watched {
    links: HashMap<PathBuf, Links>,
    places: HashMap<u32, Vec<PathBuf>>,
}

impl Kernel {
    /// Starts to count for a target, from zero, and arms it.
    ///
    /// Signals of a whole cgroup (throttling, OOM kills, its calls as a client) go to one target
    /// per cgroup: the first, and when it is unwatched the next. Traffic goes by the listening
    /// socket's own cgroup, if the target names another ([`Cgroups::traffic`]) and is narrowed to a
    /// port.
    ///
    /// [`Cgroups::traffic`]: paramedic_core::target::Cgroups::traffic
    ///
    /// # Errors
    /// No cgroup2 directory, or it was replaced; the same cgroup and port is watched already; no
    /// room; the kernel refuses. Nothing is left behind then.
    pub fn watch(&mut self, target: &Target) -> Result<Slot, WatchError> {
        let unified = target.cgroups.unified.as_ref().ok_or(WatchError::NoUnified)?;
        check(unified)?;
        let sockets = traffic_cgroup(target).filter(|sockets| sockets.id != unified.id);
        sockets.map(check).transpose()?;
        let traffic = traffic_key(target).ok_or(WatchError::NoUnified)?;
        if self.slots.is_claimed(&traffic) {
            return Err(WatchError::Taken);
        }
        let slot = self.slots.take().ok_or(WatchError::Full)?;
        let mut keys = cgroup_keys(target);
        keys.push(traffic);
        let places = [Some(unified), sockets].into_iter().flatten().map(|cgroup| &cgroup.path);
        let installed = self.install(slot, places.cloned().collect(), &keys);
        if installed.is_err() {
            // The first error is the one to report.
            let _ = self.unwatch(slot);
        }
        installed.map(|()| slot)
    }

    /// Stops watching: no program stays attached for this target, no key, no count.
    ///
    /// # Errors
    /// The slot was freed before; or the kernel refuses a part of it, and the rest is done.
    pub fn unwatch(&mut self, slot: Slot) -> Result<(), WatchError> {
        if !self.slots.is_current(slot) {
            return Err(WatchError::Stale);
        }
        let disarmed = self.maps.armed.set(slot.index, 0, 0).map_err(WatchError::from);
        let changes = self.slots.release(slot);
        let changed =
            changes.into_iter().map(|change| self.maps.apply(change)).fold(Ok(()), Result::and);
        let places = self.watched.places.remove(&slot.index).unwrap_or_default();
        // All of them, the lower ones first: these must not get their own programs for a moment.
        let detached = places.iter().rev().map(|path| self.leave(path)).fold(Ok(()), Result::and);
        self.tls.leave(slot.index);
        let forgotten = connections::forget(&mut self.maps.connections, slot.index);
        let of_tls = connections::forget(&mut self.maps.tls_connections, slot.index);
        let changed = changed.and(forgotten).and(of_tls).map_err(WatchError::from);
        disarmed.and(changed).and(detached)
    }

    fn install(
        &mut self,
        slot: Slot,
        mut places: Vec<PathBuf>,
        keys: &[agent_common::Key],
    ) -> Result<(), WatchError> {
        self.maps.clear(slot.index)?;
        if slot.generation > 1 {
            // A packet that passed while the slot was freed may have left a connection to it.
            connections::forget(&mut self.maps.connections, slot.index)?;
        }
        // In this order a directory comes before those below it.
        places.sort();
        for path in places {
            let plan = self.cover.add(&path);
            self.watched.places.entry(slot.index).or_default().push(path);
            for path in &plan.attach {
                self.attach(path)?;
            }
            for path in &plan.detach {
                self.watched.links.remove(path);
            }
        }
        for change in self.slots.claim(slot, keys) {
            self.maps.apply(change)?;
        }
        Ok(self.maps.armed.set(slot.index, slot.generation, 0)?)
    }

    fn leave(&mut self, path: &Path) -> Result<(), WatchError> {
        let plan = self.cover.remove(path);
        for path in &plan.detach {
            self.watched.links.remove(path);
        }
        // All of them, even if one is gone meanwhile.
        plan.attach.iter().map(|path| self.attach(path)).fold(Ok(()), Result::and)
    }

    fn attach(&mut self, path: &Path) -> Result<(), WatchError> {
        if self.watched.links.contains_key(path) {
            return Ok(());
        }
        let directory = File::open(path)
            .map_err(|source| WatchError::Open { path: path.to_owned(), source })?;
        let refused = |source| WatchError::Attach { path: path.to_owned(), source };
        let egress = self.link("http_egress", &directory, CgroupSkbAttachType::Egress);
        let ingress = self.link("http_ingress", &directory, CgroupSkbAttachType::Ingress);
        let links = Links { egress: egress.map_err(refused)?, ingress: ingress.map_err(refused)? };
        self.watched.links.insert(path.to_owned(), links);
        Ok(())
    }

    /// `None` if this kernel refused the program itself, which [`Kernel::probes`] reports.
    fn link(
        &mut self,
        program: &str,
        directory: &File,
        attach_type: CgroupSkbAttachType,
    ) -> Result<Option<CgroupSkbLink>, ProgramError> {
        let Some(program) = self.ebpf.program_mut(program) else { return Ok(None) };
        let program: &mut CgroupSkb = program.try_into()?;
        if program.fd().is_err() {
            return Ok(None);
        }
        // Links are always additive; the flag for that is refused.
        let id = program.attach(directory, attach_type, CgroupAttachMode::Single)?;
        program.take_link(id).map(Some)
    }
}

impl Maps {
    pub(super) fn apply(&mut self, change: Change) -> Result<(), MapError> {
        match change {
            Change::Insert(key, slot) => self.targets.insert(key, slot, 0),
            Change::Remove(key) => match self.targets.remove(&key) {
                // It was never inserted: watching failed before.
                Err(MapError::KeyNotFound) => Ok(()),
                other => other,
            },
        }
    }

    /// Starts a slot from zero.
    fn clear(&mut self, slot: u32) -> Result<(), WatchError> {
        let cpus = nr_cpus().map_err(|(_, error)| WatchError::Cpus(error))?;
        let zeros = PerCpuValues::try_from(vec![Counters::default(); cpus]);
        self.counters.set(slot, zeros.map_err(WatchError::Cpus)?, 0)?;
        let zeros = PerCpuValues::try_from(vec![Latencies::default(); cpus]);
        self.latencies.set(slot, zeros.map_err(WatchError::Cpus)?, 0)?;
        Ok(self.throttling.set(slot, Throttling::default(), 0)?)
    }
}

/// A directory that was removed and created again is another cgroup; its name proves nothing.
fn check(cgroup: &Cgroup) -> Result<(), WatchError> {
    let found = cgroup
        .path
        .metadata()
        .map_err(|source| WatchError::Open { path: cgroup.path.clone(), source })?;
    if found.ino() == cgroup.id { Ok(()) } else { Err(WatchError::Replaced(cgroup.path.clone())) }
}
