//! Chooses the directories to attach packet programs to, given the watched cgroups.
//!
//! A program on a cgroup sees the packets of everything below it too. On two nested watched cgroups
//! it would count the inner one's packets twice: so only the topmost of nested cgroups carry the
//! programs.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Watched directories, each with its number of targets.
#[derive(Debug, Default)]
pub(super) struct Cover {
    watched: BTreeMap<PathBuf, usize>,
}

/// The changes after which every watched directory is covered exactly once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) attach: Vec<PathBuf>,
    pub(super) detach: Vec<PathBuf>,
}

impl Cover {
    /// Adds the directory of a target.
    pub(super) fn add(&mut self, path: &Path) -> Plan {
        self.change(|watched| *watched.entry(path.to_owned()).or_default() += 1)
    }

    /// Removes the directory of a target.
    pub(super) fn remove(&mut self, path: &Path) -> Plan {
        self.change(|watched| {
            if let Some(count) = watched.get_mut(path) {
                *count -= 1;
                if *count == 0 {
                    watched.remove(path);
                }
            }
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<PathBuf, usize>)) -> Plan {
        let before = self.topmost();
        change(&mut self.watched);
        let after = self.topmost();
        Plan {
            attach: after.difference(&before).cloned().collect(),
            detach: before.difference(&after).cloned().collect(),
        }
    }

    fn topmost(&self) -> BTreeSet<PathBuf> {
        let mut topmost: BTreeSet<PathBuf> = BTreeSet::new();
        // In the order of path components, a directory is followed by those below it.
        for path in self.watched.keys() {
            if !topmost.last().is_some_and(|top| path.starts_with(top)) {
                topmost.insert(path.clone());
            }
        }
        topmost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(attach: &[&str], detach: &[&str]) -> Plan {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        Plan { attach: paths(attach), detach: paths(detach) }
    }

    #[test]
    fn the_same_directory_is_attached_once_and_until_the_last_leaves() {
        let mut cover = Cover::default();
        assert_eq!(cover.add(Path::new("/c/a")), plan(&["/c/a"], &[]));
        assert_eq!(cover.add(Path::new("/c/a")), Plan::default());
        assert_eq!(cover.remove(Path::new("/c/a")), Plan::default());
        assert_eq!(cover.remove(Path::new("/c/a")), plan(&[], &["/c/a"]));
        assert_eq!(cover.remove(Path::new("/c/a")), Plan::default());
    }

    #[test]
    fn a_parent_directory_takes_over_and_returns_coverage() {
        let mut cover = Cover::default();
        cover.add(Path::new("/c/a/1"));
        cover.add(Path::new("/c/a/2"));
        cover.add(Path::new("/c/ab"));
        assert_eq!(cover.add(Path::new("/c/a")), plan(&["/c/a"], &["/c/a/1", "/c/a/2"]));
        assert_eq!(cover.add(Path::new("/c/a/3")), Plan::default());
        assert_eq!(
            cover.remove(Path::new("/c/a")),
            plan(&["/c/a/1", "/c/a/2", "/c/a/3"], &["/c/a"])
        );
    }

    #[test]
    fn a_common_name_prefix_is_not_a_parent() {
        let mut cover = Cover::default();
        cover.add(Path::new("/c/a"));
        assert_eq!(cover.add(Path::new("/c/a-b")), plan(&["/c/a-b"], &[]));
        // Sorts between `/c/a` and `/c/a/x` by bytes, but not by components.
        assert_eq!(cover.add(Path::new("/c/a/x")), Plan::default());
    }
}
