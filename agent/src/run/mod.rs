//! The event loop: carries out the commands of the [`Engine`] and reports their results to it.
//!
//! Everything that waits (a poll, a remedy, the journal's disk) runs in its own task and returns as
//! a [`TaskResult`]. Everything that changes state happens here, on one thread, in order.
mod approval;
mod drain;
mod effects;
mod evidence;
mod preflight;
mod process_watcher;
mod registry;
mod resize;
mod sampler;
#[cfg(test)]
mod storm;
mod tls;
mod treat;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use effects::{Effects, HostEffects, Poller};
use evidence::Keeping;
use registry::Registry;
use resize::LastResizes;
use sampler::{Generation, Sampler};
use tls::TlsWatch;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tracing::{error, info, warn};
use treat::Treated;

use paramedic_core::{
    boot_time::BootTime,
    decide::Classifier,
    engine::{Case, Command, Engine, Event, Fact, Index, Pace, State, pod_metrics_of},
    guard::{Policy, Refusal},
    health::Heard,
    notice::Notice,
    resize::Answer,
    signal::{HostFacts, Polled, Trigger},
    target::{Change, Remedy, Target, WatchedService},
};
use paramedic_docker::{Containers, Selection, track_containers};
use paramedic_host::clock::{Clock, unix_seconds, wall_time};
use paramedic_host::instances::Instances;
use paramedic_kubernetes::{Cluster, Lock, track_pods};
use paramedic_notify::Notifier;
use paramedic_probes::{
    AllWaiting, Cause, Kernel, Wake, Wakeups,
    tls::{Finder, Findings},
};
use paramedic_record::{Incident, Recorder, outcomes::Remembered};

pub(crate) use approval::APPROVED;

use crate::serve::{Asks, Query, REASONS, TargetView};

/// Validated settings of the agent.
#[derive(Debug)]
pub struct Config {
    /// The services to watch, in process mode.
    pub services: Vec<WatchedService>,
    /// The containers to watch, in Docker mode.
    pub containers: Option<Containers>,
    /// The operator's limits.
    pub policy: Policy,
    /// Intervals of the engine.
    pub pace: Pace,
    /// Restarts a process-mode target; without it SIGTERM does, and a supervisor.
    pub restart_command: Option<String>,
    /// Time from SIGTERM to SIGKILL.
    pub grace: Duration,
    /// While this file exists, no remedy is applied.
    pub pause_file: Option<PathBuf>,
    /// Holds the request that was approved last, for services and containers.
    pub approved_file: Option<PathBuf>,
}

/// The cluster, for an agent that watches a node's pods.
pub struct Node {
    /// The API server.
    pub cluster: Arc<Cluster>,
    /// Receiver of the Events on pods.
    pub notices: mpsc::Sender<Notice>,
}

/// The result of a task.
#[derive(Debug)]
enum TaskResult {
    /// The cluster answered.
    Cleared {
        index: Index,
        life: Option<Generation>,
        remedy: Remedy,
        answer: Result<Option<Lock>, (Refusal, Duration)>,
    },
    /// A poll, or a look at the host, ended.
    Polled {
        index: Index,
        life: Generation,
        trigger: Trigger,
        poll: Polled,
        host: Option<Box<HostFacts>>,
        app: Option<Box<dyn Poller>>,
    },
    /// A remedy was applied, or could not be.
    Treated(Treated),
    /// A drained target is about to be restarted: is that still permitted?
    StillWanted {
        index: Index,
        uid: String,
        heard: Option<Heard>,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// A wish for more or less of a resource was carried out, or not.
    Resized { index: Index, target: Box<Target>, answer: Answer },
    /// The search for a target's TLS libraries ended.
    TlsFound { index: Index, life: Generation, finder: Finder, findings: Findings },
}

/// The agent: the state of the event loop.
pub struct Agent {
    engine: Engine,
    classifier: Arc<Classifier>,
    kernel: Option<Kernel>,
    wakeups: Option<Wakeups>,
    recorder: Recorder,
    /// Tells people, if any channel is configured.
    notifier: Option<Notifier>,
    config: Arc<Config>,
    clock: Clock,
    effects: Arc<dyn Effects>,
    node: Option<Node>,
    registry: Registry,
    /// Which requests wait, and until when that is recent.
    waiting: Option<(BootTime, AllWaiting)>,
    /// Of the targets that opted in: what is known of their TLS libraries.
    tls: HashMap<Index, TlsWatch>,
    /// Workload locks that are held for a target.
    locks: HashMap<Index, Arc<Lock>>,
    /// The conditions that are pending before the agent is ready.
    awaited: BTreeSet<String>,
    past: Vec<Incident>,
    /// The last change of each limit.
    resizes: LastResizes,
    /// From the trackers.
    changes: (mpsc::Sender<Change>, mpsc::Receiver<Change>),
    /// From the tasks.
    done: (mpsc::Sender<TaskResult>, mpsc::Receiver<TaskResult>),
    queries: mpsc::Receiver<Query>,
    pending: VecDeque<Event>,
    commands: Vec<Command>,
    pause_checked: BootTime,
    /// Shutting down: treatments in progress end, and nothing new starts.
    draining: bool,
    /// Whether treatments that wait must give up.
    halt: watch::Sender<bool>,
}

/// Maximum number of queued results; a task that finds the queue full waits, so nothing is lost.
const QUEUE: usize = 64;
/// How long a remedy in progress may delay the shutdown. Kubernetes grants 30 s by default.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);
/// How long putting drained pods back may delay it.
const BACK_LIMIT: Duration = Duration::from_secs(3);
/// Interval at which the requests that wait are read, at least; and, where the connections are many,
/// as a multiple of the time that it takes, which keeps it to half a percent of a core.
const WAITING_INTERVAL: Duration = Duration::from_secs(1);
const WAITING_PAUSE: u32 = 200;
/// Interval at which the pause file is checked.
const PAUSE_CHECK: Duration = Duration::from_secs(1);

/// Condition of readiness in node mode.
const POD_LIST: &str = "the first list of this node's pods from the API server";
/// Condition of readiness in Docker mode.
const CONTAINER_LIST: &str = "the first list of containers from the Docker engine";

impl Agent {
    /// An agent before its start. `past` are the recent incidents of this boot, oldest first: their
    /// cooldowns still hold, and those without an outcome are verified.
    #[must_use]
    pub fn new(
        config: Config,
        classifier: Arc<Classifier>,
        kernel: Option<(Kernel, Wakeups)>,
        recorder: Recorder,
        past: Vec<Incident>,
        queries: mpsc::Receiver<Query>,
        node: Option<Node>,
    ) -> Self {
        let engine = config.containers.as_ref().map(|containers| containers.engine.clone());
        let machine = HostEffects::new(config.restart_command.clone(), config.grace, engine);
        let (kernel, wakeups) = kernel.unzip();
        let mut awaited: BTreeSet<_> =
            config.services.iter().map(|service| service.url.clone()).collect();
        awaited.extend(node.as_ref().map(|_| POD_LIST.to_owned()));
        awaited.extend(config.containers.as_ref().map(|containers| match &containers.selection {
            Selection::Labelled => CONTAINER_LIST.to_owned(),
            Selection::Named(name, _) => name.clone(),
        }));
        Self {
            engine: Engine::new(
                Arc::clone(&classifier),
                config.policy.clone(),
                config.pace.clone(),
            ),
            classifier,
            kernel,
            wakeups,
            recorder,
            notifier: None,
            config: Arc::new(config),
            clock: Clock::Boot,
            effects: Arc::new(machine),
            node,
            registry: Registry::default(),
            waiting: None,
            tls: HashMap::new(),
            locks: HashMap::new(),
            awaited,
            past,
            resizes: LastResizes::default(),
            changes: mpsc::channel(QUEUE),
            done: mpsc::channel(QUEUE),
            queries,
            pending: VecDeque::new(),
            commands: Vec::new(),
            pause_checked: BootTime::default(),
            draining: false,
            halt: watch::Sender::new(false),
        }
    }

    /// Adds what tells people.
    #[must_use]
    pub fn with_notifier(self, notifier: Option<Notifier>) -> Self {
        Self { notifier, ..self }
    }

    /// Watches until `shutdown` resolves. The targets keep running: an intention in progress is in
    /// the journal, and the next agent process verifies it.
    ///
    /// # Errors
    /// If a task that follows targets has failed: then their changes would be missed.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), JoinError> {
        // They end with the loop.
        let mut trackers = self.start_trackers();
        self.resizes = LastResizes::of(&self.recorder.last_resizes());
        for Remembered { workload, treatment, .. } in self.recorder.remembered() {
            self.handle(Event::Remembered { workload, treatment });
        }
        tokio::pin!(shutdown);
        let mut failed = Ok(());
        loop {
            let due = self.engine.next_due();
            tokio::select! {
                () = &mut shutdown => break,
                Some(query) = self.queries.recv() => self.answer(query),
                Some(change) = self.changes.1.recv() => self.changed(change),
                Some(done) = self.done.1.recv() => self.take(done),
                woken = next_wakeup(&mut self.wakeups) => self.woken(woken),
                () = until(due, self.clock) => self.handle(Event::Tick),
                // One whose work is done ends without an error.
                Some(Err(error)) = trackers.join_next() => {
                    failed = Err(error);
                    break;
                }
            }
        }
        self.draining = true;
        self.halt.send_replace(true);
        self.finish_treatments().await;
        if let Some(Node { cluster, .. }) = &self.node {
            // If the API server does not answer, the next process puts them back.
            let _ = timeout(BACK_LIMIT, cluster.all_back()).await;
        }
        self.release_all().await;
        info!("stopped; the targets keep running unchanged");
        failed
    }

    fn start_trackers(&self) -> JoinSet<()> {
        let mut trackers = JoinSet::new();
        let changes = || self.changes.0.clone();
        let instances = || Arc::clone(&self.effects) as Arc<dyn Instances>;
        let scans = Arc::new(Semaphore::new(process_watcher::MAX_SCANS));
        for service in &self.config.services {
            let scans = Arc::clone(&scans);
            trackers.spawn(process_watcher::track_service(service.clone(), scans, changes()));
        }
        if let Some(containers) = &self.config.containers {
            trackers.spawn(track_containers(containers.clone(), instances(), changes()));
        }
        if let Some(Node { cluster, notices }) = &self.node {
            let (cluster, notices) = (Arc::clone(cluster), notices.clone());
            let policy = &self.config.policy;
            let may_evict = !policy.dry_run && policy.max_remedy >= Remedy::Evict;
            trackers.spawn(Arc::clone(&cluster).bring_back(may_evict));
            trackers.spawn(track_pods(cluster, instances(), changes(), notices));
        }
        trackers
    }

    /// Waits for a restart in progress: one that is cut off half-way may leave a service down.
    async fn finish_treatments(&mut self) {
        let limit = sleep(SHUTDOWN_LIMIT);
        tokio::pin!(limit);
        while self.engine.cases().any(|(_, case)| matches!(case.state, State::Healing { .. })) {
            tokio::select! {
                () = &mut limit => {
                    error!("a remedy is still under way; the next start verifies it");
                    return;
                }
                Some(change) = self.changes.1.recv() => self.changed(change),
                Some(done) = self.done.1.recv() => self.take(done),
            }
        }
    }

    /// Handles one event and its immediate consequences.
    fn handle(&mut self, event: Event) {
        self.pending.push_back(event);
        self.handle_pending();
    }

    fn handle_pending(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            self.refresh_switches();
            let sample = match &event {
                Event::Sampled(_, sample) => Some((sample.trigger, sample.at)),
                _ => None,
            };
            let mut commands = std::mem::take(&mut self.commands);
            let (now, hour) = (self.clock.now(), utc_hour());
            self.recorder.event(now, hour, &event, self.engine.switches());
            self.engine.handle(now, hour, event, &mut commands);
            if let Some((trigger, begun)) = sample {
                self.recorder.judged(trigger, self.clock.now().since(begun));
            }
            for command in commands.drain(..) {
                self.carry_out(command);
            }
            self.commands = commands;
        }
    }

    fn refresh_switches(&mut self) {
        let can_intend = self.recorder.can_intend();
        self.engine.set_journal_writable(can_intend);
        let now = self.clock.now();
        if now.since(self.pause_checked) >= PAUSE_CHECK {
            self.pause_checked = now;
            let paused = self.config.pause_file.as_ref().is_some_and(|file| file.exists());
            self.engine.set_paused(paused);
            if let Some(notifier) = &mut self.notifier {
                notifier.switch(paused);
            }
        }
        if self.draining {
            self.engine.set_paused(true);
        }
        let (paused, _) = self.engine.switches();
        self.halt.send_if_modified(|halt| std::mem::replace(halt, paused) != paused);
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Sample { .. } | Command::Ask(..) | Command::Resize(..) if self.draining => {}
            Command::Sample { index, trigger, polls } => self.sample(index, trigger, polls),
            Command::Ask(index, remedy) => self.ask(index, remedy),
            Command::Resize(index, wish) => self.resize(index, wish),
            Command::Release(index) => self.release_of(index, None),
            Command::Forget(index) => self.forget(index),
            Command::Heal(index, permit, intent) => {
                let Some(case) = self.engine.case(index) else { return };
                self.recorder.intends(index, &intent);
                let evidence = || self.recorder.evidence(index, &case.target);
                let evidence = intent.remedy.is_hard().then(evidence).flatten();
                let treatment = treat::Treatment {
                    index,
                    life: self.registry.sampler(index).map(Sampler::life),
                    target: case.target.clone(),
                    permit,
                    intent,
                    classifier: Arc::clone(&self.classifier),
                    effects: Arc::clone(&self.effects),
                    cluster: self.node.as_ref().map(|node| Arc::clone(&node.cluster)),
                    lock: self.locks.get(&index).cloned(),
                    journal: self.recorder.journal(),
                    evidence: evidence.map(|(store, samples)| Keeping { store, samples }),
                    verify_window: self.config.pace.verify_window,
                    clock: self.clock,
                    serves: case.serves(),
                    halt: self.halt.subscribe(),
                    done: self.done.0.clone(),
                };
                self.recorder.healing(&case.target, &treatment.intent);
                if let Some(notifier) = &mut self.notifier {
                    notifier.healing(&case.target, &treatment.intent);
                }
                tokio::spawn(treat::treat(treatment));
            }
            Command::Tell(index, fact) => {
                let ended = match &fact {
                    Fact::Concluded { outcome, done, .. } => Some(done.then_some(*outcome)),
                    _ => None,
                };
                if let Fact::DryRun(intent) = &fact {
                    self.recorder.intends(index, intent);
                }
                if let Fact::Resizing(news) = &fact {
                    self.resize_ended(index, news);
                }
                if let Some(case) = self.engine.case(index) {
                    if let Some(notifier) = &mut self.notifier {
                        notifier.tell(case, &fact);
                    }
                    self.recorder.tell(index, case, fact);
                }
                if let Some(outcome) = ended {
                    self.release_of(index, outcome);
                }
            }
        }
    }

    /// Polls the target, if it is polled at all; the rest is read after the poll.
    fn sample(&mut self, index: Index, trigger: Trigger, polls: bool) {
        self.look_for_tls(index);
        self.look_at_the_time(index);
        self.look_for_approval(index);
        let Some(sampler) = self.registry.sampler_mut(index) else { return };
        let target = self.engine.case(index).map(|case| &case.target);
        let target = target.filter(|_| polls);
        let mut app = target.and_then(|target| sampler.take_app(target, &*self.effects));
        let unpolled = if polls { Polled::Never } else { Polled::LastStands };
        let (life, now) = (sampler.life(), self.clock.now());
        let done = self.done.0.clone();
        // Only if a remedy may follow: checking the host reads some files.
        let doubt = self
            .engine
            .case(index)
            .filter(|case| case.asks_the_host(trigger))
            .map(|case| (Arc::clone(&self.effects), case.target.clone(), case.well_at()));
        if app.is_none() && doubt.is_none() {
            let sampled = self.read(index, trigger, unpolled, None);
            self.pending.extend(sampled);
            return;
        }
        tokio::spawn(async move {
            let poll = match &mut app {
                Some(app) => Polled::Now(app.poll(now).await),
                None => unpolled,
            };
            let host = match doubt {
                Some((effects, target, well_at)) => effects.examine(&target, well_at).await,
                None => None,
            };
            // The loop is gone only when the agent stops.
            let _ = done.send(TaskResult::Polled { index, life, trigger, poll, host, app }).await;
        });
    }

    /// Tells the engine, before the sample, when a time without remedies begins or ends.
    fn look_at_the_time(&mut self, index: Index) {
        let Some(case) = self.engine.case(index) else { return };
        let windows = &case.target.settings.not_between;
        let not_now = !windows.is_empty() && windows.contain(wall_time());
        if not_now != case.is_not_now() {
            self.pending.push_back(Event::NotNow(index, not_now));
        }
    }

    /// Tells the engine, before the sample, if people have approved the request that is open.
    fn look_for_approval(&mut self, index: Index) {
        let Some(case) = self.engine.case(index) else { return };
        let Some(asked) = case.asked(self.clock.now()).filter(|asked| !asked.is_approved()) else {
            return;
        };
        let approved = match (case.target.pod(), &self.config.approved_file) {
            (Some(_), _) => case.target.settings.approved,
            (None, Some(file)) => approval::read(file),
            (None, None) => None,
        };
        if approved == Some(asked.request) {
            info!(target = case.target.name.as_str(), request = %asked.request, "approved");
            self.pending.push_back(Event::Approved(index, asked.request));
        }
    }

    /// Reads which requests wait, of all targets at once, and not at each sample, since it reads each
    /// remembered connection.
    fn read_waiting(&mut self, now: BootTime) {
        if self.waiting.as_ref().is_some_and(|(due, _)| now < *due) {
            return;
        }
        let begin = Instant::now();
        let kernel = self.kernel.as_ref().filter(|kernel| kernel.sees_both_ways());
        let all = kernel.and_then(|kernel| kernel.waiting(now).ok());
        let pause = WAITING_INTERVAL.max(begin.elapsed() * WAITING_PAUSE);
        self.waiting = all.map(|all| (now + pause, all));
    }

    /// Reads everything but the poll, which came first.
    fn read(
        &mut self,
        index: Index,
        trigger: Trigger,
        poll: Polled,
        host: Option<Box<HostFacts>>,
    ) -> Option<Event> {
        let now = self.clock.now();
        self.read_waiting(now);
        let sampler = self.registry.sampler_mut(index)?;
        let waiting = self.waiting.as_ref().map(|(_, all)| all);
        let sample = sampler.sample(self.kernel.as_mut(), trigger, poll, host, waiting, now);
        if let Some(case) = self.engine.case(index) {
            self.recorder.sampled(&case.target, &sample);
        }
        Some(Event::Sampled(index, Box::new(sample)))
    }

    fn take(&mut self, done: TaskResult) {
        match done {
            TaskResult::Cleared { index, life, remedy, answer } => {
                self.cleared(index, life, remedy, answer);
            }
            TaskResult::Polled { index, life, trigger, poll, host, app } => {
                // The poll of an earlier instance says nothing about this one.
                let Some(sampler) = self.registry.sampler_of(index, life) else { return };
                if let Some(app) = app {
                    sampler.return_app(app);
                }
                if let Some(sampled) = self.read(index, trigger, poll, host) {
                    self.handle(sampled);
                }
            }
            TaskResult::TlsFound { index, life, finder, findings } => {
                self.tls_found(index, life, finder, findings);
            }
            TaskResult::StillWanted { index, uid, heard, reply } => {
                // The treatment waits for it, unless the agent stops.
                let _ = reply.send(self.still_wanted(index, &uid, heard));
            }
            TaskResult::Resized { index, target, answer } => self.resized(index, &target, answer),
            TaskResult::Treated(treated) if !self.is_under_way(&treated) => {
                warn!("late result of a remedy ignored");
            }
            TaskResult::Treated(treated) => {
                let sampler =
                    treated.life.and_then(|life| self.registry.sampler_of(treated.index, life));
                if let Some(sampler) = sampler {
                    sampler.drew(treated.responses);
                }
                if let Some(drained) = treated.drained {
                    self.recorder.drained(drained.name());
                }
                self.handle(Event::Treated {
                    index: treated.index,
                    incident: treated.incident,
                    result: treated.result,
                });
            }
        }
    }

    /// Whether the set of targets can change, so that a new target may always be unsampled.
    fn comes_and_goes(&self) -> bool {
        let containers = self.config.containers.as_ref();
        let selection = containers.map(|containers| &containers.selection);
        self.node.is_some() || matches!(selection, Some(Selection::Labelled))
    }

    /// Whether the index still belongs to the target that was treated, and that waits for the
    /// result.
    fn is_under_way(&self, treated: &Treated) -> bool {
        let case = self.engine.case(treated.index);
        case.is_some_and(|case| case.target.id.uid == treated.uid)
    }

    fn woken(&mut self, wake: Wake) {
        self.recorder.woken(wake.cause);
        if let Some(index) = self.registry.index_of_slot(wake.slot) {
            let throttled = wake.cause == Cause::Throttled;
            self.handle(Event::Woken { index, at: wake.at, throttled });
        }
    }

    fn answer(&self, query: Query) {
        match query {
            Query::Targets(reply) => {
                let now = self.clock.now();
                let view = |(index, case): (Index, &Case)| TargetView {
                    reasons: case.decision.map(|decision| {
                        self.classifier.reasons(&case.row, decision.action, REASONS)
                    }),
                    tls: self.tls_word(index),
                    asks: Asks::of(case, now),
                    resize: case.resize_story(now),
                    remembered: self.engine.memory(index).map_or_else(Vec::new, |m| m.told(now)),
                    ..TargetView::of(case)
                };
                let views = self.engine.cases().map(view).collect();
                // The client may have disconnected.
                let _ = reply.send(views);
            }
            Query::Readings(reply) => {
                let now = self.clock.now();
                let cases = self.engine.cases();
                let _ =
                    reply.send(cases.filter_map(|(_, case)| pod_metrics_of(case, now)).collect());
            }
            Query::Pending(reply) => {
                let awaited = self.awaited.iter().map(|what| format!("{what}: pending"));
                let unseen = self
                    .engine
                    .cases()
                    .filter(|(_, case)| case.decision.is_none() && case.is_present())
                    .map(|(_, case)| format!("{}: not sampled yet", case.target.name));
                let unseen = unseen.filter(|_| !self.comes_and_goes());
                let _ = reply.send(awaited.chain(unseen).collect());
            }
        }
    }
}

/// The next wake-up; never without kernel signals.
async fn next_wakeup(wakeups: &mut Option<Wakeups>) -> Wake {
    if let Some(ring) = wakeups {
        match ring.next().await {
            Ok(wake) => return wake,
            // Regular samples continue without it.
            Err(error) => {
                warn!(%error, "cannot read the kernel's wake-ups; regular samples continue");
            }
        }
        *wakeups = None;
    }
    std::future::pending().await
}

async fn until(due: Option<BootTime>, clock: Clock) {
    match due {
        Some(due) => sleep(due.since(clock.now())).await,
        None => std::future::pending().await,
    }
}

/// Hour of the day, UTC, by the node's clock.
fn utc_hour() -> u8 {
    u8::try_from(unix_seconds() / 3600 % 24).unwrap_or(0)
}
