use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::procfs::Tree;

fn fixture(kind: &str, pid: i32) -> Cgroups {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cgroup").join(kind);
    let tree = Tree { proc: root.join("proc"), root };
    tree.cgroups(&tree.hierarchies().unwrap(), pid).unwrap()
}

const LIMITED: CgroupReading = CgroupReading {
    cpu_usage_ns: Some(73_123_456_000),
    cpu_limit: Some(0.5),
    memory_bytes: Some(67_108_864 - 4_775_936),
    memory_limit_bytes: Some(134_217_728),
    throttled_periods: Some(37),
    throttled_ns: Some(1_850_000_000),
    period_ns: Some(100_000_000),
    oom_kills: Some(2),
    cpu_pressure: None,
};

#[test]
fn v1_v2_and_hybrid_hosts_give_the_same_reading() {
    for kind in ["v1", "v2", "hybrid"] {
        for pid in [1001, 2001, 3001] {
            let files = CgroupFiles::open(&fixture(kind, pid)).unwrap();
            let mut reading = files.read().unwrap();
            // v1 counts nanoseconds.
            reading.cpu_usage_ns = reading.cpu_usage_ns.map(|ns| ns / 1000 * 1000);
            assert_eq!(reading, LIMITED, "{kind} {pid}");
            assert_eq!(files.read().unwrap().oom_kills, Some(2), "and again");
        }
    }
}

#[test]
fn no_limit_is_none() {
    for kind in ["v1", "v2", "hybrid"] {
        let reading = CgroupFiles::open(&fixture(kind, 4002)).unwrap().read().unwrap();
        assert_eq!((reading.cpu_limit, reading.memory_limit_bytes), (None, None), "{kind}");
        assert_eq!(reading.period_ns, Some(100_000_000));
        assert!(reading.memory_bytes.is_some());
    }
}

/// A temporary directory, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("paramedic-files-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn cgroups(&self) -> Cgroups {
        let id = fs::metadata(&self.0).unwrap().ino();
        let here = Some(Cgroup { path: self.0.clone(), id });
        Cgroups {
            unified: here.clone(),
            traffic: None,
            cpu: here.clone(),
            cpuacct: here.clone(),
            memory: here,
            shared: false,
        }
    }

    fn read(&self, files: &[(&str, &str)]) -> CgroupReading {
        for (name, text) in files {
            fs::write(self.0.join(name), text).unwrap();
        }
        CgroupFiles::open(&self.cgroups()).unwrap().read().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn missing_files_and_hierarchies_are_none() {
    assert_eq!(Scratch::new().read(&[]), CgroupReading::default());
    let nothing = CgroupFiles::open(&Cgroups::default()).unwrap().read().unwrap();
    assert_eq!(nothing, CgroupReading::default());
    let no_cache = Scratch::new().read(&[("memory.current", "5\n")]);
    assert_eq!(no_cache.memory_bytes, None, "the cache's share is unknown");
}

#[test]
fn invalid_numbers_are_none() {
    let huge = "99999999999999999999999\n";
    let absurd = Scratch::new().read(&[
        ("cpu.stat", "usage_usec 18446744073709551615\nnr_throttled -1\nthrottled_usec x\n"),
        ("cpu.max", "100000 0\n"),
        ("memory.current", huge),
        ("memory.stat", "inactive_file\ninactive_file 1 2\n"),
        ("memory.max", "\n"),
        ("memory.events", "oom_kill \n"),
    ]);
    assert_eq!(absurd, CgroupReading::default());
    let empty = Scratch::new().read(&[("cpu.stat", ""), ("cpu.max", ""), ("memory.max", "max\n")]);
    assert_eq!(empty, CgroupReading::default());
    let dir = Scratch::new();
    fs::write(dir.0.join("memory.current"), [0xff, 0xfe]).unwrap();
    assert_eq!(dir.read(&[("memory.stat", "inactive_file 1\n")]).memory_bytes, None);
}

#[test]
fn more_cache_than_usage_is_zero_usage() {
    let files = [("memory.current", "5\n"), ("memory.stat", "inactive_file 9\n")];
    assert_eq!(Scratch::new().read(&files).memory_bytes, Some(0));
}

#[test]
fn a_number_cut_off_by_the_buffer_is_none() {
    let padding = "x 1\n".repeat(BUFFER / 4 - 4);
    let fits = format!("{padding}inactive_file 3\n");
    let cut = format!("{padding}xyz\ninactive_file 345678\n");
    assert_eq!(fits.len(), BUFFER);
    let read = |stat: &str| {
        let files = [("memory.current", "10\n"), ("memory.stat", stat)];
        Scratch::new().read(&files).memory_bytes
    };
    assert_eq!(read(&fits), Some(7));
    assert_eq!(read(&cut), None);
}

#[test]
fn open_files_follow_the_kernels_changes() {
    let dir = Scratch::new();
    fs::write(dir.0.join("cpu.max"), "50000 100000\n").unwrap();
    let files = CgroupFiles::open(&dir.cgroups()).unwrap();
    assert_eq!(files.read().unwrap().cpu_limit, Some(0.5));
    fs::write(dir.0.join("cpu.max"), "max 100000\n").unwrap();
    assert_eq!(files.read().unwrap().cpu_limit, None);
}

#[test]
fn a_replaced_directory_is_an_error() {
    let dir = Scratch::new();
    let mut cgroups = dir.cgroups();
    cgroups.memory.as_mut().unwrap().id += 1;
    let opened = CgroupFiles::open(&cgroups);
    assert!(matches!(opened, Err(CgroupError::Vanished(path)) if path == dir.0));
    let cgroups = dir.cgroups();
    drop(dir);
    assert!(matches!(CgroupFiles::open(&cgroups), Err(CgroupError::Vanished(_))));
}
