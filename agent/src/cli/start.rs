//! Starts an agent for every long-running command: model, kernel signals, state directory, shutdown
//! signals.
use std::{
    future::pending,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use kube::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use paramedic_core::{decide::Classifier, guard::Policy, target::Remedy};
use paramedic_host::clock::{Clock, unix_seconds};
use paramedic_kubernetes::{Cluster, Identity, Requests, events};
use paramedic_notify::{Channel, Notifier};
use paramedic_pod_metrics::{Credentials, Feed, Port};
use paramedic_probes::{Kernel, Options, Probe, Status, Wakeups};
use paramedic_record::{
    BootId, EvidenceStore, Incident, JournalError, Metrics, Recorder, SharedJournal, StateLock,
    trace::{Header, Place, Trace, VERSION},
};
use paramedic_startup::shutdown;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::{error, info, warn};

use super::model_file;
use crate::{
    run::{Agent, Config, Node},
    serve::{BuildInfo, Query, Server, Sources},
};

/// Settings of every agent besides its [`Config`].
pub(super) struct Launch {
    pub(super) listen: SocketAddr,
    /// Listen address and credentials of the port for the metrics API, if it is enabled.
    pub(super) readings: Option<(SocketAddr, Credentials)>,
    pub(super) model: Option<PathBuf>,
    pub(super) state_dir: PathBuf,
    /// Maximum number of targets on the kernel side.
    pub(super) targets: usize,
    pub(super) no_kernel: bool,
    /// Whether to keep evidence before hard remedies.
    pub(super) evidence: bool,
    /// Where to record a trace, if at all.
    pub(super) record: Option<Place>,
    /// Through which channels people are told.
    pub(super) channels: Vec<Channel>,
}

impl Launch {
    /// Runs the agent until it is stopped; in node mode with its cluster.
    pub(super) async fn run(
        self,
        mut config: Config,
        cluster: Option<(Client, Identity)>,
    ) -> anyhow::Result<ExitCode> {
        if let Some(docker) = &config.containers {
            docker.engine.ping().await?;
        }
        let server = Server::bind(self.listen).with_context(|| {
            format!("cannot listen on {}: choose another address with --listen", self.listen)
        })?;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))?);
        let may_restart = config.policy.rules_may_restart;
        let classifier = Arc::new(classifier(self.model.as_ref(), may_restart, &metrics));
        raise_file_limit();
        let State { lock, journal, past } = State::open(&self.state_dir, &mut config.policy);
        let kernel = kernel(self.targets, self.no_kernel, &metrics);
        let about = BuildInfo {
            node: cluster.as_ref().map_or_else(BuildInfo::this_machine, |(_, id)| id.node.clone()),
            version: env!("CARGO_PKG_VERSION"),
            max_remedy: config.policy.max_remedy,
            dry_run: config.policy.dry_run,
            journal: journal.is_some(),
        };
        let mut parts = Parts::default();
        let node = cluster.map(|(client, identity)| node(client, identity, &metrics, &mut parts));
        let notices = node.as_ref().map(|node| node.notices.clone());
        let trace =
            self.record.map(|place| begin_trace(place, &config, &classifier)).transpose()?;
        let recorder = Recorder::new(
            Arc::clone(&metrics),
            Arc::clone(&classifier),
            journal.clone(),
            notices,
            Clock::default(),
        );
        // Without a journal there is no hard remedy to keep evidence of.
        let evidence = journal.as_ref().and(lock.as_ref()).filter(|_| self.evidence);
        let recorder = recorder.with_trace(trace).with_evidence(evidence.and_then(evidence_in));
        let notifier =
            notifier(self.channels, &about, journal.clone(), &metrics, &classifier, &mut parts);
        let (queries, asked) = mpsc::channel(8);
        let state_dir = journal.map(|_| self.state_dir);
        info!(address = %server.address()?, "serving metrics and status");
        if let Some((address, credentials)) = self.readings {
            let port = Port::bind(address, credentials).with_context(|| {
                format!("cannot listen on {address}: choose another with --readings-listen")
            })?;
            info!(address = %port.address()?, "serving pod metrics to the metrics API");
            let feed = Feed::default();
            let queries = queries.clone();
            parts.add(
                "the feed of pod metrics",
                feed.clone().run(async move || {
                    let (reply, answer) = oneshot::channel();
                    queries.send(Query::Readings(reply)).await.ok()?;
                    answer.await.ok()
                }),
            );
            parts.serve("the port for pod metrics", port.run(feed, parts.stopped()));
        }
        let sources = Sources { metrics, queries, state_dir, about };
        let server = server.run(sources, parts.stopped());
        parts.serve("the server for metrics and status", server);
        let agent = Agent::new(config, classifier, kernel, recorder, past, asked, node);
        let agent = agent.with_notifier(notifier);
        let (shutdown, mut ended) = (shutdown()?, None);
        let watched = agent
            .run(async {
                tokio::select! {
                    () = shutdown => {}
                    name = parts.ended() => ended = Some(name),
                }
            })
            .await;
        parts.stop().await;
        drop(lock);
        if let Some(name) = ended {
            bail!("{name} has ended: this is a bug, please report it with the log");
        }
        watched.context("a task that follows targets has failed")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The tasks beside the loop, which end with it. None of them ends before.
#[derive(Debug, Default)]
struct Parts {
    tasks: JoinSet<&'static str>,
    servers: JoinSet<&'static str>,
    stop: watch::Sender<bool>,
}

impl Parts {
    /// Adds a task that may be cut off at any point.
    fn add(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Adds a server, which ends once [`Parts::stopped`] resolves.
    fn serve(&mut self, name: &'static str, server: impl Future<Output = ()> + Send + 'static) {
        self.servers.spawn(async move {
            server.await;
            name
        });
    }

    /// Resolves at [`Parts::stop`].
    fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // An error means that the program ends.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// The name of the first that ends, by itself or by a panic.
    async fn ended(&mut self) -> &'static str {
        let ended = tokio::select! {
            Some(ended) = self.tasks.join_next() => ended,
            Some(ended) = self.servers.join_next() => ended,
            else => pending().await,
        };
        ended.unwrap_or("a task, by a panic,")
    }

    /// Stops the servers. Each lets its responses in progress end, within a few seconds.
    async fn stop(&mut self) {
        self.stop.send_replace(true);
        while self.servers.join_next().await.is_some() {}
    }
}

/// Starts a recording whose header has the model and policy.
fn begin_trace(place: Place, config: &Config, classifier: &Classifier) -> anyhow::Result<Trace> {
    let boot = BootId::current().context("cannot read the boot id")?;
    let (now, policy) = (paramedic_host::clock::now().as_nanos(), &config.policy);
    let header = Header {
        paramedic_trace: VERSION,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        run: format!("{}/{now:016x}", boot.as_str()),
        part: 0,
        boot_ns: now,
        unix_s: unix_seconds(),
        max_remedy: policy.max_remedy,
        dry_run: policy.dry_run,
        rules_may_restart: policy.rules_may_restart,
        node_budget: policy.node_budget,
        tick_ns: nanos(config.pace.tick),
        patience_ns: Some(nanos(policy.patience)),
        warm_up_ns: Some(nanos(policy.warm_up)),
        verify_window_ns: nanos(config.pace.verify_window),
        model: classifier.sha256().map(str::to_owned),
    };
    let directory = place.directory.display().to_string();
    Trace::begin(place, header).with_context(|| format!("cannot record into {directory}"))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn node(client: Client, identity: Identity, metrics: &Arc<Metrics>, parts: &mut Parts) -> Node {
    let metrics = Arc::clone(metrics);
    let requests = Requests::new(move |method, status| metrics.api_request(method, status));
    let cluster = Arc::new(Cluster::new(client, identity, Clock::default(), requests));
    let (notices, announced) = mpsc::channel(events::QUEUE);
    parts.add("the sender of Events", events::announce(Arc::clone(&cluster), announced));
    Node { cluster, notices }
}

/// What tells people, and the task that sends, if there is a channel.
fn notifier(
    channels: Vec<Channel>,
    about: &BuildInfo,
    journal: Option<SharedJournal>,
    metrics: &Arc<Metrics>,
    classifier: &Arc<Classifier>,
    parts: &mut Parts,
) -> Option<Notifier> {
    if channels.is_empty() {
        return None;
    }
    let known: Vec<String> = channels.iter().map(ToString::to_string).collect();
    info!(channels = known.join(", "), "telling people by notifications");
    let (metrics, classifier) = (Arc::clone(metrics), Arc::clone(classifier));
    let (node, clock) = (&about.node, Clock::default());
    let (notifier, sender) =
        paramedic_notify::start(channels, node, journal, metrics, classifier, clock);
    parts.serve("the sender of notifications", sender.run(parts.stopped()));
    Some(notifier)
}

/// The given or the built-in model; the rules if it is refused.
fn classifier(model: Option<&PathBuf>, rules_may_restart: bool, metrics: &Metrics) -> Classifier {
    let classifier = match model {
        Some(path) => model_file::load(path).into(),
        None => Classifier::embedded(),
    };
    match &classifier {
        Classifier::Rules { reason } => {
            metrics.rules();
            let may_restart = rules_may_restart;
            warn!(reason, may_restart, "no usable model: the documented rules decide");
        }
        Classifier::Model(_) => {
            let about = classifier.describe();
            let source = if model.is_some() { "file" } else { "built_in" };
            metrics.model(about.engine, source, &about.schema_version.to_string());
            let knows_strangers = about.knows_strangers;
            info!(
                engine = about.engine,
                trees = about.trees,
                knows_strangers,
                source,
                "model loaded"
            );
        }
    }
    classifier
}

/// Loads the available kernel signals, for this many targets.
fn kernel(targets: usize, no_kernel: bool, metrics: &Metrics) -> Option<(Kernel, Wakeups)> {
    if no_kernel {
        warn!("watching without kernel signals, as configured");
        return None;
    }
    let capacity = u32::try_from(targets).unwrap_or(u32::MAX);
    let loaded = Kernel::load(&Options::new(capacity)).map_err(anyhow::Error::from);
    let loaded = loaded.and_then(|mut kernel| {
        let wakeups = kernel.wakeups()?.context("another reader has the kernel wake-ups")?;
        Ok((kernel, wakeups))
    });
    match loaded {
        Ok((kernel, wakeups)) => {
            for probe in kernel.probes() {
                metrics.probe(probe.signal.name(), probe.mechanism.name(), probe.is_live());
                tell(probe);
            }
            Some((kernel, wakeups))
        }
        Err(error) => {
            let error = format!("{error:#}");
            warn!(error, "watching without kernel signals; run `paramedic check` for the cause");
            None
        }
    }
}

/// Logs one line per kernel signal.
fn tell(probe: &Probe) {
    let (signal, mechanism) = (probe.signal.name(), probe.mechanism.name());
    match &probe.status {
        Status::Unavailable { reason } => warn!(signal, reason, "kernel signal missing"),
        status => info!(signal, mechanism, status = status.name(), "kernel signal"),
    }
}

/// What the state directory provides: the right to act, the journal, and the incidents of earlier
/// agent processes.
struct State {
    /// Held while the agent acts, with or without a journal.
    lock: Option<StateLock>,
    journal: Option<SharedJournal>,
    past: Vec<Incident>,
}

impl State {
    /// Without a journal no hard remedy is applied; if another agent holds the directory, none at
    /// all.
    fn open(state_dir: &Path, policy: &mut Policy) -> Self {
        let lock = match StateLock::acquire(state_dir) {
            Ok(lock) => Some(lock),
            Err(error @ JournalError::Locked { .. }) => {
                policy.max_remedy = Remedy::Observe;
                warn!(%error, "another agent holds the state directory: this one only observes");
                None
            }
            Err(error) => {
                warn!(%error, "state directory unusable: no journal and no hard remedies");
                None
            }
        };
        let opened = lock.as_ref().map(|lock| SharedJournal::open(lock, Clock::Boot));
        match opened.transpose() {
            Ok(opened) => {
                let (journal, past) = opened.unzip();
                Self { lock, journal, past: past.unwrap_or_default() }
            }
            Err(error) => {
                error!(%error, "no journal: no hard remedies");
                Self { lock, journal: None, past: Vec::new() }
            }
        }
    }
}

/// The store of evidence; `None` if it cannot be used, which prevents no remedy.
fn evidence_in(lock: &StateLock) -> Option<EvidenceStore> {
    let opened = EvidenceStore::open(lock);
    opened.inspect_err(|error| warn!(%error, "no evidence will be kept")).ok()
}

/// Every target needs some ten files; the soft limit may be too low for many targets.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}
