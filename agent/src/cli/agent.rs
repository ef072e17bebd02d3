//! `paramedic agent`: one node of a cluster, or one machine with Docker.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use kube::Client;
use paramedic_core::{
    engine::Pace,
    guard::Policy,
    target::{MAX_TARGETS, Remedy},
};
use paramedic_docker::{Containers, Selection};
use paramedic_kubernetes::{self, Identity};
use paramedic_notify::Channel;
use paramedic_pod_metrics::Credentials;
use paramedic_startup::{Mistakes, WrongUsage};
use tracing::info;

use super::{
    docker::DockerSocket, evidence::Evidence, notify::Notify, record::Record, remedy, start::Launch,
};
use crate::run::{APPROVED, Config};

/// Watch this node's pods, or this machine's containers, and heal those that consent.
///
/// Runs as a DaemonSet: see manifests/. With `--runtime docker` it watches Docker containers
/// instead: see compose.yaml. Containers have labels where pods have annotations. Docker restarts
/// them, and eviction does not exist.
///
/// A pod consents by the label `paramedic.dev/heal`. The value is the strongest remedy that the
/// owner permits: `observe`, `soft` (a reset), `restart` (in place) or `evict`. The agent
/// neither watches nor touches a pod without the label. Annotations override the defaults:
/// `paramedic.dev/port`, `/health-path`, `/soft` (`http METHOD /path [body]`, `signal HUP`, `none`;
/// POST /heal by default), `/heal-path`, `/not-between` (`01:00-03:00 Europe/Berlin`: no remedies),
/// `/ask` (`restart` or `evict`: people are asked before it), `/min-confidence`, `/patience`, `/warm-up`, `/dump` (path of the app's own dump, read before a
/// restart or an eviction) and `/tls` (`true`: count responses in TLS too, by probes on the
/// functions of the app's TLS library, which costs it 10 to 40 % more CPU per request at full
/// speed, or more).
///
/// Before a hard remedy (restart, evict) the agent checks in the cluster that the workload is not
/// rolling out and that its disruption budget permits the remedy, and takes the workload's lock.
/// The annotation `paramedic.dev/paused=true` on the agent's namespace pauses all healing in the
/// cluster.
#[derive(Debug, Args)]
pub(super) struct NodeAgent {
    /// Container runtime.
    #[arg(long, env = "PARAMEDIC_RUNTIME", value_enum, default_value_t)]
    runtime: Runtime,
    #[command(flatten)]
    docker: DockerSocket,
    /// Name of this node, which is the one to watch. In a pod, set it from the field
    /// `spec.nodeName`. Not for Docker.
    #[arg(
        long,
        env = "NODE_NAME",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    node_name: String,
    /// Namespace of the agents. It holds their Leases, and its annotation pauses them.
    #[arg(long, env = "POD_NAMESPACE", default_value = "paramedic-system", value_name = "NAME")]
    namespace: String,
    /// Strongest remedy on this node, whatever a pod's label permits. The default imposes no limit.
    #[arg(
        long,
        alias = "max-action",
        env = "PARAMEDIC_MAX_REMEDY",
        value_parser = remedy::up_to(Remedy::Evict),
        default_value = "evict",
        value_name = "REMEDY"
    )]
    max_remedy: Remedy,
    /// Apply no remedy. Logs, metrics and Events record what the agent would have done.
    #[arg(long, env = "PARAMEDIC_DRY_RUN")]
    dry_run: bool,
    /// Maximum number of hard remedies on this node within a minute. The default limits the damage
    /// of a wrong verdict that affects many pods.
    #[arg(long, env = "PARAMEDIC_NODE_BUDGET", default_value_t = 2, value_name = "N")]
    node_budget: u32,
    /// Seconds between two regular samples of a pod. Kernel wake-ups cause further samples in
    /// between. The default costs about a hundredth of a core for a hundred pods.
    #[arg(long, env = "PARAMEDIC_INTERVAL", default_value_t = 2.0, value_name = "SECONDS")]
    interval: f64,
    /// Seconds from a remedy to the verdict on it. After a restart they begin when the container is
    /// ready. The default is longer than the window that the verdict rests on.
    #[arg(long, env = "PARAMEDIC_VERIFY_WINDOW", default_value_t = 15.0, value_name = "SECONDS")]
    verify_window: f64,
    /// Seconds for which an app may fail to answer before that counts as a fault. Longer if its
    /// liveness probe permits more (periodSeconds times failureThreshold) or the annotation
    /// `paramedic.dev/patience` says so.
    #[arg(long, env = "PARAMEDIC_PATIENCE", default_value_t = 10.0, value_name = "SECONDS")]
    patience: f64,
    /// Seconds that a new instance may take until it answers well. Longer if its startup probe
    /// permits more or the annotation `paramedic.dev/warm-up` says so.
    #[arg(long, env = "PARAMEDIC_WARM_UP", default_value_t = 60.0, value_name = "SECONDS")]
    warm_up: f64,
    /// ONNX classifier that replaces the built-in model.
    #[arg(long, env = "PARAMEDIC_MODEL", value_name = "FILE")]
    model: Option<PathBuf>,
    /// Permit the documented rules, which decide if no model is usable, to restart and evict. By
    /// default they only heal softly, because their error rate has not been measured.
    #[arg(long, env = "PARAMEDIC_RULES_MAY_RESTART")]
    rules_may_restart: bool,
    /// Directory of the incident journal, on the node so that it survives the agent. While it
    /// contains a file `paused`, the agent heals nothing on this node.
    #[arg(
        long,
        env = "PARAMEDIC_STATE_DIR",
        default_value = "/var/lib/paramedic",
        value_name = "DIR"
    )]
    state_dir: PathBuf,
    /// Listen address for metrics and status, read-only [default: [::]:9100 in a cluster, which
    /// Prometheus and the kubelet reach over IPv4 and IPv6; 127.0.0.1:9100 with Docker].
    #[arg(long, env = "PARAMEDIC_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Listen address for pod metrics (mTLS), from which the metrics API serves the HPA. Without it
    /// the agent does not open this port.
    #[arg(long, env = "PARAMEDIC_READINGS_LISTEN", value_name = "ADDRESS")]
    readings_listen: Option<SocketAddr>,
    /// Directory with the CA certificates of the metrics API (`ca.crt`) and the agent's token for
    /// it (`token`), both mounted by the cluster.
    #[arg(
        long,
        env = "PARAMEDIC_READINGS_CREDENTIALS",
        default_value = "/var/run/paramedic",
        value_name = "DIR"
    )]
    readings_credentials: PathBuf,
    /// Run without kernel signals, for example where eBPF is not permitted.
    #[arg(long, env = "PARAMEDIC_NO_KERNEL")]
    no_kernel: bool,
    #[command(flatten)]
    evidence: Evidence,
    #[command(flatten)]
    record: Record,
    #[command(flatten)]
    notify: Notify,
}

/// Container runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// Pods of a cluster, listed by its API server
    #[default]
    Kubernetes,
    /// Containers of this machine, listed by the Docker engine
    Docker,
}

impl Runtime {
    const fn listen(self) -> SocketAddr {
        match self {
            Self::Kubernetes => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT),
            // Containers are often on the host's network, which others can reach.
            Self::Docker => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
        }
    }
}

const PORT: u16 = 9100;

impl NodeAgent {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (config, channels) = self.config()?;
        if config.containers.is_some() {
            return self.launch(None, channels).run(config, None).await;
        }
        let client = paramedic_api_server::config().await.context(
            "no cluster: run it in a pod with a service account, or set KUBECONFIG to try it out",
        )?;
        let client = Client::try_from(client).context("cannot make a client of the API server")?;
        info!(
            node = self.node_name,
            max_remedy = self.max_remedy.name(),
            dry_run = self.dry_run,
            "watching this node's pods"
        );
        let identity = self.identity();
        let credentials = Credentials {
            authority: self.readings_credentials.join("ca.crt"),
            token: self.readings_credentials.join("token"),
        };
        let readings = self.readings_listen.map(|listen| (listen, credentials));
        self.launch(readings, channels).run(config, Some((client, identity))).await
    }

    fn launch(self, readings: Option<(SocketAddr, Credentials)>, channels: Vec<Channel>) -> Launch {
        Launch {
            listen: self.listen.unwrap_or(self.runtime.listen()),
            readings,
            model: self.model,
            state_dir: self.state_dir,
            targets: MAX_TARGETS,
            no_kernel: self.no_kernel,
            evidence: self.evidence.is_on(),
            record: self.record.place(),
            channels,
        }
    }

    /// The identity of this agent process: its node, and when it started.
    fn identity(&self) -> Identity {
        let born = paramedic_host::clock::now().as_nanos();
        Identity {
            node: self.node_name.clone(),
            namespace: self.namespace.clone(),
            holder: format!("{}/{}.{born:x}", self.node_name, std::process::id()),
        }
    }

    /// Turns the arguments into validated settings; reports all mistakes at once.
    fn config(&self) -> Result<(Config, Vec<Channel>), WrongUsage> {
        let mut mistakes = Mistakes::default();
        let pace = Pace {
            tick: mistakes.seconds("interval", self.interval, 0.5, 5.0),
            verify_window: mistakes.seconds("verify-window", self.verify_window, 1.0, 600.0),
        };
        // An operator's limit must not be lost by its new name.
        if std::env::var_os("PARAMEDIC_MAX_ACTION").is_some() {
            mistakes.add("PARAMEDIC_MAX_ACTION is now called PARAMEDIC_MAX_REMEDY: rename it");
        }
        let patience = mistakes.seconds("patience", self.patience, 1.0, 3600.0);
        let warm_up = mistakes.seconds("warm-up", self.warm_up, 0.0, 3600.0);
        let containers = match self.runtime {
            Runtime::Docker => {
                let engine = self.docker.engine(&mut mistakes);
                Some(Containers { engine, selection: Selection::Labelled })
            }
            Runtime::Kubernetes => {
                if self.node_name.is_empty() {
                    mistakes.add("--node-name (or NODE_NAME) must name the node to watch");
                } else {
                    mistakes.name("node-name", &self.node_name);
                }
                mistakes.name("namespace", &self.namespace);
                None
            }
        };
        if !(1..=16).contains(&self.node_budget) {
            let given = self.node_budget;
            mistakes.add(format!("--node-budget must be from 1 to 16, not {given}"));
        }
        if !Path::is_absolute(&self.state_dir) {
            let given = self.state_dir.display();
            mistakes.add(format!("--state-dir must be an absolute path, not {given}"));
        }
        self.record.check(&mut mistakes);
        let channels = self.notify.channels(&mut mistakes);
        mistakes.none()?;
        let config = Config {
            services: Vec::new(),
            containers,
            policy: Policy {
                max_remedy: self.max_remedy,
                rules_may_restart: self.rules_may_restart,
                node_budget: self.node_budget,
                dry_run: self.dry_run,
                patience,
                warm_up,
                ..Policy::default()
            },
            pace,
            restart_command: None,
            grace: Duration::from_secs(30),
            pause_file: Some(self.state_dir.join("paused")),
            approved_file: Some(self.state_dir.join(APPROVED)),
        };
        Ok((config, channels))
    }
}
