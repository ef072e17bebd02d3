//! `/proc/PID/mountinfo`, in which users name mount points, and the cgroup of a process.
//!
//! The last line of an input is the name of a cgroup, the others are mountinfo.
#![no_main]
use std::path::{Component, Path, PathBuf};

use libfuzzer_sys::{Corpus, fuzz_target};
use paramedic_host::mountinfo::{Hierarchies, places};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(input) else { return Corpus::Reject };
    let (mountinfo, cgroup) = text.rsplit_once('\n').unwrap_or((text, "/"));
    let mut found = Hierarchies::parse(mountinfo);
    assert_eq!(found, Hierarchies::parse(mountinfo));
    let lines = mountinfo.lines().count();
    assert!(found.mounts_mut().count() <= 4 && (lines > 0 || found.mounts_mut().count() == 0));
    for mount in found.mounts_mut() {
        assert!(mount.point.is_absolute() && mount.root.is_absolute(), "{mount:?}");
        let point = mount.point.clone();
        for namespace in [None, Some("kubepods/agent")] {
            mount.namespace = namespace.map(PathBuf::from);
            if let Some(directory) = mount.directory(cgroup) {
                assert!(is_below(&directory, &point), "{directory:?} is not below {point:?}");
            }
        }
    }
    let places: Vec<_> = places(mountinfo).collect();
    assert!(places.len() <= lines);
    assert!(places.iter().all(|place| place.point.is_absolute() && !place.kind.contains(' ')));
    Corpus::Keep
});

/// Below it, and not by way of `..`.
fn is_below(directory: &Path, point: &Path) -> bool {
    let rest = directory.strip_prefix(point);
    rest.is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))))
}
