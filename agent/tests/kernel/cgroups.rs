//! Cgroups for one test, on hosts of every kind, removed at the end in any case.
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use paramedic_core::target::{Cgroup, Cgroups};

/// A directory in each relevant hierarchy; the same one on a host with cgroup v2 alone.
pub(super) struct TestCgroups {
    unified: PathBuf,
    cpu: PathBuf,
    memory: PathBuf,
    /// Parents created for this one, the outermost last.
    above: Vec<TestCgroups>,
}

impl TestCgroups {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("paramedic-test-{}-{number}", process::id()))
    }

    /// A child of this one.
    pub(super) fn below(&self) -> Self {
        let name = self.unified.file_name().unwrap().to_str().unwrap();
        Self::named(&format!("{name}/below"))
    }

    /// A cgroup below directories without processes, such as systemd's slices. Missing directories
    /// are created, and removed with it: other users of them must be dropped before.
    pub(super) fn nested(above: &[&str], name: &str) -> Self {
        let mut path = PathBuf::new();
        let mut made = Vec::new();
        for directory in above {
            path.push(directory);
            if !hierarchy(None).join(&path).exists() {
                made.insert(0, Self::make(&path));
            }
            for controller in ["cpu", "memory"] {
                switch_on(&hierarchy(Some(controller)).join(&path), controller);
            }
        }
        let mut innermost = Self::make(&path.join(name));
        innermost.above = made;
        innermost
    }

    fn named(name: &str) -> Self {
        Self::make(Path::new(name))
    }

    fn make(name: &Path) -> Self {
        let made = |controller| {
            let root = hierarchy(controller);
            if let Some(controller) = controller {
                switch_on(&root, controller);
            }
            let path = root.join(name);
            fs::create_dir_all(&path)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
            path
        };
        let (unified, cpu, memory) = (made(None), made(Some("cpu")), made(Some("memory")));
        Self { unified, cpu, memory, above: Vec::new() }
    }

    /// Whether cgroup v2 has every controller.
    pub(super) fn is_whole(&self) -> bool {
        self.is_v2(&self.cpu) && self.is_v2(&self.memory)
    }

    pub(super) fn cgroups(&self) -> Cgroups {
        Cgroups {
            unified: Some(cgroup(&self.unified)),
            traffic: None,
            cpu: Some(cgroup(&self.cpu)),
            cpuacct: None,
            memory: Some(cgroup(&self.memory)),
            shared: false,
        }
    }

    pub(super) fn add(&self, pid: u32) {
        for path in [&self.unified, &self.cpu, &self.memory] {
            fs::write(path.join("cgroup.procs"), pid.to_string())
                .unwrap_or_else(|error| panic!("cannot enter {}: {error}", path.display()));
        }
    }

    /// Allows `quota` of each `period`, in microseconds.
    pub(super) fn limit_cpu(&self, quota: u32, period: u32) {
        if self.is_v2(&self.cpu) {
            fs::write(self.cpu.join("cpu.max"), format!("{quota} {period}")).unwrap();
        } else {
            fs::write(self.cpu.join("cpu.cfs_period_us"), period.to_string()).unwrap();
            fs::write(self.cpu.join("cpu.cfs_quota_us"), quota.to_string()).unwrap();
        }
    }

    pub(super) fn limit_memory(&self, bytes: u64) {
        let v2 = self.is_v2(&self.memory);
        let file = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.memory.join(file), bytes.to_string()).unwrap();
        if v2 {
            // Absent without swap.
            let _ = fs::write(self.memory.join("memory.swap.max"), "0");
        }
    }

    /// `nr_throttled` and the throttled time in nanoseconds, from `cpu.stat`.
    pub(super) fn cpu_stat(&self) -> (u64, u64) {
        let text = fs::read_to_string(self.cpu.join("cpu.stat")).unwrap();
        let value = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let time = value("throttled_time ").or(value("throttled_usec ").map(|us| us * 1000));
        (value("nr_throttled ").unwrap(), time.unwrap())
    }

    fn is_v2(&self, path: &Path) -> bool {
        path == self.unified
    }
}

impl Drop for TestCgroups {
    fn drop(&mut self) {
        for path in [&self.unified, &self.cpu, &self.memory] {
            remove(path);
        }
        for above in self.above.drain(..) {
            drop(above);
        }
    }
}

/// On cgroup v2 a controller must be switched on for children; v1 has no such file.
fn switch_on(directory: &Path, controller: &str) {
    let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
}

fn cgroup(path: &Path) -> Cgroup {
    Cgroup { path: path.to_owned(), id: path.metadata().unwrap().ino() }
}

/// Kills the processes in a cgroup and below, and removes it. Prints a failure instead of panicking
/// in a drop.
fn remove(path: &Path) {
    let start = Instant::now();
    while let Err(error) = fs::remove_dir(path) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        if start.elapsed() > Duration::from_secs(10) {
            eprintln!("cannot remove {}: {error}", path.display());
            return;
        }
        for below in fs::read_dir(path).into_iter().flatten().flatten() {
            if below.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&below.path());
            }
        }
        let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|line| line.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The mount point of a controller's hierarchy; without a controller, or if no v1 hierarchy has it,
/// cgroup2.
fn hierarchy(controller: Option<&str>) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let find = |kind: &str, option: Option<&str>| {
        mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let (found, options) = (right.next()?, right.nth(1)?);
            let wanted = option.is_none_or(|o| options.split(',').any(|x| x == o));
            (found == kind && wanted).then(|| PathBuf::from(left.split(' ').nth(4).unwrap()))
        })
    };
    controller
        .and_then(|controller| find("cgroup", Some(controller)))
        .or_else(|| find("cgroup2", None))
        .expect("no cgroup2 mount: mount -t cgroup2 none /sys/fs/cgroup/unified")
}
