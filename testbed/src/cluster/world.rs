//! A cluster that runs: its namespaces, its cgroups and its processes.
//!
//! Each node has a network and a mount namespace, which a process that only waits keeps. A process
//! is known by the number in its file as long as it is in the cgroup that the cluster made for it;
//! no other process of the machine is ever looked at.
use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use xtask::process;

use super::{
    cgroups::Cgroups,
    config::SOCKET,
    layout::{HIDDEN, MOST, Node, Step},
    programs,
};
use crate::stage::tail;

/// What `up` writes down for the other commands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    /// The folder of programs.
    pub(super) programs: PathBuf,
    /// How many nodes it has.
    pub(super) nodes: u8,
    /// Its cgroup, in every hierarchy of the machine.
    pub(super) cgroup: String,
}

/// A cluster, and where its files are.
pub(crate) struct Cluster {
    /// `target/cluster`.
    pub(super) home: PathBuf,
    pub(super) about: Description,
}

/// The name of the process that keeps the namespaces of a node.
const HOLDER: &str = "namespaces";
/// From a launch to a process in its cgroup: milliseconds.
const LAUNCHED: Duration = Duration::from_secs(20);
/// The file with the description, in the state.
const DESCRIPTION: &str = "cluster.json";

impl Cluster {
    /// A new one, whose description is on disk before anything of it exists.
    pub(super) fn begin(home: &Path, programs: PathBuf, nodes: u8) -> Result<Self> {
        ensure!((1..=MOST).contains(&nodes), "--nodes {nodes}: 1 to {MOST}");
        if let Some(hidden) = HIDDEN.iter().find(|hidden| home.starts_with(hidden)) {
            bail!(
                "{} is below {hidden}, which the nodes do not see: set CARGO_TARGET_DIR to another \
                 folder",
                home.display()
            );
        }
        // Two checkouts may have a cluster each.
        let cgroup = format!("paramedic-cluster-{:08x}", fastrand::u32(..));
        let cluster =
            Self { home: home.to_owned(), about: Description { programs, nodes, cgroup } };
        let _ = fs::remove_dir_all(cluster.logs());
        for folder in [cluster.state().join("run"), cluster.state().join("keys"), cluster.logs()] {
            // The keys are for nobody else.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let text = serde_json::to_string(&cluster.about)?;
        cluster.put(DESCRIPTION, &text)?;
        Ok(cluster)
    }

    /// The one that was started here, if one was.
    pub(super) fn find(home: &Path) -> Result<Option<Self>> {
        let file = home.join("state").join(DESCRIPTION);
        if !file.exists() {
            return Ok(None);
        }
        let about =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let about: Description = serde_json::from_str(&about)
            .with_context(|| format!("{} is no description of a cluster", file.display()))?;
        let prefix = about.cgroup.strip_prefix("paramedic-cluster-");
        ensure!(
            prefix.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit())),
            "{} names a cgroup that is not of such a cluster: {}",
            file.display(),
            about.cgroup
        );
        Ok(Some(Self { home: home.to_owned(), about }))
    }

    /// Everything that ends with the cluster.
    pub(super) fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.state().join("keys")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }

    /// The state of one node.
    pub(super) fn of(&self, node: Node) -> PathBuf {
        self.state().join(node.to_string())
    }

    /// The configuration of kubectl, with every right.
    pub(super) fn config(&self) -> PathBuf {
        self.state().join("admin.conf")
    }

    /// Writes a file of the state.
    pub(super) fn put(&self, name: &str, text: &str) -> Result<()> {
        let file = self.state().join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        Node::all(self.about.nodes)
    }

    pub(super) fn cgroups(&self) -> Result<Cgroups> {
        Cgroups::named(&self.about.cgroup)
    }

    fn cgroups_of(&self, node: Node) -> Result<Cgroups> {
        Ok(self.cgroups()?.below(&node.to_string()))
    }

    /// The cgroup below which the kubelet of a node makes those of its pods.
    pub(super) fn pods_cgroup(&self, node: Node) -> String {
        format!("/{}/{node}", self.about.cgroup)
    }

    /// Makes the namespaces of a node, and the process that keeps them.
    pub(super) fn open(&self, node: Node) -> Result<()> {
        let cgroups = self.cgroups_of(node)?;
        cgroups.make()?;
        cgroups.make_leaf()?;
        // From a process with the machine's own namespaces: this one may be inside a node.
        let outside = self.outside()?;
        let mut command = entering(outside);
        command.args(["unshare", "--mount", "--net", "--propagation", "private"]);
        command.args(["sleep", "infinity"]);
        self.launch(&cgroups, &format!("{node}-{HOLDER}"), &command)
    }

    /// Starts the process that keeps the machine's own namespaces, for nodes that come back later.
    pub(super) fn open_outside(&self) -> Result<()> {
        let cgroups = self.cgroups()?.below("outside");
        cgroups.make()?;
        cgroups.make_leaf()?;
        let mut command = Command::new("sleep");
        self.launch(&cgroups, "outside", command.arg("infinity"))
    }

    fn outside(&self) -> Result<u32> {
        let cgroups = self.cgroups()?.below("outside");
        let running = self.pid(&cgroups, "outside");
        running.context("the cluster has ended by itself: cargo xtask cluster down, then up")
    }

    /// The process that keeps the namespaces of a node, once they are there.
    pub(super) fn holder(&self, node: Node) -> Result<u32> {
        let holder = self.pid(&self.cgroups_of(node)?, &format!("{node}-{HOLDER}"));
        let holder = holder.with_context(|| {
            format!("{node} does not run: cargo xtask cluster start-node {node}")
        })?;
        let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net"));
        ensure!(network(holder)? != network(self.outside()?)?, "{node} has no network yet");
        let name = fs::read_to_string(format!("/proc/{holder}/comm"))?;
        ensure!(name.trim() == "sleep", "{node} has no mounts yet");
        Ok(holder)
    }

    /// Starts a program of the caller's folder on a node, where it stays until the node ends.
    pub(super) fn start(&self, node: Node, name: &str, arguments: &[String]) -> Result<()> {
        let mut command = entering(self.holder(node)?);
        command.arg(self.about.programs.join(name)).args(arguments);
        command.env("PATH", programs::path(&self.about.programs)?);
        self.launch(&self.cgroups_of(node)?, &format!("{node}-{name}"), &command)
    }

    /// Starts a command in the leaf of these cgroups, in a session of its own: it outlives this
    /// process.
    fn launch(&self, cgroups: &Cgroups, name: &str, command: &Command) -> Result<()> {
        /// It is in its cgroup before it becomes the program.
        const SCRIPT: &str = r#"echo $$ >"$1" && echo $$ >"$2" && shift 2 && exec "$@""#;
        let log = self.log(name);
        let file =
            fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut launcher = Command::new("setsid");
        launcher.args(["--fork", "sh", "-c", SCRIPT, "sh"]);
        launcher.arg(cgroups.entrance()).arg(self.pid_file(name));
        launcher.arg(command.get_program()).args(command.get_args()).current_dir("/");
        launcher.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        launcher.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let _ = fs::remove_file(self.pid_file(name));
        let status = launcher.status().context("cannot run setsid (util-linux)")?;
        ensure!(status.success(), "cannot start {name}: {status}");
        let deadline = Instant::now() + LAUNCHED;
        while !fs::read_to_string(self.pid_file(name)).is_ok_and(|pid| pid.ends_with('\n')) {
            ensure!(Instant::now() < deadline, "{name} does not start: {}", log.display());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The log of a program of a node.
    pub(super) fn log_of(&self, node: Node, program: &str) -> PathBuf {
        self.log(&format!("{node}-{program}"))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.state().join("run").join(name)
    }

    /// The process of this name, if it runs.
    fn pid(&self, cgroups: &Cgroups, name: &str) -> Option<u32> {
        let pid = fs::read_to_string(self.pid_file(name)).ok()?.trim().parse().ok()?;
        cgroups.hold(pid).then_some(pid)
    }

    /// Fails if a program of a node has ended, with the end of its log.
    pub(super) fn runs(&self, node: Node, program: &str) -> Result<()> {
        if self.pid(&self.cgroups_of(node)?, &format!("{node}-{program}")).is_some() {
            return Ok(());
        }
        let log = self.log_of(node, program);
        bail!("{program} of {node} has ended: {}\n{}", log.display(), tail(&log, 10))
    }

    /// A command that runs on a node, with the programs and the configuration of kubectl at hand.
    pub(super) fn on(&self, node: Node, command: &[&str]) -> Result<Command> {
        let mut entered = entering(self.holder(node)?);
        entered.args(command);
        entered.env("PATH", programs::path(&self.about.programs)?);
        entered.env("KUBECONFIG", self.config());
        entered.env("CONTAINERD_ADDRESS", SOCKET).env("CONTAINERD_NAMESPACE", "k8s.io");
        Ok(entered)
    }

    /// Runs the steps on a node.
    pub(super) fn take(&self, node: Node, steps: &[Step]) -> Result<()> {
        for step in steps {
            let words: Vec<&str> = step.iter().map(String::as_str).collect();
            process::capture(&mut self.on(node, &words)?)?;
        }
        Ok(())
    }

    /// What kubectl prints.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        process::capture(&mut self.on(Node::FIRST, &[&["kubectl"], arguments].concat())?)
    }

    /// Ends everything on a node at once, as if its power failed. Its disk stays.
    pub(super) fn cut(&self, node: Node) -> Result<()> {
        let left = self.cgroups_of(node)?.end();
        ensure!(left.is_empty(), "still there: {}", list(&left));
        Ok(())
    }
}

fn entering(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--mount", "--net", "--"]);
    command
}

/// Paths in one line.
pub(super) fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_found_again_by_its_description() {
        let home = tempfile::tempdir().unwrap();
        assert!(Cluster::find(home.path()).unwrap().is_none());
        let cluster = Cluster::begin(home.path(), "/programs".into(), 2).unwrap();
        let found = Cluster::find(home.path()).unwrap().unwrap();
        assert_eq!(found.about.cgroup, cluster.about.cgroup);
        assert_eq!(
            (found.nodes().count(), found.about.programs.as_path()),
            (2, Path::new("/programs"))
        );
        assert_eq!(found.pods_cgroup(Node(2)), format!("/{}/node2", cluster.about.cgroup));
    }

    #[test]
    fn a_cgroup_of_somebody_else_is_never_taken_for_a_clusters() {
        let home = tempfile::tempdir().unwrap();
        let cluster = Cluster::begin(home.path(), "/programs".into(), 1).unwrap();
        for other in ["", "kubepods", "paramedic-cluster-../user", "user.slice"] {
            let about = Description { cgroup: other.to_owned(), ..cluster.about_again() };
            cluster.put(DESCRIPTION, &serde_json::to_string(&about).unwrap()).unwrap();
            assert!(Cluster::find(home.path()).is_err(), "{other}");
        }
    }

    #[test]
    fn a_cluster_that_its_nodes_could_not_see_is_refused() {
        let refused = |home: &str, nodes| {
            Cluster::begin(Path::new(home), "/programs".into(), nodes).err().unwrap().to_string()
        };
        assert!(refused("/var/lib/ci/target/cluster", 2).contains("CARGO_TARGET_DIR"));
        assert!(refused("/src/target/cluster", 0).contains("1 to 9"));
    }

    impl Cluster {
        fn about_again(&self) -> Description {
            Description {
                programs: self.about.programs.clone(),
                nodes: self.about.nodes,
                cgroup: self.about.cgroup.clone(),
            }
        }
    }
}
