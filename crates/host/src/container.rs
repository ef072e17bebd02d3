//! Finds the cgroup and the first process of a container.
//!
//! A container is found by its id, never by a path composed from the kubelet's conventions: drivers
//! (cgroupfs, systemd), runtimes (containerd, CRI-O, Docker) and cgroup roots differ, but the id is
//! always in the name of its directory. The directory found is the container's own: the sandbox's
//! is beside it, under another id, and is never touched.
use std::{
    collections::{HashMap, VecDeque},
    io,
    path::{Path, PathBuf},
};

use paramedic_core::{
    boot_time::BootTime,
    target::{Cgroups, ProcessId},
};

use crate::{
    cgroup::{self, children, members},
    mountinfo::{Hierarchies, Mount},
    procfs::{Stat, Tree, started},
};

/// Maximum number of directories to search: a node has a few for each pod.
const MAX_DIRECTORIES: usize = 50_000;

/// A running container, as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its cgroups, which it does not share.
    pub cgroups: Cgroups,
    /// Its first process.
    pub main: ProcessId,
    /// When that process started.
    pub started: BootTime,
}

/// Why a container was not found.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No directory has its id.
    #[error("no cgroup has the id {0}: is /sys/fs/cgroup of the host mounted into the agent?")]
    NoCgroup(String),
    /// Its cgroup contains no process.
    #[error("container {0} has no process: it has just ended or not started yet")]
    Empty(String),
    /// The kernel does not show the pids of other PID namespaces.
    #[error(
        "container {0} has processes that cannot be seen from here: give the agent the host's PID \
         namespace (docker run --pid host; hostPID in a pod)"
    )]
    Hidden(String),
    /// Reading failed.
    #[error("cannot look for containers: {0}")]
    Io(#[from] io::Error),
}

impl Container {
    /// Whether this agent is one of its processes.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        self.cgroups.any().is_some_and(|any| members(any).is_ok_and(|pids| pids.contains(&own)))
    }
}

/// Whether the text is a container id: 64 hexadecimal digits in every runtime.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The container whose cgroup has this directory name: the id alone (cgroupfs), or as in
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope` (systemd). `…-conmon-ID.scope` of
/// CRI-O and Podman contains the container's monitor, which is not the container.
fn id_of_directory(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    (is_id(id) && !runtime.ends_with("conmon")).then_some(id)
}

/// The directories of all containers, relative to the mount point of the hierarchy that was
/// searched: the other hierarchies use the same path.
#[derive(Debug, Default)]
pub struct Containers {
    directories: HashMap<String, PathBuf>,
}

impl Containers {
    /// Finds a container, and searches the node again if it is not known yet.
    ///
    /// # Errors
    /// See [`ContainerError`].
    pub fn find(&mut self, tree: &Tree, id: &str) -> Result<Container, ContainerError> {
        let hierarchies = tree.hierarchies()?;
        let known = self.directories.get(id).and_then(|d| open(tree, &hierarchies, id, d).ok());
        if let Some(container) = known {
            return Ok(container);
        }
        self.directories = search(tree, &hierarchies);
        let directory = self.directories.get(id);
        let directory = directory.ok_or_else(|| ContainerError::NoCgroup(id.to_owned()))?;
        open(tree, &hierarchies, id, directory)
    }
}

/// Walks a hierarchy that surely contains every container: cgroup2, or else memory's or CPU's.
fn search(tree: &Tree, hierarchies: &Hierarchies) -> HashMap<String, PathBuf> {
    let mount = hierarchies.unified.as_ref().or(hierarchies.memory.as_ref());
    let Some(mount) = mount.or(hierarchies.cpu.as_ref()) else { return HashMap::new() };
    let top = tree.below_root(&mount.point);
    let mut found = HashMap::new();
    let mut pending = VecDeque::from([top.clone()]);
    let mut seen = 0;
    // The shallowest first: below a container's own cgroup, its processes may choose the names.
    while let Some(directory) = pending.pop_front() {
        seen += 1;
        if seen > MAX_DIRECTORIES {
            break;
        }
        let name = directory.file_name().and_then(|name| name.to_str());
        if let Some(id) = name.and_then(id_of_directory)
            && let Ok(relative) = directory.strip_prefix(&top)
        {
            found.entry(id.to_owned()).or_insert_with(|| relative.to_owned());
        }
        // On a node that is itself a container (kind), the pods are below a container's cgroup.
        pending.extend(children(&directory));
    }
    found
}

fn open(
    tree: &Tree,
    hierarchies: &Hierarchies,
    id: &str,
    directory: &Path,
) -> Result<Container, ContainerError> {
    let find = |mount: &Option<Mount>| {
        let path = tree.below_root(&mount.as_ref()?.point).join(directory);
        Some((cgroup::open(&path)?, home(&path)))
    };
    let unified = find(&hierarchies.unified);
    let v1 = |mount: &Option<Mount>| match mount {
        Some(_) => find(mount).map(|(own, _)| own),
        None => unified.as_ref().map(|(own, _)| own.clone()),
    };
    let (cpu, cpuacct) = (v1(&hierarchies.cpu), v1(&hierarchies.cpuacct));
    let memory = v1(&hierarchies.memory);
    // Traffic belongs to the cgroup of its process, which may be a child of the container's; limits
    // and throttling are the container's own.
    let unified = unified.and_then(|(_, home)| cgroup::open(&home));
    let cgroups = Cgroups { unified, traffic: None, cpu, cpuacct, memory, shared: false };
    let any = cgroups.any().ok_or_else(|| ContainerError::NoCgroup(id.to_owned()))?;
    let pids = members(any)?;
    // See cgroup(7), on namespaces: an invisible process has the pid 0.
    if !pids.is_empty() && pids.iter().all(|&pid| pid == 0) {
        return Err(ContainerError::Hidden(id.to_owned()));
    }
    let stats: Vec<Stat> = pids.into_iter().filter_map(|pid| tree.stat(pid).ok()).collect();
    let main = first(&stats, |pid| tree.leads_namespace(pid))
        .ok_or_else(|| ContainerError::Empty(id.to_owned()))?;
    Ok(Container { main: main.instance(), started: started(main.start_time), cgroups })
}

/// The directory of the container's processes: the container's own, or (with crun) the only child
/// of one that is empty itself.
fn home(directory: &Path) -> PathBuf {
    let mut home = directory.to_owned();
    for _ in 0..4 {
        let is_empty = cgroup::procs(&home).is_ok_and(|pids| pids.is_empty());
        let mut below = children(&home);
        match below.pop() {
            Some(only) if is_empty && below.is_empty() => home = only,
            _ => break,
        }
    }
    home
}

/// The container's first process: pid 1 of its PID namespace, or (if the pod shares one) the oldest
/// that was started from outside. `kubectl exec` later adds others to the same cgroup.
fn first(stats: &[Stat], is_first: impl Fn(i32) -> bool) -> Option<&Stat> {
    let runs = || stats.iter().filter(|stat| stat.runs());
    let inside = |pid: i32| stats.iter().any(|stat| stat.pid == pid);
    runs().min_by_key(|stat| (!is_first(stat.pid), inside(stat.parent), stat.start_time))
}

#[cfg(test)]
mod tests;
