//! The cluster's own cgroups, in every hierarchy of the machine. Whoever is in them is the
//! cluster's: nothing else is ever looked at or ended.
//!
//! Below the cluster's cgroup each node has one. The kubelet makes those of its pods in it; the
//! node's programs are in the leaf `programs`, which only cgroup2 has.
use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::stage::cgroup::{hierarchies, remove};

/// A process that was just killed leaves its cgroup a moment later.
const LIMIT: Duration = Duration::from_secs(10);
/// The leaf with the programs of a node.
const PROGRAMS: &str = "programs";

/// The cgroup of one cluster, or of one node, in every hierarchy.
pub(super) struct Cgroups {
    /// In cgroup2.
    unified: PathBuf,
    /// In the hierarchies of cgroup v1, if there are any.
    others: Vec<PathBuf>,
}

impl Cgroups {
    /// The cgroup of this name, whether it exists or not.
    pub(super) fn named(name: &str) -> Result<Self> {
        let (mut unified, mut others) = (None, Vec::new());
        // A hierarchy may be mounted in other places too.
        let usual =
            hierarchies()?.into_iter().filter(|mount| mount.at.starts_with("/sys/fs/cgroup"));
        for hierarchy in usual {
            match hierarchy.options {
                None => unified = Some(hierarchy.at.join(name)),
                Some(_) => others.push(hierarchy.at.join(name)),
            }
        }
        let Some(unified) = unified else {
            bail!("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified");
        };
        Ok(Self { unified, others })
    }

    /// The one below this with that name.
    pub(super) fn below(&self, name: &str) -> Self {
        let others = self.others.iter().map(|at| at.join(name)).collect();
        Self { unified: self.unified.join(name), others }
    }

    /// Makes them.
    ///
    /// # Errors
    /// If one exists: then it is somebody else's, and nothing is changed.
    pub(super) fn make(&self) -> Result<()> {
        let mut made: Vec<&PathBuf> = Vec::new();
        for cgroup in self.others.iter().chain([&self.unified]) {
            if let Err(error) = fs::create_dir(cgroup) {
                for cgroup in made {
                    let _ = fs::remove_dir(cgroup);
                }
                return Err(error).with_context(|| format!("cannot make {}", cgroup.display()));
            }
            made.push(cgroup);
        }
        if self.others.is_empty() {
            self.pass_on();
        }
        Ok(())
    }

    /// Where the kernel has cgroup2 alone, what is below gets every controller that this one has.
    fn pass_on(&self) {
        let has = fs::read_to_string(self.unified.join("cgroup.controllers")).unwrap_or_default();
        for controller in has.split_whitespace() {
            // The kubelet says which one it misses.
            let _ =
                fs::write(self.unified.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }

    /// Makes the leaf for programs.
    pub(super) fn make_leaf(&self) -> Result<()> {
        let leaf = self.unified.join(PROGRAMS);
        fs::create_dir(&leaf).with_context(|| format!("cannot make {}", leaf.display()))
    }

    /// What a program writes itself into, to be in the leaf.
    pub(super) fn entrance(&self) -> PathBuf {
        self.unified.join(PROGRAMS).join("cgroup.procs")
    }

    /// Whether this process is in the leaf.
    pub(super) fn hold(&self, pid: u32) -> bool {
        let inside = fs::read_to_string(self.entrance()).unwrap_or_default();
        inside.lines().any(|line| line == pid.to_string())
    }

    /// Kills every process in it and below, and removes it. Returns what is left.
    pub(super) fn end(&self) -> Vec<PathBuf> {
        // There is no such file if there is no such cgroup. What is not killed is left, and told.
        let kill = fs::OpenOptions::new().write(true).open(self.unified.join("cgroup.kill"));
        let _ = kill.and_then(|mut file| file.write_all(b"1"));
        let deadline = Instant::now() + LIMIT;
        let all = || self.others.iter().chain([&self.unified]);
        loop {
            let left: Vec<PathBuf> =
                all().filter(|cgroup| remove(cgroup).is_err()).cloned().collect();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_never_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = |name: &str| {
            let at = folder.path().join(name);
            fs::create_dir(&at).unwrap();
            at.join("own")
        };
        let (unified, others) = (hierarchy("unified"), vec![hierarchy("cpu"), hierarchy("memory")]);
        let own = Cgroups { unified: unified.clone(), others: others.clone() };
        fs::create_dir(&unified).unwrap();
        assert!(own.make().is_err());
        assert!(unified.exists() && !others[0].exists() && !others[1].exists());
        fs::remove_dir(&unified).unwrap();
        own.make().unwrap();
        let node = own.below("node1");
        node.make().unwrap();
        node.make_leaf().unwrap();
        assert_eq!(node.entrance(), unified.join("node1/programs/cgroup.procs"));
        fs::write(node.entrance(), "17\n4711\n").unwrap();
        assert!(node.hold(17) && !node.hold(1));
        fs::remove_file(node.entrance()).unwrap();
        assert_eq!(own.end(), Vec::<PathBuf>::new());
        assert!(!unified.exists() && !others[0].exists());
    }
}
