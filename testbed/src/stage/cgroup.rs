//! A cgroup of its own for one patient, in every hierarchy that matters here.
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Controllers of cgroup v1 that a patient gets a directory in.
const V1: [&str; 3] = ["cpu", "cpuacct", "memory"];

/// A mounted hierarchy.
pub(crate) struct Hierarchy {
    pub(crate) at: PathBuf,
    /// Those of its mount, if it is one of cgroup v1.
    pub(crate) options: Option<String>,
}

pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let hierarchy = |mount: &str| {
        let fields: Vec<&str> = mount.split_whitespace().collect();
        let [_, at, kind, options, ..] = fields[..] else { return None };
        let options = match kind {
            "cgroup2" => None,
            "cgroup" => Some(options.to_owned()),
            _ => return None,
        };
        Some(Hierarchy { at: PathBuf::from(at), options })
    };
    Ok(mounts.lines().filter_map(hierarchy).collect())
}

/// Removes a cgroup and everything below it, if it exists.
pub(crate) fn remove(cgroup: &Path) -> io::Result<()> {
    let absent = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    let entries = match fs::read_dir(cgroup) {
        Err(error) if absent(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if absent(&error) => Ok(()),
        removed => removed,
    }
}

/// One directory per hierarchy; removed when dropped.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
    /// What has to be written where, to take back what was enabled for this one.
    enabled: Vec<(PathBuf, String)>,
}

/// Controllers of cgroup v2 that a patient needs.
const V2: [&str; 2] = ["cpu", "memory"];

impl Cgroup {
    /// Makes it, with the CPU and memory controllers where cgroup v2 has them. In a name with a
    /// slash, the folder is one that was made before.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let mut cgroup = Self { directories: Vec::new(), enabled: Vec::new() };
        let mut unified = false;
        for Hierarchy { at, options } in hierarchies()? {
            let wanted = match options {
                None => {
                    unified = true;
                    cgroup.enable(&at.join("cgroup.subtree_control"));
                    if let Some((parent, _)) = name.split_once('/') {
                        cgroup.enable(&at.join(parent).join("cgroup.subtree_control"));
                    }
                    true
                }
                Some(options) => options.split(',').any(|option| V1.contains(&option)),
            };
            if wanted {
                cgroup.add(at.join(name))?;
            }
        }
        if !unified {
            bail!("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified");
        }
        Ok(cgroup)
    }

    /// Enables controllers that are not. Refused where v1 owns them; its directories serve then.
    fn enable(&mut self, control: &Path) {
        let before = fs::read_to_string(control).unwrap_or_default();
        for controller in V2 {
            let is_on = before.split_whitespace().any(|on| on == controller);
            if !is_on && fs::write(control, format!("+{controller}")).is_ok() {
                self.enabled.push((control.to_owned(), format!("-{controller}")));
            }
        }
    }

    fn add(&mut self, directory: PathBuf) -> Result<()> {
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(error).with_context(|| {
                    format!("cannot make the cgroup {}: run as root", directory.display())
                })
            }
            _ => {
                self.directories.push(directory);
                Ok(())
            }
        }
    }

    /// The files that a process writes itself into.
    pub(crate) fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs"))
    }

    /// The directory of cgroup2.
    pub(crate) fn unified(&self) -> Result<&Path> {
        let is_unified = |directory: &&PathBuf| directory.join("cgroup.controllers").exists();
        let directory = self.directories.iter().find(is_unified);
        Ok(directory.context("no directory of cgroup2")?)
    }

    /// Limits CPU to `percent` of one core.
    pub(crate) fn limit_cpu(&self, percent: u32) -> Result<()> {
        const PERIOD_US: u32 = 100_000;
        let quota = PERIOD_US / 100 * percent;
        let write = |file: PathBuf, text: String| {
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        for directory in &self.directories {
            let v2 = directory.join("cpu.max");
            if v2.exists() {
                return write(v2, format!("{quota} {PERIOD_US}"));
            }
            let v1 = directory.join("cpu.cfs_quota_us");
            if v1.exists() {
                write(directory.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                return write(v1, quota.to_string());
            }
        }
        bail!("no CPU controller: this kernel cannot throttle")
    }

    /// Gives it nine tenths of the CPU that it shares with one other.
    pub(crate) fn favour(&self) -> Result<()> {
        for directory in &self.directories {
            for (file, weight) in [("cpu.weight", "900"), ("cpu.shares", "9216")] {
                let file = directory.join(file);
                if file.exists() {
                    return fs::write(&file, weight)
                        .with_context(|| format!("cannot write {}", file.display()));
                }
            }
        }
        bail!("no CPU controller: this kernel cannot share a CPU")
    }

    /// How many periods its CPU limit has cut short.
    pub(crate) fn throttled(&self) -> u64 {
        let stat = |directory: &PathBuf| fs::read_to_string(directory.join("cpu.stat")).ok();
        let periods = |stat: String| {
            let count = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
            count.and_then(|count| count.parse::<u64>().ok())
        };
        self.directories.iter().filter_map(stat).filter_map(periods).max().unwrap_or_default()
    }

    /// Limits memory, and permits no swap instead.
    pub(crate) fn limit_memory(&self, bytes: u64) -> Result<()> {
        let limit = |name: &str| {
            let files = self.directories.iter().map(|directory| directory.join(name));
            files
                .filter(|file| file.exists())
                .find(|file| fs::write(file, bytes.to_string()).is_ok())
        };
        // v1's limit of memory and swap together is absent where swap is not accounted.
        if limit("memory.max").or_else(|| limit("memory.limit_in_bytes")).is_none() {
            bail!("no memory controller: this kernel cannot limit memory");
        }
        let _ = limit("memory.memsw.limit_in_bytes");
        for directory in &self.directories {
            let swap = directory.join("memory.swap.max");
            if swap.exists() {
                fs::write(&swap, "0")
                    .with_context(|| format!("cannot write {}", swap.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            // A process that was just killed leaves its cgroup a moment later.
            for _ in 0..100 {
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                        thread::sleep(Duration::from_millis(20));
                    }
                    _ => break,
                }
            }
        }
        for (control, disable) in &self.enabled {
            // The whole stage is cleared at once, so no other process still needs this.
            let _ = fs::write(control, disable);
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_removed_from_below() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::create_dir_all(own.join("docker/0123/init")).unwrap();
        remove(&own).unwrap();
        assert!(!own.exists());
        remove(&own).unwrap();
    }
}
