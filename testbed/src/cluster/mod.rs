//! `cargo xtask cluster`: a real Kubernetes on this machine, for `cargo xtask e2e`.
//!
//! Each node has a network and a mount namespace, with a containerd and a kubelet of its own; node 1
//! has the control plane too. All processes are in cgroups that this task makes, and it ends no
//! others. The machine's network, mounts and sysctls stay as they are.
mod build;
mod cgroups;
mod config;
mod keys;
mod layout;
mod programs;
mod up;
mod world;

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use layout::Node;
pub(crate) use world::Cluster;
use xtask::{process, workspace::Workspace};

use crate::stage::Interrupt;

/// Run a real Kubernetes with two nodes on this machine, for `cargo xtask e2e`.
///
/// A node is a network and a mount namespace with its own containerd and kubelet. The caller
/// provides the programs; nothing is fetched. State and logs are below target/cluster. Needs root,
/// util-linux and iproute2.
///
///   cargo xtask cluster up --programs DIR
///   cargo xtask cluster load target/images/*.tar
///   cargo xtask cluster in cargo xtask e2e
///   cargo xtask cluster down
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Build(build::Args),
    /// Start the cluster, and wait until every node is ready.
    Up {
        /// The folder of programs; an error names what is missing in it, and where to get it.
        #[arg(long, value_name = "DIR")]
        programs: PathBuf,
        /// How many nodes.
        #[arg(long, default_value_t = 2, value_name = "N")]
        nodes: u8,
    },
    /// End it, and remove everything but the logs.
    Down,
    /// Import images into every node.
    Load {
        /// Archives, as `cargo xtask image` makes them.
        #[arg(required = true, value_name = "FILE.tar")]
        files: Vec<PathBuf>,
    },
    /// Run a command in the namespaces of a node, with KUBECONFIG and PATH set for it.
    In {
        /// The node.
        #[arg(long, default_value = "node1", value_name = "NODE")]
        node: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// End everything on a node at once, as if its power failed.
    StopNode {
        /// The node; not node1, which has the control plane.
        node: String,
    },
    /// Start a node that was stopped. Its disk is as it was.
    StartNode {
        /// The node.
        node: String,
    },
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let home = workspace.target.join("cluster");
    match &args.what {
        What::Build(args) => {
            fs::create_dir_all(&home).context("cannot make the folder of the cluster")?;
            build::run(workspace, &home, args)
        }
        What::Up { programs, nodes } => up(workspace, &home, programs, *nodes),
        What::Down => down(&home),
        What::Load { files } => load(&home, files),
        What::In { node, command } => enter(&running(&home)?, node, command),
        What::StopNode { node } => stop_node(&running(&home)?, node),
        What::StartNode { node } => start_node(&running(&home)?, node, &Interrupt::catch()?),
    }
}

fn running(home: &Path) -> Result<Cluster> {
    Cluster::find(home)?.context("no cluster is up: cargo xtask cluster up --programs DIR")
}

fn named(node: &str) -> Result<Node> {
    Node::named(node).with_context(|| format!("no node {node}: node1, node2, …"))
}

/// The cluster that kubectl is set up for, if this task has made it.
pub(crate) fn of_kubeconfig() -> Result<Option<Cluster>> {
    let Some(config) = env::var_os("KUBECONFIG").map(PathBuf::from) else { return Ok(None) };
    let Some(home) = config.parent().and_then(Path::parent) else { return Ok(None) };
    Ok(Cluster::find(home)?.filter(|cluster| cluster.config() == config))
}

fn up(workspace: &Workspace, home: &Path, programs: &Path, nodes: u8) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "namespaces and cgroups need root: run it as root");
    if Cluster::find(home)?.is_some() {
        bail!("a cluster is up, or was not taken down: cargo xtask cluster down");
    }
    for program in ["ip", "mount", "nsenter", "setsid", "unshare"] {
        ensure!(
            process::on_path(program).is_some(),
            "no {program}: it is in Debian's util-linux, mount or iproute2"
        );
    }
    let programs = programs::find(programs)?;
    let begun = Instant::now();
    let interrupt = Interrupt::catch()?;
    let cluster = Cluster::begin(home, programs, nodes)?;
    if let Err(error) = cluster.cgroups().and_then(|cgroups| cgroups.make()) {
        // They are somebody else's, or there are none: nothing of this cluster exists.
        fs::remove_dir_all(cluster.state()).context("cannot remove the state")?;
        return Err(error);
    }
    if let Err(error) = up::start(&cluster, workspace, &interrupt) {
        let taken = end(&cluster);
        return Err(error.context(format!(
            "no cluster{}; logs: {}",
            taken.err().map(|error| format!(", and {error:#}")).unwrap_or_default(),
            cluster.logs().display()
        )));
    }
    println!("{}", cluster.kubectl(&["get", "nodes", "--output=wide"])?);
    println!("up in {:.0} s; logs: {}", begun.elapsed().as_secs_f64(), cluster.logs().display());
    Ok(())
}

fn down(home: &Path) -> Result<()> {
    let Some(cluster) = Cluster::find(home)? else {
        println!("no cluster is up");
        return Ok(());
    };
    end(&cluster)?;
    println!("down; the logs stay in {}", cluster.logs().display());
    Ok(())
}

/// Ends every process of the cluster, and removes what is left of it.
fn end(cluster: &Cluster) -> Result<()> {
    // With the last process of a namespace its mounts, links and routes are gone.
    let left = cluster.cgroups()?.end();
    ensure!(
        left.is_empty(),
        "cgroups are left: {}; look who is in them (cgroup.procs), then down again",
        world::list(&left)
    );
    let state = cluster.state();
    fs::remove_dir_all(&state)
        .with_context(|| format!("cannot remove {}: is something mounted there?", state.display()))
}

fn load(home: &Path, files: &[PathBuf]) -> Result<()> {
    let cluster = running(home)?;
    for file in files {
        for node in cluster.nodes() {
            up::load(&cluster, node, file)?;
            println!("{node}: {}", file.display());
        }
    }
    Ok(())
}

/// Becomes the command.
fn enter(cluster: &Cluster, node: &str, command: &[OsString]) -> Result<()> {
    // To enter a mount namespace leads to its root.
    let here = env::current_dir().context("where is this?")?;
    let mut entered = cluster.on(named(node)?, &["sh", "-c", r#"cd "$0" && exec "$@""#])?;
    let error = entered.arg(here).args(command).exec();
    Err(error).with_context(|| format!("cannot start: {}", process::shown(&entered)))
}

/// Cuts a node off, whatever it was doing.
pub(crate) fn stop_node(cluster: &Cluster, node: &str) -> Result<()> {
    let node = named(node)?;
    ensure!(node != Node::FIRST, "{node} has the control plane: cargo xtask cluster down ends all");
    cluster.holder(node)?;
    cluster.cut(node)
}

/// Starts a node that was stopped.
pub(crate) fn start_node(cluster: &Cluster, node: &str, interrupt: &Interrupt) -> Result<()> {
    let node = named(node)?;
    let count = cluster.about.nodes;
    ensure!(cluster.nodes().any(|own| own == node), "the cluster has {count} nodes");
    ensure!(cluster.holder(node).is_err(), "{node} is running");
    up::bring(cluster, node, interrupt)
}
