//! Starts a cluster, and a node of it.
use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use xtask::{image, process, workspace::Workspace};

use super::{
    config, keys,
    layout::{self, Node},
    world::{Cluster, list},
};
use crate::stage::Interrupt;

/// A program takes a second or two, on a busy machine a minute.
const STARTED: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

/// Starts everything. What was started before a failure runs on: the caller takes it down.
pub(super) fn start(cluster: &Cluster, workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    process::announce("keys and configurations");
    keys::make(&cluster.keys(), cluster.about.nodes)?;
    for (name, _, _) in keys::CLIENTS {
        configure(cluster, name)?;
    }
    cluster.put("etcd.json", &config::etcd(&cluster.state().join("etcd")).to_string())?;
    let sandbox = cluster.home.join("pause.tar");
    let pause = cluster.about.programs.join("pause");
    image::of_sandbox(workspace, &sandbox, config::PAUSE, &pause)?;
    cluster.open_outside()?;
    open(cluster, Node::FIRST, interrupt)?;
    control_plane(cluster, interrupt)?;
    for node in cluster.nodes() {
        bring(cluster, node, interrupt)?;
    }
    let account = ["get", "serviceaccount", "default"];
    let programs = [(Node::FIRST, "kube-controller-manager")];
    wait(cluster, interrupt, "the default service account", &programs, || {
        cluster.kubectl(&account).map(|_| ())
    })
}

/// Makes a node of the cluster: namespaces, containerd with the sandbox's image, kubelet. It may
/// have been cut off before; then it finds its disk as it was.
pub(super) fn bring(cluster: &Cluster, node: Node, interrupt: &Interrupt) -> Result<()> {
    process::announce(&format!("start {node}"));
    if node != Node::FIRST {
        open(cluster, node, interrupt)?;
    }
    let state = cluster.of(node);
    let name = |file: &str| format!("{node}/{file}");
    configure(cluster, &node.to_string())?;
    cluster.put(&name("resolv.conf"), &format!("nameserver {}\n", node.address()))?;
    fs::create_dir_all(state.join("net.d")).context("cannot make the folder of the network")?;
    cluster.put(&name("net.d/10-pods.conflist"), &config::cni(node).to_string())?;
    let programs = &cluster.about.programs;
    cluster.put(&name("containerd.toml"), &config::containerd(&state, programs))?;
    let pods = cluster.pods_cgroup(node);
    let kubelet = config::kubelet(node, &state, &cluster.keys(), &pods);
    cluster.put(&name("kubelet.json"), &kubelet.to_string())?;

    cluster.start(node, "containerd", &[flag("config", &state.join("containerd.toml"))])?;
    wait(cluster, interrupt, &format!("containerd of {node}"), &[(node, "containerd")], || {
        process::capture(&mut cluster.on(node, &["ctr", "version"])?).map(|_| ())
    })?;
    load(cluster, node, &cluster.home.join("pause.tar"))?;
    cluster.start(
        node,
        "kubelet",
        &[
            flag("config", &state.join("kubelet.json")),
            flag("kubeconfig", &cluster.state().join(format!("{node}.conf"))),
            format!("--hostname-override={node}"),
            format!("--node-ip={}", node.address()),
            "--root-dir=/var/lib/kubelet".to_owned(),
        ],
    )?;
    let begun = jiff::Timestamp::now();
    let programs = [(node, "kubelet"), (node, "containerd")];
    wait(cluster, interrupt, &format!("{node} ready"), &programs, || is_ready(cluster, node, begun))
}

/// Whether the kubelet that was started at `begun` has said so. Kubernetes dates by whole seconds.
fn is_ready(cluster: &Cluster, node: Node, begun: jiff::Timestamp) -> Result<()> {
    let fields = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status} \
                  {.status.conditions[?(@.type=='Ready')].lastHeartbeatTime}";
    let said = cluster.kubectl(&["get", "node", &node.to_string(), fields])?;
    let (ready, heard) = said.split_once(' ').context("it has no conditions yet")?;
    ensure!(ready == "True", "it is not ready");
    let heard: jiff::Timestamp = heard.parse().context("it has never been heard of")?;
    ensure!(heard.as_second() >= begun.as_second(), "it was ready before");
    Ok(())
}

/// Makes the namespaces of a node and what is in them before any program runs.
fn open(cluster: &Cluster, node: Node, interrupt: &Interrupt) -> Result<()> {
    let state = cluster.of(node);
    for folder in layout::folders() {
        let folder = state.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    for sysctl in layout::SYSCTLS {
        let now = fs::read(Path::new("/proc/sys").join(sysctl))
            .with_context(|| format!("cannot read the sysctl {sysctl}"))?;
        fs::write(state.join(layout::stand_in(sysctl)), now).context("cannot write a stand-in")?;
    }
    cluster.open(node)?;
    let holder = interrupt
        .until(&format!("namespaces of {node}"), STARTED, PAUSE, || cluster.holder(node))?;
    cluster.take(node, &layout::settle(&state))?;
    if node == Node::FIRST {
        cluster.take(node, &layout::control_plane())?;
    } else {
        // The kernel removes that of a node which was cut off a moment after its end.
        let _ = cluster.take(Node::FIRST, &layout::no_cable(node));
        cluster.take(Node::FIRST, &layout::cable(node, holder))?;
        cluster.take(node, &layout::uplink(node))?;
    }
    // A route to a node leads to a subnet, which is there before the node is.
    cluster.take(node, &layout::routes(node, cluster.about.nodes))
}

fn control_plane(cluster: &Cluster, interrupt: &Interrupt) -> Result<()> {
    process::announce("start the control plane");
    let (state, keys) = (cluster.state(), cluster.keys());
    let start = |name: &str, arguments: &[String]| cluster.start(Node::FIRST, name, arguments);
    start("etcd", &[flag("config-file", &state.join("etcd.json"))])?;
    // It waits for etcd by itself.
    start("kube-apiserver", &config::api_server(&keys))?;
    let programs = [(Node::FIRST, "etcd"), (Node::FIRST, "kube-apiserver")];
    wait(cluster, interrupt, "the API server", &programs, || {
        cluster.kubectl(&["get", "--raw", "/readyz"]).map(|_| ())
    })?;
    let manager =
        [config::controller(&state, "controller-manager"), config::controller_manager(&keys)];
    start("kube-controller-manager", &manager.concat())?;
    start("kube-scheduler", &config::controller(&state, "scheduler"))
}

/// Waits for something that these programs do together. It will not come if one of them has ended.
fn wait(
    cluster: &Cluster,
    interrupt: &Interrupt,
    what: &str,
    programs: &[(Node, &str)],
    look: impl Fn() -> Result<()>,
) -> Result<()> {
    let found = interrupt.until(what, STARTED, PAUSE, || {
        match programs.iter().try_for_each(|&(node, program)| cluster.runs(node, program)) {
            Ok(()) => look().map(Ok),
            Err(ended) => Ok(Err(ended)),
        }
    });
    let logs = || {
        programs.iter().map(|&(node, program)| cluster.log_of(node, program)).collect::<Vec<_>>()
    };
    found.with_context(|| format!("see {}", list(&logs())))?
}

/// Imports an image into a node.
pub(super) fn load(cluster: &Cluster, node: Node, file: &Path) -> Result<()> {
    // The node may not see the file by its path.
    let archive =
        || fs::File::open(file).with_context(|| format!("cannot read {}", file.display()));
    let mut import = cluster.on(node, &["ctr", "images", "import", "--local", "-"])?;
    process::capture(import.stdin(Stdio::from(archive()?)))
        .map(|_| ())
        .with_context(|| format!("{node} does not take {}", file.display()))
}

/// Writes the configuration of a client.
fn configure(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.put(&format!("{name}.conf"), &config::client(&cluster.keys(), name).to_string())
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
