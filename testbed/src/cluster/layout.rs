//! Names and addresses of the nodes, and the commands that set up their network and mounts. Pure.
use std::{fmt, net::Ipv4Addr, path::Path};

/// The address of the Service `kubernetes`. Node 1 has it itself: there is no kube-proxy.
pub(super) const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The bridge of node 1 that leads to the other nodes.
const SWITCH: &str = "nodes";
/// How the other nodes call their end.
const UPLINK: &str = "uplink";
/// The most nodes: a /24 has room for more, a machine has not.
pub(super) const MOST: u8 = 9;

/// A node by its number, from 1. Node 1 has the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node(pub(super) u8);

impl Node {
    pub(super) const FIRST: Self = Self(1);

    /// The nodes of a cluster with this many.
    pub(super) fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// The node of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let number = name.strip_prefix("node")?.parse().ok()?;
        (1..=MOST).contains(&number).then_some(Self(number))
    }

    pub(super) const fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.0)
    }

    /// The subnet of its pods.
    pub(super) fn pods(self) -> String {
        format!("10.88.{}.0/24", self.0)
    }
}

/// Its name in the cluster.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node{}", self.0)
    }
}

/// A command and its arguments.
pub(super) type Step = Vec<String>;

fn step(line: &str) -> Step {
    line.split(' ').map(str::to_owned).collect()
}

/// What runs in the network of node 1 before any other node is there.
pub(super) fn control_plane() -> Vec<Step> {
    let own = Node::FIRST.address();
    vec![
        step(&format!("ip link add {SWITCH} type bridge")),
        step(&format!("ip address add {own}/24 dev {SWITCH}")),
        step(&format!("ip link set {SWITCH} up")),
        step(&format!("ip address add {SERVICE}/32 dev lo")),
    ]
}

/// What runs in the network of node 1 to lead a cable to another node, whose namespaces `holder`
/// keeps.
pub(super) fn cable(node: Node, holder: u32) -> Vec<Step> {
    vec![
        step(&format!("ip link add {node} type veth peer name {UPLINK} netns {holder}")),
        step(&format!("ip link set {node} master {SWITCH}")),
        step(&format!("ip link set {node} up")),
    ]
}

/// What takes the cable to another node away.
pub(super) fn no_cable(node: Node) -> Vec<Step> {
    vec![step(&format!("ip link delete {node}"))]
}

/// What runs in the network of another node than the first, after the cable.
pub(super) fn uplink(node: Node) -> Vec<Step> {
    let (own, first) = (node.address(), Node::FIRST.address());
    vec![
        step(&format!("ip address add {own}/24 dev {UPLINK}")),
        step(&format!("ip link set {UPLINK} up")),
        step(&format!("ip route add {SERVICES} via {first}")),
    ]
}

/// What leads from a node to the pods of all others.
pub(super) fn routes(node: Node, count: u8) -> Vec<Step> {
    let others = Node::all(count).filter(|other| *other != node);
    others
        .map(|other| step(&format!("ip route add {} via {}", other.pods(), other.address())))
        .collect()
}

/// Folders that programs have below paths of the machine, and their names in the state of a node.
const OWN: [(&str, &str); 5] = [
    ("/var/lib/kubelet", "kubelet"),
    ("/var/lib/cni", "cni"),
    ("/var/lib/paramedic", "paramedic"),
    ("/var/log/pods", "pod-logs"),
    ("/var/log/containers", "container-logs"),
];

/// Hidden below an empty file system in a node's mount namespace, so that nothing of the machine's
/// own is seen or changed.
pub(super) const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// What the kubelet would set for the whole machine: it gets files that it may write instead.
pub(super) const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The file in the state of a node that stands for a sysctl.
pub(super) fn stand_in(sysctl: &str) -> String {
    format!("sysctl/{}", sysctl.replace('/', "-"))
}

/// The folders in the state of a node.
pub(super) fn folders() -> impl Iterator<Item = &'static str> {
    OWN.iter().map(|(_, name)| *name).chain(["containerd", "plugins", "sysctl"])
}

/// What runs in the namespaces of a node, whose state is in this folder, before anything else.
pub(super) fn settle(state: &Path) -> Vec<Step> {
    let bind = |from: String, to: String| {
        let from = state.join(from).display().to_string();
        vec!["mount".to_owned(), "--bind".to_owned(), from, to]
    };
    let mut steps: Vec<Step> =
        HIDDEN.iter().map(|at| step(&format!("mount -t tmpfs -o mode=755 none {at}"))).collect();
    // What the kubelet mounts for a container must be seen by containerd.
    steps.push(step("mount --make-rshared /"));
    for (at, name) in OWN {
        steps.push(step(&format!("mkdir --parents {at}")));
        steps.push(bind(name.to_owned(), at.to_owned()));
    }
    for sysctl in SYSCTLS {
        steps.push(bind(stand_in(sysctl), format!("/proc/sys/{sysctl}")));
    }
    steps.push(step("ip link set lo up"));
    let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward".to_owned();
    steps.push(vec!["sh".to_owned(), "-c".to_owned(), forward]);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(steps: Vec<Step>) -> Vec<String> {
        steps.into_iter().map(|step| step.join(" ")).collect()
    }

    #[test]
    fn a_node_is_known_by_its_number() {
        let node = Node(2);
        assert_eq!(
            (node.to_string(), node.address().to_string()),
            ("node2".into(), "10.77.0.2".into())
        );
        assert_eq!(node.pods(), "10.88.2.0/24");
        assert_eq!(Node::named("node2"), Some(node));
        for not in ["2", "node0", "node10", "node300", "node", "worker2"] {
            assert_eq!(Node::named(not), None, "{not}");
        }
        assert_eq!(Node::all(3).map(|node| node.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn each_node_has_a_route_to_the_pods_of_every_other() {
        assert_eq!(lines(routes(Node(1), 1)), [""; 0]);
        assert_eq!(
            lines(routes(Node(2), 3)),
            ["ip route add 10.88.1.0/24 via 10.77.0.1", "ip route add 10.88.3.0/24 via 10.77.0.3"]
        );
    }

    #[test]
    fn the_other_nodes_reach_services_through_the_first() {
        assert_eq!(
            lines(cable(Node(2), 77))[0],
            "ip link add node2 type veth peer name uplink netns 77"
        );
        assert_eq!(
            lines(uplink(Node(2))),
            [
                "ip address add 10.77.0.2/24 dev uplink",
                "ip link set uplink up",
                "ip route add 10.96.0.0/16 via 10.77.0.1",
            ]
        );
        assert!(lines(control_plane()).contains(&"ip address add 10.96.0.1/32 dev lo".to_owned()));
    }

    #[test]
    fn nothing_is_mounted_over_the_machines_own_folders_before_they_are_hidden() {
        let steps = lines(settle(Path::new("/t/node1")));
        let at = |line: &str| steps.iter().position(|step| step == line).unwrap();
        assert!(
            at("mount -t tmpfs -o mode=755 none /var/lib") < at("mkdir --parents /var/lib/kubelet")
        );
        assert!(
            at("mkdir --parents /var/lib/kubelet")
                < at("mount --bind /t/node1/kubelet /var/lib/kubelet")
        );
        at("mount --bind /t/node1/sysctl/vm-panic_on_oom /proc/sys/vm/panic_on_oom");
    }
}
