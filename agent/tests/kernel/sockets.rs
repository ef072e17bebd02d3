//! Sockets that belong to another cgroup than the process that serves on them.
use crate::kernel::{
    cgroups::TestCgroups,
    counters, eventually, load,
    patient::{Client, Patient},
    target,
};
use agent_common::Counters;
use paramedic_core::target::Target;
use paramedic_probes::WatchError;

/// A worker in its own cgroup that accepts from its master's socket.
struct Lent {
    master: Patient,
    /// In the worker's cgroup too.
    peer: Patient,
    address: std::net::SocketAddr,
}

impl Lent {
    fn new(master_home: TestCgroups, worker_home: TestCgroups) -> Self {
        let mut master = Patient::start_in(master_home);
        let peer = Patient::start_in(worker_home);
        let lent = master.ask("lend 127.0.0.1:0");
        let (address, pid) = lent.split_once(' ').unwrap();
        peer.home.add(pid.parse().unwrap());
        Self { master, peer, address: address.parse().unwrap() }
    }

    /// The worker, with the cgroup of its process.
    fn worker(&self) -> Target {
        target(self.peer.cgroups(), Some(self.address.port()))
    }

    /// The worker, with the cgroup of its socket.
    fn told(&self) -> Target {
        let mut told = self.worker();
        told.cgroups.traffic = self.master.cgroups().unified;
        told
    }

    fn ask(&self) {
        let mut client = Client::connect(self.address);
        for path in ["/200", "/500", "/503", "/404"] {
            assert_eq!(client.get(path), path[1..].parse::<u16>().unwrap());
        }
    }
}

/// The counts of one [`Lent::ask`].
fn asked() -> Counters {
    Counters { requests: 4, responses: [0, 1, 0, 1, 2], unavailable: 1, ..Counters::default() }
}

fn is_counted_by_the_sockets_cgroup(mut lent: Lent) {
    let mut kernel = load(2);
    let blind = kernel.watch(&lent.worker()).unwrap();
    lent.ask();
    assert_eq!(counters(&kernel, blind), Counters::default(), "its process's cgroup sees nothing");
    kernel.unwatch(blind).unwrap();

    let slot = kernel.watch(&lent.told()).unwrap();
    assert_eq!(counters(&kernel, slot), Counters::default());
    lent.ask();
    assert_eq!(counters(&kernel, slot), asked());
    let mut client = Client::connect(lent.address);
    client.get("/200");
    client.reset();
    eventually("a reset", || (counters(&kernel, slot).resets_received == 1).then_some(()));

    // The process's own sockets still belong to its cgroup, and it does not count others there.
    let before = counters(&kernel, slot);
    let upstream = lent.master.listen("127.0.0.1:0");
    lent.peer.ask(&format!("get {upstream} /500 3"));
    let calls = Counters { upstream_requests: 3, upstream_responses: 3, ..Counters::default() };
    let calls = Counters { upstream_5xx: 3, ..calls };
    assert_eq!(counters(&kernel, slot), before.plus(&calls));
    lent.master.ask(&format!("get {} /200 3", lent.peer.listen("127.0.0.1:0")));
    assert_eq!(counters(&kernel, slot), before.plus(&calls));

    // A leftover would count twice.
    kernel.unwatch(slot).unwrap();
    let [socket, process] = [&lent.master, &lent.peer].map(|p| target(p.cgroups(), None));
    let [socket, process] = [socket, process].map(|target| kernel.watch(&target).unwrap());
    lent.ask();
    assert_eq!(counters(&kernel, socket), asked());
    Client::connect(lent.peer.listen("127.0.0.1:0")).get("/200");
    let once = Counters { requests: 1, responses: [0, 1, 0, 0, 0], ..Counters::default() };
    assert_eq!(counters(&kernel, process), once);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_workers_traffic_is_counted_by_the_cgroup_of_its_masters_socket() {
    is_counted_by_the_sockets_cgroup(Lent::new(TestCgroups::new(), TestCgroups::new()));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_sockets_cgroup_may_be_above_the_processs() {
    let above = TestCgroups::new();
    let below = above.below();
    is_counted_by_the_sockets_cgroup(Lent::new(above, below));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_sockets_cgroup_may_be_below_the_processs() {
    let above = TestCgroups::new();
    let below = above.below();
    is_counted_by_the_sockets_cgroup(Lent::new(below, above));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_workers_of_one_socket_are_one_service() {
    let lent = Lent::new(TestCgroups::new(), TestCgroups::new());
    let mut kernel = load(3);
    let slot = kernel.watch(&lent.told()).unwrap();
    assert!(matches!(kernel.watch(&lent.told()), Err(WatchError::Taken)));
    let master = target(lent.master.cgroups(), Some(lent.address.port()));
    assert!(matches!(kernel.watch(&master), Err(WatchError::Taken)), "the same socket");
    lent.ask();
    assert_eq!(counters(&kernel, slot), asked());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_sockets_cgroup_that_was_replaced_or_is_gone_leaves_nothing_behind() {
    let lent = Lent::new(TestCgroups::new(), TestCgroups::new());
    let mut kernel = load(1);
    let mut other = lent.told();
    other.cgroups.traffic.as_mut().unwrap().id += 1;
    assert!(matches!(kernel.watch(&other), Err(WatchError::Replaced(_))));
    let mut gone = lent.told();
    gone.cgroups.traffic.as_mut().unwrap().path.push("gone");
    assert!(matches!(kernel.watch(&gone), Err(WatchError::Open { .. })));

    // A directory, but not a cgroup: the process's cgroup has its programs by then, and loses them
    // again.
    let mut plain = lent.told();
    let root = plain.cgroups.traffic.as_mut().unwrap();
    root.path = "/proc".into();
    root.id = std::os::unix::fs::MetadataExt::ino(&root.path.metadata().unwrap());
    assert!(matches!(kernel.watch(&plain), Err(WatchError::Attach { .. })));

    let slot = kernel.watch(&lent.told()).unwrap();
    lent.ask();
    assert_eq!(counters(&kernel, slot), asked());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_a_port_the_sockets_of_others_are_not_the_targets() {
    let mut lent = Lent::new(TestCgroups::new(), TestCgroups::new());
    let mut kernel = load(1);
    let mut told = lent.told();
    told.port = None;
    let slot = kernel.watch(&told).unwrap();
    Client::connect(lent.master.listen("127.0.0.1:0")).get("/500");
    assert_eq!(counters(&kernel, slot), Counters::default());
}
