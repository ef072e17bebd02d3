//! Tracks the containers of the Docker engine: what the engine reports, joined with what the
//! machine knows of their processes.
//!
//! An event is only a reason to inspect the container; the engine's answer counts. The next list
//! makes up for a lost event.
mod requests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::StreamExt;
use paramedic_core::target::{
    Change, ContainerRef, Kind, MAX_TARGETS, Obstacle, Target, TargetId, WatchedService,
    consent::HEAL_LABEL,
};
use paramedic_host::{
    container::Container,
    instances::{ExitWatch, Instances},
};
use requests::{Answer, Report, Request, Retry};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::{info, warn};

use crate::{
    Changed, Engine, EngineError,
    container::{NotWatchable, WatchedContainer, signal},
};

/// Failures are reported after this many retries.
const REPORTED_RETRIES: u32 = 4;
/// Delay between two attempts to reach the engine.
const RECONNECT: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(250))
    .with_max_delay(MAX_RECONNECT)
    .without_max_times();
const MAX_RECONNECT: Duration = Duration::from_secs(5);
/// Interval of the list of all containers.
const RELIST: Duration = Duration::from_secs(60);
/// Maximum number of concurrent requests about containers: one slow request delays no other.
const MAX_REQUESTS: usize = 4;
/// Maximum number of queued changes.
const QUEUE: usize = 64;
/// How long after its grace a container that was asked to stop counts as stopping.
const STOPPING: Duration = Duration::from_secs(30);

/// The containers to watch.
#[derive(Clone, Debug)]
pub struct Containers {
    /// The engine of this machine.
    pub engine: Engine,
    /// Which of its containers.
    pub selection: Selection,
}

/// Which containers to watch.
#[derive(Clone, Debug)]
pub enum Selection {
    /// All with a label that consents.
    Labelled,
    /// The one of this name, at this URL.
    Named(String, Box<WatchedService>),
}

/// A container that was reported to the loop.
struct Tracked {
    container: ContainerRef,
    /// The reported target; a difference means other settings.
    target: Target,
    state: State,
}

enum State {
    /// It runs, and its end will be reported.
    Running(ExitWatch),
    /// The engine was asked to stop this instance, which counts until then.
    Stopping(Instant),
    /// It has ended or is paused, according to the engine.
    Absent,
}

struct ContainerTracker {
    config: Arc<Containers>,
    instances: Arc<dyn Instances>,
    changes: mpsc::Sender<Change>,
    /// By uid, which is the name: another container may get it.
    containers: HashMap<String, Tracked>,
    /// The last reported reason of each container that is not watched, so that it is reported once.
    not_watched: HashMap<String, String>,
    /// By the id or name to ask about.
    requests: HashMap<String, Request>,
    answers: JoinSet<Answer>,
    permits: Arc<Semaphore>,
    delayed: JoinSet<(String, Retry)>,
    is_rootless: bool,
    connected: bool,
}

/// Why the tracker no longer follows the engine.
enum Stopped {
    Engine(EngineError),
    /// The receiver of the changes was dropped.
    Closed,
}

impl From<EngineError> for Stopped {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<mpsc::error::SendError<Change>> for Stopped {
    fn from(_: mpsc::error::SendError<Change>) -> Self {
        Self::Closed
    }
}

/// Tracks containers until the receiver of the changes is dropped, and reconnects whenever the
/// engine returns.
pub async fn track_containers(
    config: Containers,
    instances: Arc<dyn Instances>,
    changes: mpsc::Sender<Change>,
) {
    let mut tracker = ContainerTracker {
        config: Arc::new(config),
        instances,
        changes,
        containers: HashMap::new(),
        not_watched: HashMap::new(),
        requests: HashMap::new(),
        answers: JoinSet::new(),
        permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
        delayed: JoinSet::new(),
        is_rootless: false,
        connected: false,
    };
    let mut delays = RECONNECT.with_jitter().build();
    let mut reported = false;
    loop {
        let begun = Instant::now();
        let Err(Stopped::Engine(error)) = tracker.follow().await else { return };
        // An engine that answers and disconnects at once is no better than none.
        if begun.elapsed() >= MAX_RECONNECT {
            (delays, reported) = (RECONNECT.with_jitter().build(), false);
        }
        if !std::mem::replace(&mut reported, true) {
            warn!(%error, "Docker engine lost: the known containers stay watched until it is back");
            tracker.connected = false;
        }
        tokio::select! {
            () = sleep(delays.next().unwrap_or(MAX_RECONNECT)) => {}
            () = tracker.changes.closed() => return,
        }
    }
}

impl ContainerTracker {
    /// Follows the engine until it disconnects.
    async fn follow(&mut self) -> Result<(), Stopped> {
        // Requests to an earlier connection get no response.
        (self.answers, self.delayed) = (JoinSet::new(), JoinSet::new());
        self.requests.clear();
        // Subscribe before the list, so that no change is missed.
        let mut changes = self.config.engine.changes()?;
        let (sender, mut changed) = mpsc::channel(QUEUE);
        let mut subscription = JoinSet::new();
        subscription.spawn(async move {
            while let Some(changed) = changes.next().await {
                if sender.send(changed).await.is_err() {
                    return;
                }
            }
        });
        self.is_rootless = self.config.engine.is_rootless().await?;
        let names = self.list().await?;
        if !std::mem::replace(&mut self.connected, true) {
            info!(socket = %self.config.engine.socket().display(), "connected to the Docker engine");
        }
        if let Selection::Labelled = self.config.selection {
            self.changes.send(Change::Listed(names)).await?;
        }
        let mut relist = interval_at(Instant::now() + RELIST, RELIST);
        relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = changed.recv() => {
                    self.changed(changed.unwrap_or(Err(EngineError::Gone))?).await?;
                }
                Some(Ok(answer)) = self.answers.join_next() => self.answered(answer).await?,
                Some(Ok((asked, retry))) = self.delayed.join_next() => self.ask(asked, retry),
                _ = relist.tick() => match self.list().await {
                    Ok(_) => {}
                    Err(Stopped::Engine(error)) if !error.is_of_engine() => {
                        warn!(%error, "cannot refresh the list of containers");
                    }
                    Err(stopped) => return Err(stopped),
                },
                () = self.changes.closed() => return Err(Stopped::Closed),
            }
        }
    }

    /// Asks about all containers that may be targets; returns their names.
    async fn list(&mut self) -> Result<HashSet<String>, Stopped> {
        if let Selection::Named(name, _) = &self.config.selection {
            let name = name.clone();
            self.ask(name.clone(), Retry::default());
            return Ok(HashSet::from([name]));
        }
        let listed = self.config.engine.labelled(HEAL_LABEL).await?;
        let (ids, names): (HashSet<_>, HashSet<_>) = listed.into_iter().unzip();
        let tracked = self.containers.values().map(|tracked| tracked.container.id.clone());
        let gone: Vec<String> = tracked.filter(|id| !ids.contains(id)).collect();
        for id in gone {
            self.gone(&id).await?;
        }
        for id in ids {
            self.ask(id, Retry::default());
        }
        Ok(names)
    }

    async fn changed(&mut self, changed: Changed) -> Result<(), Stopped> {
        let uid = self.uid_of(&changed.id);
        if let (Some(uid), Some(sent)) = (&uid, &changed.signal) {
            return self.signalled(uid, sent).await;
        }
        let concerns = match &self.config.selection {
            Selection::Labelled => changed.labels.iter().any(|label| label == HEAL_LABEL),
            Selection::Named(name, _) => {
                changed.name.as_ref() == Some(name) || changed.id.starts_with(name)
            }
        };
        if concerns || uid.is_some() {
            self.ask(self.question(changed.id), Retry::default());
        }
        Ok(())
    }

    /// The id or name to ask about: a container that the user named is identified by its name,
    /// whichever container has it.
    fn question(&self, id: String) -> String {
        match &self.config.selection {
            Selection::Labelled => id,
            Selection::Named(name, _) => name.clone(),
        }
    }

    /// The engine was asked to signal a container. If that is to stop it, it is not sick, whatever
    /// it answers from now on.
    async fn signalled(&mut self, uid: &str, sent: &str) -> Result<(), Stopped> {
        let Some(tracked) = self.containers.get_mut(uid) else { return Ok(()) };
        let ends = signal(sent)
            .is_none_or(|sent| sent == libc::SIGKILL || sent == tracked.container.stop_signal);
        if !ends || !matches!(tracked.state, State::Running(_)) {
            return Ok(());
        }
        let limit = tracked.container.grace + STOPPING;
        tracked.state = State::Stopping(Instant::now() + limit);
        let (id, instance) = (tracked.container.id.clone(), tracked.target.id.instance.clone());
        info!(container = uid, "Docker is stopping the container; remedies suspended");
        self.changes.send(Change::Lost { uid: uid.to_owned(), instance }).await?;
        // It may have caught the signal and continued.
        let asked = self.question(id);
        self.delayed.spawn(async move {
            sleep(limit).await;
            (asked, Retry::default())
        });
        Ok(())
    }

    async fn answered(&mut self, answer: Answer) -> Result<(), Stopped> {
        let Answer { asked, result } = answer;
        let mut retry = Retry::default();
        if let Some(Request::InFlight { again, retry: before }) = self.requests.remove(&asked) {
            retry = before;
            if again {
                self.ask(asked.clone(), Retry::default());
            }
        }
        let Report { name, found } = match result {
            Ok(report) => report,
            Err(error @ EngineError::NoContainer(_)) => {
                if let Selection::Named(..) = self.config.selection {
                    self.report_not_watched(&asked, &error);
                }
                return self.gone(&asked).await;
            }
            Err(error) if error.is_of_engine() => return Err(error.into()),
            Err(error) => {
                self.report_not_watched(&asked, &error);
                self.ask_later(asked, retry);
                return Ok(());
            }
        };
        match found {
            Ok((watched, Ok(container))) if container.main.pid == watched.container.pid => {
                self.running(&watched, &container).await
            }
            // Of its last instance, or of its next.
            Ok((_, found)) => {
                if retry.retries >= REPORTED_RETRIES {
                    match found {
                        Ok(_) => self.report_not_watched(
                            &name,
                            &"its first process differs from the engine's report",
                        ),
                        Err(error) => self.report_not_watched(&name, &error),
                    }
                }
                self.ask_later(asked, retry);
                Ok(())
            }
            Err(why @ (NotWatchable::NotRunning | NotWatchable::Paused)) => {
                self.report_not_watched(&name, &why);
                let uid = self.uid_of(&asked);
                self.stopped(&uid.unwrap_or(name)).await
            }
            Err(NotWatchable::NoConsent) => self.gone(&asked).await,
            Err(why) => {
                self.report_not_watched(&name, &why);
                self.gone(&asked).await
            }
        }
    }

    /// The engine and the machine agree that it runs.
    async fn running(
        &mut self,
        watched: &WatchedContainer,
        container: &Container,
    ) -> Result<(), Stopped> {
        let target = self.target_of(watched, container);
        let uid = target.id.uid.clone();
        if container.is_own() {
            self.report_not_watched(&uid, &"it is the agent's own container");
            return Ok(());
        }
        let is_running = |tracked: &&Tracked| matches!(tracked.state, State::Running(_));
        let running = self.containers.values().filter(is_running).count();
        if !self.containers.contains_key(&uid) && running >= MAX_TARGETS {
            let why = format!("the agent watches at most {MAX_TARGETS} containers");
            self.report_not_watched(&uid, &why);
            return Ok(());
        }
        if let Some(before) = self.uid_of(&watched.container.id).filter(|before| *before != uid) {
            // It was renamed.
            self.containers.remove(&before);
            self.changes.send(Change::Gone(before)).await?;
        }
        let before = self.containers.remove(&uid);
        let is_same = before.as_ref().is_some_and(|before| before.target.id == target.id);
        let is_news = before.as_ref().is_none_or(|before| before.target != target);
        let before = before.map(|before| before.state).filter(|_| is_same);
        let state = match before {
            Some(State::Stopping(until)) if Instant::now() < until => State::Stopping(until),
            Some(State::Running(exit)) if !is_news => State::Running(exit),
            before => {
                self.found(watched, &target).await?;
                match before {
                    Some(State::Running(exit)) => State::Running(exit),
                    _ => State::Running(ExitWatch::begin(
                        &self.instances,
                        &self.changes,
                        container.main,
                        uid.clone(),
                        target.id.instance.clone(),
                    )),
                }
            }
        };
        let container = watched.container.clone();
        self.containers.insert(uid, Tracked { container, target, state });
        Ok(())
    }

    /// Reports a new target, another instance, or other settings.
    async fn found(&mut self, watched: &WatchedContainer, target: &Target) -> Result<(), Stopped> {
        let uid = &target.id.uid;
        self.not_watched.remove(uid);
        for invalid in &watched.invalid_settings {
            warn!(container = uid, %invalid, "invalid setting; the container is only observed");
        }
        if target.address.is_none() {
            info!(
                container = uid,
                "no health checks: the label paramedic.dev/port must name the port, and the \
                 container needs its own network and an engine that runs as root"
            );
        }
        Ok(self.changes.send(Change::Found(Box::new(target.clone()))).await?)
    }

    fn uid_of(&self, id: &str) -> Option<String> {
        let mut tracked = self.containers.iter();
        tracked.find(|(_, tracked)| tracked.container.id == id).map(|(uid, _)| uid.clone())
    }

    async fn stopped(&mut self, uid: &str) -> Result<(), Stopped> {
        let Some(tracked) = self.containers.get_mut(uid) else { return Ok(()) };
        if let State::Running(_) = tracked.state {
            tracked.state = State::Absent;
            let (uid, instance) = (uid.to_owned(), tracked.target.id.instance.clone());
            self.changes.send(Change::Lost { uid, instance }).await?;
        }
        Ok(())
    }

    /// The container is no longer a target.
    async fn gone(&mut self, asked: &str) -> Result<(), Stopped> {
        // A named container stays a target, whichever container has its name next.
        if let Selection::Named(name, _) = &self.config.selection {
            let name = name.clone();
            return self.stopped(&name).await;
        }
        let Some(uid) = self.uid_of(asked) else { return Ok(()) };
        self.containers.remove(&uid);
        self.not_watched.remove(&uid);
        Ok(self.changes.send(Change::Gone(uid)).await?)
    }

    /// Reports why a container is not watched, unless that was reported before.
    fn report_not_watched(&mut self, name: &str, why: &dyn ToString) {
        let why = why.to_string();
        if self.not_watched.get(name) != Some(&why) {
            // At worst a reason is reported twice.
            if self.not_watched.len() >= MAX_TARGETS {
                self.not_watched.clear();
            }
            warn!(container = name, why, "not watched");
            self.not_watched.insert(name.to_owned(), why);
        }
    }

    fn target_of(&self, watched: &WatchedContainer, container: &Container) -> Target {
        let (uid, address, host) = match &self.config.selection {
            Selection::Labelled => {
                let address = watched.address.filter(|_| !self.is_rootless);
                let host = address.map(|address| address.to_string()).unwrap_or_default();
                (watched.container.name.clone(), address, host)
            }
            Selection::Named(name, service) => {
                (name.clone(), watched.address, service.host.clone())
            }
        };
        Target {
            // The engine's id survives a restart.
            id: TargetId { uid: uid.clone(), instance: container.main.to_string() },
            name: uid,
            kind: Kind::Container(Arc::new(watched.container.clone())),
            settings: watched.settings.clone(),
            address,
            tls: false,
            host,
            cgroups: container.cgroups.clone(),
            // The remedy is for the container, whichever of its ports is sick.
            port: None,
            started: container.started,
            main: Some(container.main),
            version: watched.container.image.clone(),
            no_restart: watched.no_restart,
            no_evict: Some(Obstacle::NoCluster),
        }
    }
}

#[cfg(test)]
mod tests;
