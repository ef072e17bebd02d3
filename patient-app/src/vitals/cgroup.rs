//! The usage of the process's own cgroup against the cgroup's own limit, on v1, v2 and both at
//! once.
//!
//! Only the cgroup of the process counts: an ancestor's limit is shared with others. A limit is
//! read each time, because it can change while a container runs.
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Reading, Scope};
use crate::clock;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cgroup {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Debug, PartialEq, Eq)]
enum Cpu {
    /// The accounting hierarchy counts only if it has the same group as the quota's: a wider group
    /// would include the usage of others.
    V1 {
        cpu: PathBuf,
        cpuacct: Option<PathBuf>,
    },
    V2(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
enum Memory {
    V1(PathBuf),
    V2(PathBuf),
}

impl Cgroup {
    /// The cgroup of this process below `root`. A controller that is not found or not visible
    /// measures nothing.
    pub(super) fn discover(root: &Path) -> Self {
        let read = |file| fs::read_to_string(root.join(file)).unwrap_or_default();
        let (memberships, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let find = |controller| directory(root, &memberships, &mounts, controller);
        let own = |controller| memberships.lines().find_map(|line| membership(line, controller));
        let accounted = own("cpu") == own("cpuacct");
        let cpuacct = || find("cpuacct").filter(|_| accounted);
        let v2 = || find("");
        Self {
            cpu: find("cpu")
                .map(|cpu| Cpu::V1 { cpu, cpuacct: cpuacct() })
                .or_else(|| v2().map(Cpu::V2)),
            memory: find("memory").map(Memory::V1).or_else(|| v2().map(Memory::V2)),
        }
    }

    /// CPU seconds used so far, against the quota in cores; `None` without a quota.
    pub(super) fn cpu(&self) -> Option<Reading> {
        let (used, limit) = match self.cpu.as_ref()? {
            Cpu::V1 { cpu, cpuacct } => {
                // A quota of -1, no limit, does not parse as an unsigned number.
                let quota = number(&cpu.join("cpu.cfs_quota_us"))?;
                let cores = quota / number(&cpu.join("cpu.cfs_period_us"))?;
                let used = match cpuacct {
                    Some(dir) => number(&dir.join("cpuacct.usage"))? / 1e9,
                    None => clock::process_cpu()?.as_secs_f64(),
                };
                (used, cores)
            }
            Cpu::V2(dir) => {
                let max = fs::read_to_string(dir.join("cpu.max")).ok()?;
                // A quota of "max", no limit, does not parse as a number.
                let (quota, period) = max.trim().split_once(' ')?;
                let cores = parse(quota)? / parse(period)?;
                (field(&dir.join("cpu.stat"), "usage_usec")? / 1e6, cores)
            }
        };
        reading(used, limit)
    }

    /// Bytes in use without file pages that could be dropped at once (what the kubelet calls the
    /// working set), against the limit; `None` without a limit.
    pub(super) fn memory(&self) -> Option<Reading> {
        let (used, limit, inactive) = match self.memory.as_ref()? {
            Memory::V1(dir) => (
                number(&dir.join("memory.usage_in_bytes"))?,
                // Without a limit it reads as the largest number of whole pages: exbibytes.
                number(&dir.join("memory.limit_in_bytes")).filter(|bytes| *bytes < 1e18)?,
                field(&dir.join("memory.stat"), "total_inactive_file"),
            ),
            Memory::V2(dir) => (
                number(&dir.join("memory.current"))?,
                number(&dir.join("memory.max"))?,
                field(&dir.join("memory.stat"), "inactive_file"),
            ),
        };
        reading((used - inactive.unwrap_or(0.0)).max(0.0), limit)
    }
}

/// The reading, if the limit is positive.
fn reading(used: f64, limit: f64) -> Option<Reading> {
    (limit.is_finite() && limit > 0.0).then_some(Reading { used, limit, scope: Scope::Cgroup })
}

/// The directory of the process's cgroup in the hierarchy with `controller`; the empty name means
/// the v2 hierarchy.
fn directory(root: &Path, memberships: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let own = memberships.lines().find_map(|line| membership(line, controller))?;
    let (top, mount_point) = mounts.lines().find_map(|line| mount(line, controller))?;
    // Without a cgroup namespace, a container sees its path from the host's root, and a mount whose
    // root is that very path.
    let below = Path::new(own).strip_prefix(top).ok()?;
    let visible = below.components().all(|c| matches!(c, Component::Normal(_)));
    let mount_point = Path::new(mount_point).strip_prefix("/").ok()?;
    visible.then(|| root.join(mount_point).join(below))
}

/// The path in a line of `/proc/self/cgroup`, `4:cpu,cpuacct:/path`, if it has the controller.
fn membership<'a>(line: &'a str, controller: &str) -> Option<&'a str> {
    let mut fields = line.splitn(3, ':');
    let (_hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    controllers.split(',').any(|c| c == controller).then_some(path)
}

/// Root and mount point in a line of `/proc/self/mountinfo`, if the controller is mounted there.
fn mount<'a>(line: &'a str, controller: &str) -> Option<(&'a str, &'a str)> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let place = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1)?);
    let wanted = match kind {
        "cgroup2" => controller.is_empty(),
        "cgroup" => options.split(',').any(|o| o == controller),
        _ => false,
    };
    wanted.then_some(place)
}

fn number(file: &Path) -> Option<f64> {
    parse(fs::read_to_string(file).ok()?.trim())
}

/// The number after `key` in a file of lines `key number`.
fn field(file: &Path, key: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find_map(|(name, value)| (name == key).then(|| parse(value.trim()))?)
}

fn parse(text: &str) -> Option<f64> {
    text.parse::<u64>().ok().map(|n| n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Cgroup {
        Cgroup::discover(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name))
    }

    fn cgroup(used: f64, limit: f64) -> Option<Reading> {
        Some(Reading { used, limit, scope: Scope::Cgroup })
    }

    #[test]
    fn v2_in_a_container_with_its_own_namespace() {
        let cgroup_v2 = fixture("v2-container");
        assert_eq!(cgroup_v2.cpu(), cgroup(12.5, 0.5));
        assert_eq!(cgroup_v2.memory(), cgroup(50_331_648.0, 134_217_728.0));
    }

    #[test]
    fn v2_on_the_host_in_a_slice_without_limits() {
        let slice = fixture("v2-unlimited");
        assert!(slice.cpu.is_some() && slice.memory.is_some());
        assert_eq!((slice.cpu(), slice.memory()), (None, None));
    }

    #[test]
    fn v1_in_a_container_that_sees_the_hosts_paths() {
        let cgroup_v1 = fixture("v1-container");
        assert_eq!(cgroup_v1.cpu(), cgroup(3.5, 1.5));
        assert_eq!(cgroup_v1.memory(), cgroup(60_000_000.0, 268_435_456.0));
    }

    #[test]
    fn v1_without_limits() {
        let unlimited = fixture("v1-unlimited");
        assert!(unlimited.cpu.is_some() && unlimited.memory.is_some());
        assert_eq!((unlimited.cpu(), unlimited.memory()), (None, None));
    }

    #[test]
    fn v1_with_a_quota_but_a_wider_accounting_group_counts_the_process_alone() {
        let reading = fixture("v1-cpu-alone").cpu().unwrap();
        assert_eq!((reading.limit, reading.scope), (0.25, Scope::Cgroup));
        assert!(reading.used < 1e6, "{} is the whole machine's", reading.used);
    }

    #[test]
    fn hybrid_takes_each_controller_where_it_is() {
        // cpu on v1, each controller mounted alone; memory only on v2.
        let hybrid = fixture("hybrid");
        assert_eq!(hybrid.cpu(), cgroup(1.0, 2.0));
        assert_eq!(hybrid.memory(), cgroup(1_048_576.0, 4_194_304.0));
    }

    #[test]
    fn an_invisible_cgroup_measures_nothing() {
        let mounts = "30 1 0:5 /docker/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let find = |own: &str| directory(Path::new("/"), own, mounts, "");
        assert_eq!(find("0::/docker/a\n"), Some(PathBuf::from("/sys/fs/cgroup/")));
        assert_eq!(find("0::/docker/a/b\n"), Some(PathBuf::from("/sys/fs/cgroup/b")));
        assert_eq!(find("0::/docker/other\n"), None);
        assert_eq!(find("0::/docker/a/../other\n"), None);
        assert_eq!(find("nonsense\n"), None);
    }

    #[test]
    fn an_invalid_limit_is_no_limit() {
        for (used, limit) in [(1.0, 0.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
            assert_eq!(reading(used, limit), None);
        }
        assert_eq!(["max", "-1", "", "1.5", "12"].map(parse), [None, None, None, None, Some(12.0)]);
    }
}
