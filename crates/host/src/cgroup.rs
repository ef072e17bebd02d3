//! Finds the cgroups of a process, and whether other processes share them.
//!
//! A cgroup-wide number (CPU, memory, throttling, OOM kills) belongs to a target only if no foreign
//! process shares the cgroup. In doubt it counts as shared: a number that another service may have
//! caused must never justify a remedy.
use std::{
    collections::VecDeque,
    fs, io,
    ops::ControlFlow,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
};

use paramedic_core::target::{Cgroup, Cgroups};

use crate::{
    mountinfo::{Hierarchies, Mount},
    procfs::{Table, Tree, read_text},
};

/// Maximum number of directories to walk below one target's cgroup.
const MAX_DIRECTORIES: usize = 4096;

/// The paths in one `/proc/PID/cgroup`, as the kernel writes them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Paths<'a> {
    unified: Option<&'a str>,
    cpu: Option<&'a str>,
    cpuacct: Option<&'a str>,
    memory: Option<&'a str>,
}

impl<'a> Paths<'a> {
    /// Parses lines of `id:controllers:path`; cgroup2 is number 0 and names no controller.
    fn parse(text: &'a str) -> Self {
        let mut paths = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(id), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if id == "0" && controllers.is_empty() {
                paths.unified = Some(path);
            }
            for controller in controllers.split(',') {
                match controller {
                    "cpu" => paths.cpu = Some(path),
                    "cpuacct" => paths.cpuacct = Some(path),
                    "memory" => paths.memory = Some(path),
                    _ => {}
                }
            }
        }
        paths
    }
}

impl Tree {
    /// The mount points of the hierarchies, as this process sees them.
    ///
    /// # Errors
    /// If `/proc/self/mountinfo` cannot be read.
    pub fn hierarchies(&self) -> io::Result<Hierarchies> {
        let mut found = Hierarchies::parse(&read_text(&self.proc.join("self/mountinfo"))?);
        for mount in found.mounts_mut().filter(|m| m.above() > 0) {
            mount.namespace = self.namespace_root(mount);
        }
        Ok(found)
    }

    /// Finds the agent's own namespace root in a mount that starts above it: the directory that
    /// contains the agent, as many levels down as the mount starts up.
    fn namespace_root(&self, mount: &Mount) -> Option<PathBuf> {
        let own = i32::try_from(std::process::id()).ok()?;
        let top = self.below_root(&mount.point);
        let holds_us = |dir: &Path| procs(dir).is_ok_and(|pids| pids.contains(&own));
        let mut level = vec![top.clone()];
        for _ in 0..mount.above() {
            level = level.iter().flat_map(|dir| children(dir)).take(MAX_DIRECTORIES).collect();
        }
        level.into_iter().find(|dir| holds_us(dir))?.strip_prefix(&top).ok().map(Into::into)
    }

    /// The cgroups of a process. `shared` is true until [`claim`] decides it. A hierarchy that is
    /// not mounted, or does not show the cgroup, is `None`.
    ///
    /// # Errors
    /// `NotFound` if the process has ended.
    pub fn cgroups(&self, hierarchies: &Hierarchies, pid: i32) -> io::Result<Cgroups> {
        let text = self.read(pid, "cgroup")?;
        let paths = Paths::parse(&text);
        let find = |mount: &Option<Mount>, path: Option<&str>| {
            self.cgroup(&mount.as_ref()?.directory(path?)?)
        };
        let unified = find(&hierarchies.unified, paths.unified);
        // A controller that v1 does not mount is in cgroup2.
        let v1_or_unified = |mount: &Option<Mount>, path| match mount {
            Some(_) => find(mount, path),
            None => unified.clone(),
        };
        Ok(Cgroups {
            cpu: v1_or_unified(&hierarchies.cpu, paths.cpu),
            cpuacct: v1_or_unified(&hierarchies.cpuacct, paths.cpuacct),
            memory: v1_or_unified(&hierarchies.memory, paths.memory),
            unified,
            traffic: None,
            shared: true,
        })
    }

    /// The cgroup2 directory with this id, below the root: programs at the root would see the whole
    /// machine's packets. `None` if no mount shows it, or it is too deep among too many.
    pub fn cgroup_of_id(&self, hierarchies: &Hierarchies, id: u64) -> Option<Cgroup> {
        let mount = hierarchies.unified.as_ref()?;
        let mut pending = VecDeque::from([self.below_root(&mount.point)]);
        let mut left = MAX_DIRECTORIES;
        while let Some(directory) = pending.pop_front() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry.ino() == id {
                    return open(&entry.path()).filter(|found| found.id == id);
                }
                left = left.checked_sub(1)?;
                pending.push_back(entry.path());
            }
        }
        None
    }

    fn cgroup(&self, directory: &Path) -> Option<Cgroup> {
        open(&self.below_root(directory))
    }

    pub(super) fn below_root(&self, absolute: &Path) -> PathBuf {
        self.root.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }
}

/// Opens this directory, if it is a cgroup.
pub fn open(path: &Path) -> Option<Cgroup> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some(Cgroup { path: path.to_owned(), id: metadata.ino() })
}

/// Decides which of `cgroups` belong to `main` alone. Sets `shared` if the directory of the unified
/// hierarchy or of the CPU contains (or may contain) other processes than `main` and its
/// descendants. Drops CPU accounting and memory if only these are shared.
pub fn claim(tree: &Tree, cgroups: &mut Cgroups, table: &Table, main: i32) {
    let ours = |pid| {
        // A pid newer than the table is known by its parent; one that has ended does not count.
        let newer = || tree.stat(pid).map_or(true, |s| table.descends(s.parent, main));
        table.descends(pid, main) || (!table.0.contains_key(&pid) && newer())
    };
    // 0 is a process of a PID namespace that is not visible here.
    let foreign = |group: &Cgroup| {
        let visit = |pid| match pid != 0 && ours(pid) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        !matches!(walk(&group.path, visit), Ok(ControlFlow::Continue(())))
    };
    let homeless = cgroups.unified.is_none() && cgroups.cpu.is_none();
    cgroups.shared = homeless
        || cgroups.unified.as_ref().is_some_and(foreign)
        || cgroups.cpu.as_ref().is_some_and(foreign);
    if !cgroups.shared {
        cgroups.cpuacct.take_if(|g| foreign(g));
        cgroups.memory.take_if(|g| foreign(g));
    }
}

/// The processes in a cgroup and below it.
///
/// # Errors
/// If a directory cannot be read, or there are too many.
pub fn members(group: &Cgroup) -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    let _ = walk(&group.path, |pid| {
        pids.push(pid);
        ControlFlow::Continue(())
    })?;
    Ok(pids)
}

/// Visits the pids of a cgroup, the nearest directories first.
fn walk(
    directory: &Path,
    mut visit: impl FnMut(i32) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut pending = VecDeque::from([directory.to_owned()]);
    let mut seen = 0;
    while let Some(dir) = pending.pop_front() {
        seen += 1;
        if seen > MAX_DIRECTORIES {
            return Err(io::Error::other("too many cgroups below the target's"));
        }
        let pids = match procs(&dir) {
            // A child directory that was removed meanwhile contains no process.
            Err(error) if seen > 1 && gone(&error) => continue,
            pids => pids?,
        };
        for pid in pids {
            if visit(pid).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        pending.extend(children(&dir));
    }
    Ok(ControlFlow::Continue(()))
}

/// Whether the error means that the cgroup was removed, before or after the file was opened.
pub fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

pub(super) fn procs(directory: &Path) -> io::Result<Vec<i32>> {
    let text = read_text(&directory.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

pub(super) fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_directory = |e: &fs::DirEntry| e.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_directory).map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests;
