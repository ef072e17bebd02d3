//! The files of a cgroup as the kernel writes them: usage, limits, events, pressure.
use std::{collections::BTreeMap, io, path::Path, time::Instant};

use paramedic_core::target::Cgroups;
use serde::{Deserialize, Serialize};

use super::{Missing, NO_TIME, Reading, is_over, text_of};

/// Maximum size of one file's text: `memory.stat` has some 3 KiB.
const MAX_TEXT: u64 = 8 << 10;

/// What is read, each by its name in version 2 and those of version 1.
const WANTED: [&[&str]; 11] = [
    &["cpu.stat", "cpuacct.usage"],
    &["cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"],
    &["memory.current", "memory.usage_in_bytes"],
    &["memory.max", "memory.limit_in_bytes"],
    &["memory.events", "memory.oom_control"],
    &["memory.stat"],
    &["pids.current"],
    &["pids.max"],
    &["cpu.pressure"],
    &["memory.pressure"],
    &["io.pressure"],
];

/// The files of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Whether other processes than the target's are in it.
    pub shared: bool,
    /// The text of each file by its name, at most 8 KiB each.
    pub files: BTreeMap<String, String>,
}

/// Reads the files of a target's cgroup, in every hierarchy that it has.
#[must_use]
pub fn read(cgroups: &Cgroups, until: Instant) -> Reading<Files> {
    // Beside controllers of version 1, cgroup2 has files of the same names that say less.
    let all = [&cgroups.cpu, &cgroups.memory, &cgroups.cpuacct, &cgroups.unified];
    let mut places: Vec<&Path> =
        all.into_iter().flatten().map(|group| group.path.as_path()).collect();
    places.dedup();
    if places.is_empty() {
        return Reading::nothing("cgroup", "no cgroup of it is visible here");
    }
    let mut files = BTreeMap::new();
    let mut missing = Vec::new();
    for names in WANTED {
        if is_over(until) {
            missing.push(Missing::new(names[0], NO_TIME));
            continue;
        }
        if let Err(error) = read_each(&places, names, &mut files) {
            missing.push(Missing::new(names[0], error.to_string()));
        }
    }
    let found = (!files.is_empty()).then_some(Files { shared: cgroups.shared, files });
    Reading { found, missing }
}

/// Reads each file of these names in the first place that has it.
///
/// # Errors
/// If no place has any of them.
fn read_each(
    places: &[&Path],
    names: &[&str],
    into: &mut BTreeMap<String, String>,
) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let mut any = false;
    for name in names {
        for place in places {
            match text_of(&place.join(name), MAX_TEXT) {
                Ok(text) => {
                    into.insert((*name).to_owned(), text.trim_end().to_owned());
                    any = true;
                    break;
                }
                Err(error) => last = error,
            }
        }
    }
    if any { Ok(()) } else { Err(last) }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use paramedic_core::target::Cgroup;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn group(path: &Path) -> Option<Cgroup> {
        Some(Cgroup { path: path.to_owned(), id: 1 })
    }

    #[test]
    fn files_of_version_2_are_kept_by_name_and_the_rest_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("cpu.stat", "usage_usec 7\nnr_throttled 2\n");
        write("cpu.max", "10000 100000\n");
        write("memory.stat", &"anon 1\n".repeat(4000));
        let cgroups = Cgroups { unified: group(folder.path()), ..Cgroups::default() };
        let read = read(&cgroups, later());
        let files = read.found.unwrap().files;
        assert_eq!(files["cpu.stat"], "usage_usec 7\nnr_throttled 2");
        assert_eq!(files["cpu.max"], "10000 100000");
        assert!(files["memory.stat"].len() <= 8 << 10);
        let missing: Vec<_> = read.missing.iter().map(|one| one.part.as_str()).collect();
        assert!(missing.contains(&"memory.events") && missing.contains(&"io.pressure"));
        assert!(!missing.contains(&"cpu.max"));
    }

    #[test]
    fn version_1_has_other_names_in_other_directories() {
        let (cpu, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(cpu.path().join("cpu.cfs_quota_us"), "-1\n").unwrap();
        fs::write(cpu.path().join("cpu.cfs_period_us"), "100000\n").unwrap();
        fs::write(memory.path().join("memory.usage_in_bytes"), "4096\n").unwrap();
        let cgroups =
            Cgroups { cpu: group(cpu.path()), memory: group(memory.path()), ..Cgroups::default() };
        let files = read(&cgroups, later()).found.unwrap().files;
        assert_eq!(files["cpu.cfs_quota_us"], "-1");
        assert_eq!(files["cpu.cfs_period_us"], "100000");
        assert_eq!(files["memory.usage_in_bytes"], "4096");
    }

    #[test]
    fn of_a_hybrid_the_controllers_file_comes_first() {
        let (cpu, unified) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(cpu.path().join("cpu.stat"), "nr_throttled 7\n").unwrap();
        fs::write(unified.path().join("cpu.stat"), "usage_usec 9\n").unwrap();
        fs::write(unified.path().join("cpu.pressure"), "some avg10=1.00\n").unwrap();
        let (cpu, unified) = (group(cpu.path()), group(unified.path()));
        let files = read(&Cgroups { cpu, unified, ..Cgroups::default() }, later());
        let files = files.found.unwrap().files;
        assert_eq!(
            (&*files["cpu.stat"], &*files["cpu.pressure"]),
            ("nr_throttled 7", "some avg10=1.00")
        );
    }

    #[test]
    fn without_a_cgroup_or_without_time_everything_is_missing() {
        let read_nothing = read(&Cgroups::default(), later());
        assert_eq!(read_nothing.found, None);
        assert_eq!(read_nothing.missing[0].part, "cgroup");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cpu.stat"), "x 1\n").unwrap();
        let cgroups = Cgroups { unified: group(folder.path()), ..Cgroups::default() };
        let late = read(&cgroups, Instant::now());
        assert_eq!((late.found, late.missing.len()), (None, WANTED.len()));
    }
}
