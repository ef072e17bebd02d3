//! The cgroups of the engine's containers. They are removed whatever happened to the engine.
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::stage::cgroup::{Hierarchy, hierarchies, remove};

/// A process that was just killed leaves its cgroup a moment later.
const LIMIT: Duration = Duration::from_secs(10);

/// A cgroup of one name in every hierarchy, removed with everything below it when dropped.
pub(super) struct Cgroups {
    pub(super) name: String,
    /// The mounts, and, for cgroup v2, the controllers that were enabled there before.
    tops: Vec<(PathBuf, Option<String>)>,
}

impl Cgroups {
    pub(super) fn reserve(name: String) -> Result<Self> {
        let top = |Hierarchy { at, options }| match options {
            Some(_) => (at, None),
            None => {
                let passed_on = fs::read_to_string(at.join(CONTROL)).unwrap_or_default();
                (at, Some(passed_on))
            }
        };
        Ok(Self { name, tops: hierarchies()?.into_iter().map(top).collect() })
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let deadline = Instant::now() + LIMIT;
        for (top, before) in &self.tops {
            let own = top.join(&self.name);
            while let Err(error) = remove(&own) {
                if Instant::now() >= deadline {
                    eprintln!("cannot remove {}: {error}", own.display());
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
            if let Some(before) = before {
                take_back(&top.join(CONTROL), before);
            }
        }
    }
}

const CONTROL: &str = "cgroup.subtree_control";

/// Disables the controllers that the engine enabled at the top.
fn take_back(control: &Path, before: &str) {
    let now = fs::read_to_string(control).unwrap_or_default();
    for controller in now.split_whitespace() {
        if !before.split_whitespace().any(|old| old == controller) {
            // If another cgroup uses a controller by now, the kernel refuses to disable it.
            let _ = fs::write(control, format!("-{controller}"));
        }
    }
}
