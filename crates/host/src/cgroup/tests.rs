use super::*;

pub(crate) fn fixture(kind: &str) -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cgroup").join(kind);
    Tree { proc: root.join("proc"), root }
}

/// The cgroups of `pid`, claimed for `main`.
pub(crate) fn cgroups_of(kind: &str, pid: i32) -> Cgroups {
    let tree = fixture(kind);
    let mut cgroups = tree.cgroups(&tree.hierarchies().unwrap(), pid).unwrap();
    claim(&tree, &mut cgroups, &tree.table().unwrap(), pid);
    cgroups
}

fn below(kind: &str, group: Option<&Cgroup>) -> String {
    let root = fixture(kind).root.join("sys/fs/cgroup");
    group.unwrap().path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

fn ends_with(group: Option<&Cgroup>, end: &str) -> bool {
    group.unwrap().path.to_str().unwrap().ends_with(end)
}

#[test]
fn v1_has_a_directory_per_controller_and_none_for_ebpf() {
    let nginx = cgroups_of("v1", 2001);
    assert_eq!(nginx.unified, None);
    assert_eq!(below("v1", nginx.cpu.as_ref()), "cpu,cpuacct/system.slice/nginx.service");
    assert_eq!(nginx.cpu, nginx.cpuacct);
    assert_eq!(below("v1", nginx.memory.as_ref()), "memory/system.slice/nginx.service");
    let docker = cgroups_of("v1", 1001);
    assert!(below("v1", docker.cpu.as_ref()).starts_with("cpu,cpuacct/docker/4f1c"));
    let pod = cgroups_of("v1", 3001);
    assert!(below("v1", pod.memory.as_ref()).starts_with("memory/kubepods/burstable/pod1f0e"));
}

#[test]
fn v2_has_one_directory_for_everything() {
    for (pid, start, end) in [
        (1001, "system.slice/docker-4f1c", ".scope"),
        (2001, "system.slice/nginx", ".service"),
        (3001, "kubepods.slice/kubepods-burstable.slice/", ".scope"),
    ] {
        let cgroups = cgroups_of("v2", pid);
        let path = below("v2", cgroups.unified.as_ref());
        assert!(path.starts_with(start) && path.ends_with(end), "{path}");
        let id = fs::metadata(&cgroups.unified.as_ref().unwrap().path).unwrap().ino();
        assert_eq!(cgroups.unified.as_ref().unwrap().id, id);
        for other in [&cgroups.cpu, &cgroups.cpuacct, &cgroups.memory] {
            assert_eq!(*other, cgroups.unified);
        }
    }
}

#[test]
fn a_hybrid_has_both() {
    let nginx = cgroups_of("hybrid", 2001);
    let end = "/system.slice/nginx.service";
    assert_eq!(below("hybrid", nginx.unified.as_ref()), format!("unified{end}"));
    assert_eq!(below("hybrid", nginx.cpu.as_ref()), format!("cpu{end}"));
    assert_eq!(below("hybrid", nginx.cpuacct.as_ref()), format!("cpuacct{end}"));
    assert!(ends_with(nginx.memory.as_ref(), end));
}

#[test]
fn a_services_cgroup_is_exclusive_and_a_shells_child_shares_one() {
    for kind in ["v1", "v2", "hybrid"] {
        for pid in [1001, 2001, 3001] {
            assert!(!cgroups_of(kind, pid).shared, "{kind} {pid}");
        }
        assert!(cgroups_of(kind, 4002).shared, "{kind}: the shell is not its child");
        assert!(cgroups_of(kind, 2002).shared, "{kind}: the master is not the worker's child");
    }
}

#[test]
fn an_ended_process_has_no_cgroups() {
    let tree = fixture("v2");
    let error = tree.cgroups(&tree.hierarchies().unwrap(), 77).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn invalid_lines_are_skipped() {
    let text = "\n0\n0:\n3:cpu\n0::/a:b\n4:cpuset:/x\n2:cpu,cpuacct:/c\n9:name=cpu:/no\n";
    let paths = Paths { unified: Some("/a:b"), cpu: Some("/c"), cpuacct: Some("/c"), memory: None };
    assert_eq!(Paths::parse(text), paths);
}

/// A temporary directory, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("paramedic-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn tree(&self) -> Tree {
        Tree { proc: self.0.join("proc"), root: self.0.clone() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn group(path: &Path) -> Cgroup {
    Cgroup { path: path.to_owned(), id: fs::metadata(path).unwrap().ino() }
}

#[test]
fn from_inside_a_container_siblings_are_found_through_the_hosts_mount() {
    let dir = Scratch::new("namespace");
    let own = std::process::id();
    dir.write("proc/self/mountinfo", "1 1 0:1 /../.. /host rw - cgroup2 c rw\n");
    dir.write("proc/50/cgroup", "0::/../pod-b/c\n");
    dir.write("proc/51/cgroup", "0::/../../../elsewhere\n");
    dir.write("host/kubepods/agent/cgroup.procs", &format!("1\n{own}\n"));
    dir.write("host/kubepods/pod-b/c/cgroup.procs", "50\n");
    dir.write("host/system/x/cgroup.procs", "9\n");
    let tree = dir.tree();
    let hierarchies = tree.hierarchies().unwrap();
    let found = tree.cgroups(&hierarchies, 50).unwrap().unified.unwrap();
    assert_eq!(found.path, dir.0.join("host/kubepods/pod-b/c"));
    assert_eq!(tree.cgroups(&hierarchies, 51).unwrap().unified, None);
}

#[test]
fn unseen_and_nested_processes_make_a_cgroup_shared() {
    let dir = Scratch::new("claim");
    let stat = |pid, parent| {
        let tail = "0 -1 4194560 1 0 0 0 2 5 0 0 20 0 1 0 100 9 9 9 9";
        format!("{pid} (x) S {parent} 1 1 0 {tail}\n")
    };
    dir.write("proc/10/stat", &stat(10, 1));
    dir.write("proc/11/stat", &stat(11, 10));
    dir.write("c/cgroup.procs", "10\n");
    dir.write("c/below/cgroup.procs", "11\n");
    let tree = dir.tree();
    let table = tree.table().unwrap();
    assert_eq!(table.0.len(), 2);
    let home = group(&dir.0.join("c"));
    let claimed = |table: &Table| {
        let mut cgroups = Cgroups { unified: Some(home.clone()), ..Cgroups::default() };
        claim(&tree, &mut cgroups, table, 10);
        cgroups.shared
    };
    assert!(!claimed(&table));
    assert_eq!(members(&home).unwrap(), [10, 11]);
    dir.write("c/cgroup.procs", "10\n0\n");
    assert!(claimed(&table), "a process of another PID namespace");
    dir.write("c/cgroup.procs", "10\n12\n");
    assert!(!claimed(&table), "12 has ended");
    dir.write("proc/12/stat", &stat(12, 11));
    assert!(!claimed(&table), "12 is newer than the table, and of the family");
    dir.write("proc/12/stat", &stat(12, 1));
    assert!(claimed(&table), "12 is newer than the table, and a stranger");
    dir.write("c/cgroup.procs", "10\n");
    dir.write("c/below/cgroup.procs", "1\n");
    dir.write("proc/1/stat", &stat(1, 0));
    assert!(claimed(&tree.table().unwrap()), "a stranger further down");
    fs::remove_file(dir.0.join("c/cgroup.procs")).unwrap();
    assert!(claimed(&table), "what cannot be read counts as shared");
}

#[test]
fn a_shared_memory_cgroup_is_dropped_alone() {
    let dir = Scratch::new("memory");
    dir.write("unified/cgroup.procs", "10\n");
    dir.write("memory/cgroup.procs", "10\n1\n");
    dir.write("proc/10/stat", "10 (x) S 1 1 1 0 -1 4 1 0 0 0 2 5 0 0 20 0 1 0 100 9 9 9 9\n");
    dir.write("proc/1/stat", "1 (x) S 0 1 1 0 -1 4 1 0 0 0 2 5 0 0 20 0 1 0 100 9 9 9 9\n");
    let mut cgroups = Cgroups {
        unified: Some(group(&dir.0.join("unified"))),
        memory: Some(group(&dir.0.join("memory"))),
        ..Cgroups::default()
    };
    let tree = dir.tree();
    claim(&tree, &mut cgroups, &tree.table().unwrap(), 10);
    assert!(!cgroups.shared);
    assert_eq!(cgroups.memory, None);
    let mut none = Cgroups::default();
    claim(&tree, &mut none, &tree.table().unwrap(), 10);
    assert!(none.shared, "no cgroup at all");
}
