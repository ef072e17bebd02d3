//! Containers of every driver and runtime, in directory trees like those of nodes.
use std::{fs, path::PathBuf};

use paramedic_core::target::Cgroup;

use super::*;

/// A tree below a temporary directory, removed with the test.
struct Node {
    _directory: tempfile::TempDir,
    tree: Tree,
}

const V2: &str = "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n";
const HYBRID: &str = "1 1 0:1 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n\
                      2 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup c rw,cpu\n\
                      3 1 0:3 / /sys/fs/cgroup/cpuacct rw - cgroup c rw,cpuacct\n\
                      4 1 0:4 / /sys/fs/cgroup/memory rw - cgroup c rw,memory\n";
const V1: &str = "2 1 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup c rw,cpu,cpuacct\n\
                  4 1 0:4 / /sys/fs/cgroup/memory rw - cgroup c rw,memory\n";

impl Node {
    fn new(mountinfo: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let tree = Tree { proc: root.join("proc"), root };
        fs::create_dir_all(tree.proc.join("self")).unwrap();
        fs::write(tree.proc.join("self/mountinfo"), mountinfo).unwrap();
        Self { _directory: directory, tree }
    }

    /// A cgroup of this path in these hierarchies (relative to /sys/fs/cgroup), with these pids.
    fn cgroup(&self, hierarchies: &[&str], path: &str, pids: &[i32]) -> PathBuf {
        let mut made = PathBuf::new();
        for hierarchy in hierarchies {
            made = self.tree.root.join("sys/fs/cgroup").join(hierarchy).join(path);
            fs::create_dir_all(&made).unwrap();
            let list: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
            fs::write(made.join("cgroup.procs"), list).unwrap();
        }
        made
    }

    /// A process: its parent, its start, and its pids from the outermost namespace inwards.
    fn process(&self, pid: i32, parent: i32, start: u64, nspid: &str) {
        let directory = self.tree.proc.join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        let stat = format!("{pid} (x) S {parent} 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 {start} 0 0");
        fs::write(directory.join("stat"), stat).unwrap();
        fs::write(directory.join("status"), format!("Name:\tx\nNSpid:\t{nspid}\n")).unwrap();
    }

    fn find(&self, id: &str) -> Result<Container, ContainerError> {
        Containers::default().find(&self.tree, id)
    }
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// The pod directory of the container `id`, as each driver and runtime names it.
fn directories(id: &str) -> [(&'static str, String); 9] {
    let burstable = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_V.slice";
    [
        ("cgroupfs, guaranteed", format!("kubepods/podU-V/{id}")),
        ("cgroupfs, burstable", format!("kubepods/burstable/podU-V/{id}")),
        ("cgroupfs, best effort", format!("kubepods/besteffort/podU-V/{id}")),
        ("systemd, containerd", format!("{burstable}/cri-containerd-{id}.scope")),
        (
            "systemd, guaranteed",
            format!("kubepods.slice/kubepods-podU_V.slice/cri-containerd-{id}.scope"),
        ),
        ("systemd, CRI-O", format!("{burstable}/crio-{id}.scope")),
        ("systemd, dockershim", format!("{burstable}/docker-{id}.scope")),
        (
            "kind",
            format!(
                "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podU_V.slice/cri-containerd-{id}.scope"
            ),
        ),
        ("another root", format!("mine/kubepods/podU-V/{id}")),
    ]
}

#[test]
fn every_driver_and_runtime_is_found_in_every_layout() {
    for (mountinfo, hierarchies) in [
        (V2, ["."].as_slice()),
        (HYBRID, &["unified", "cpu", "cpuacct", "memory"]),
        (V1, &["cpu,cpuacct", "memory"]),
    ] {
        for (what, path) in directories(&id('a')) {
            let node = Node::new(mountinfo);
            node.cgroup(hierarchies, &path, &[40]);
            let sandbox = path.replace(&id('a'), &id('b'));
            node.cgroup(hierarchies, &sandbox, &[39]);
            node.process(39, 7, 100, "39\t1");
            node.process(40, 7, 101, "40\t1");
            let found = node.find(&id('a')).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(found.main, ProcessId { pid: 40, start_time: 101 }, "{what}");
            assert!(!found.cgroups.shared);
            let ends = |group: &Option<Cgroup>| {
                group.as_ref().is_none_or(|group| group.path.ends_with(&path))
            };
            let groups = &found.cgroups;
            assert!(ends(&groups.unified) && ends(&groups.cpu) && ends(&groups.cpuacct), "{what}");
            assert!(groups.memory.is_some() && ends(&groups.memory), "{what}");
            assert_eq!(groups.unified.is_some(), mountinfo != V1, "{what}");
            assert_eq!(node.find(&id('b')).unwrap().main.pid, 39, "the sandbox is another");
        }
    }
}

#[test]
fn a_containers_monitor_is_not_the_container() {
    let node = Node::new(V2);
    node.cgroup(&["."], &format!("kubepods.slice/crio-conmon-{}.scope", id('a')), &[40]);
    node.process(40, 1, 100, "40");
    assert!(matches!(node.find(&id('a')), Err(ContainerError::NoCgroup(_))));
}

#[test]
fn if_the_runtime_nests_cgroups_the_child_is_used() {
    let node = Node::new(V2);
    let scope = format!("kubepods.slice/crio-{}.scope", id('a'));
    node.cgroup(&["."], &scope, &[]);
    let inner = node.cgroup(&["."], &format!("{scope}/container"), &[40]);
    node.process(40, 7, 100, "40\t1");
    let found = node.find(&id('a')).unwrap();
    assert_eq!(found.cgroups.unified.unwrap().path, inner);
    assert!(found.cgroups.cpu.unwrap().path.ends_with(&scope), "limits are the scope's");
}

#[test]
fn the_first_process_is_distinguished_from_exec_processes() {
    let node = Node::new(V2);
    node.cgroup(&["."], &format!("kubepods/podU/{}", id('a')), &[60, 50, 40, 41]);
    node.process(40, 7, 100, "40\t1");
    node.process(41, 40, 101, "41\t8");
    node.process(50, 7, 90, "50\t20");
    node.process(60, 7, 300, "60\t30");
    assert_eq!(node.find(&id('a')).unwrap().main.pid, 40, "pid 1 of its namespace");
}

#[test]
fn in_a_shared_pid_namespace_the_first_process_is_the_oldest_from_outside() {
    let node = Node::new(V2);
    node.cgroup(&["."], &format!("kubepods/podU/{}", id('a')), &[60, 40, 41]);
    node.process(40, 7, 100, "40\t9");
    node.process(41, 40, 99, "41\t8");
    node.process(60, 7, 300, "60\t30");
    assert_eq!(node.find(&id('a')).unwrap().main.pid, 40);
}

#[test]
fn an_empty_or_unknown_container_is_not_found() {
    let node = Node::new(V2);
    node.cgroup(&["."], &format!("kubepods/podU/{}", id('a')), &[]);
    assert!(matches!(node.find(&id('a')), Err(ContainerError::Empty(_))));
    assert!(matches!(node.find(&id('b')), Err(ContainerError::NoCgroup(_))));
    assert!(Node::new("").find(&id('a')).is_err());
}

#[test]
fn a_container_that_came_later_is_found_by_a_new_search() {
    let node = Node::new(V2);
    let mut containers = Containers::default();
    assert!(containers.find(&node.tree, &id('a')).is_err());
    let path = node.cgroup(&["."], &format!("kubepods/podU/{}", id('a')), &[40]);
    node.process(40, 7, 100, "40\t1");
    assert_eq!(containers.find(&node.tree, &id('a')).unwrap().main.pid, 40);
    fs::remove_dir_all(path).unwrap();
    assert!(containers.find(&node.tree, &id('a')).is_err());
}

#[test]
fn only_64_hexadecimal_digits_are_an_id() {
    assert_eq!(id_of_directory(&id('0')), Some(id('0').as_str()));
    for bad in ["", "x", "kubepods", &id('g'), &id('A'), &format!("{}0", id('a')), "docker-.scope"]
    {
        assert_eq!(id_of_directory(bad), None, "{bad}");
    }
}
