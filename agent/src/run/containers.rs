//! Tracks the containers of the Docker engine: what the engine reports, joined with what the
//! machine knows of their processes.
//!
//! An event is only a reason to inspect the container; the engine's answer counts. The next list
//! makes up for a lost event.
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bollard::models::ContainerInspectResponse;
use futures_util::StreamExt;
use paramedic_core::target::{ContainerRef, Kind, Obstacle, Target, TargetId, consent::HEAL_LABEL};
use paramedic_docker::{
    Changed, Engine, EngineError,
    container::{NotWatchable, WatchedContainer, by_labels, by_name, plain, signal},
};
use paramedic_host::container::{Container, ContainerError};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::{info, warn};

use super::{MOST_PODS as MOST, TaskResult, Watched, effects::Effects, end::Wait};

/// Delay before asking again about a container that the engine could not report on, or that is not
/// ready to be watched; doubles with each try, up to [`RETRY_DOUBLINGS`] times.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_DOUBLINGS: u32 = 7;
/// Failures are reported after this many tries.
const TRIES: u32 = 4;
/// Delay between two attempts to reach the engine; doubles up to [`AWAY_MAX`].
const AWAY_MIN: Duration = Duration::from_millis(250);
const AWAY_MAX: Duration = Duration::from_secs(5);
/// Interval of the list of all containers.
const RELIST: Duration = Duration::from_secs(60);
/// Maximum number of concurrent requests about containers: one slow request delays no other.
const ASKED: usize = 4;
/// Maximum number of queued changes.
const QUEUE: usize = 64;
/// How long after its grace a container that was asked to stop counts as stopping.
const STOPPING: Duration = Duration::from_secs(30);

/// Settings of an agent that watches containers.
#[derive(Clone, Debug)]
pub struct Docker {
    /// The engine of this machine.
    pub engine: Engine,
    /// The selection of containers.
    pub selection: Selection,
}

/// Which containers to watch.
#[derive(Clone, Debug)]
pub enum Selection {
    /// All with a label that consents.
    Labelled,
    /// The one of this name, at this URL.
    Named(String, Box<Watched>),
}

/// A container that was reported to the loop.
struct Known {
    container: ContainerRef,
    /// The reported target; a difference means other settings.
    target: Target,
    /// `None` once it has ended, according to the engine.
    end: Option<Wait>,
    /// The instance that was asked to stop, and how long that counts.
    stopping: Option<(String, Instant)>,
}

/// The engine's and the machine's facts about one container.
struct Answer {
    /// The id or name of the request.
    asked: String,
    tries: u32,
    said: Result<Said, EngineError>,
}

struct Said {
    /// Its name in this tracker.
    name: String,
    watched_container: Result<(WatchedContainer, Result<Container, ContainerError>), NotWatchable>,
}

/// Joins both sides and reports to the loop.
struct ContainerTracker {
    docker: Arc<Docker>,
    effects: Arc<dyn Effects>,
    done: mpsc::Sender<TaskResult>,
    /// By uid, which is the name: another container may get it.
    known: HashMap<String, Known>,
    /// The last reported reason of each container that is not watched, so that it is reported once.
    told: HashMap<String, String>,
    /// The requests in flight, and whether the container has changed meanwhile.
    asking: HashMap<String, bool>,
    answers: JoinSet<Answer>,
    permits: Arc<Semaphore>,
    /// The containers to ask about again after a delay.
    waiting: HashSet<String>,
    retries: JoinSet<(String, u32)>,
    is_rootless: bool,
    /// Whether the connection to the engine was reported.
    follows: bool,
}

/// Why the tracker no longer follows the engine.
enum Stopped {
    Engine(EngineError),
    /// The loop has ended.
    Loop,
}

impl From<EngineError> for Stopped {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<mpsc::error::SendError<TaskResult>> for Stopped {
    fn from(_: mpsc::error::SendError<TaskResult>) -> Self {
        Self::Loop
    }
}

/// Runs until the loop ends, and reconnects whenever the engine returns.
pub(super) async fn follow(
    docker: Docker,
    effects: Arc<dyn Effects>,
    done: mpsc::Sender<TaskResult>,
) {
    let mut ward = ContainerTracker {
        docker: Arc::new(docker),
        effects,
        done,
        known: HashMap::new(),
        told: HashMap::new(),
        asking: HashMap::new(),
        answers: JoinSet::new(),
        permits: Arc::new(Semaphore::new(ASKED)),
        waiting: HashSet::new(),
        retries: JoinSet::new(),
        is_rootless: false,
        follows: false,
    };
    let (mut pause, mut away) = (AWAY_MIN, false);
    loop {
        let begun = Instant::now();
        let Err(Stopped::Engine(error)) = ward.attend().await else { return };
        // An engine that answers and disconnects at once is no better than none.
        if begun.elapsed() >= AWAY_MAX {
            (pause, away) = (AWAY_MIN, false);
        }
        if !std::mem::replace(&mut away, true) {
            warn!(%error, "Docker engine lost: the known containers stay watched until it is back");
            ward.follows = false;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = ward.done.closed() => return,
        }
        pause = (pause * 2).min(AWAY_MAX);
    }
}

impl ContainerTracker {
    /// Follows the engine until it disconnects.
    async fn attend(&mut self) -> Result<(), Stopped> {
        // Requests to an earlier connection get no response.
        (self.answers, self.retries) = (JoinSet::new(), JoinSet::new());
        self.asking.clear();
        self.waiting.clear();
        // Subscribe before the list, so that no change is missed.
        let mut changes = self.docker.engine.changes()?;
        let (tell, mut told) = mpsc::channel(QUEUE);
        let mut hearing = JoinSet::new();
        hearing.spawn(async move {
            while let Some(changed) = changes.next().await {
                if tell.send(changed).await.is_err() {
                    return;
                }
            }
        });
        self.is_rootless = self.docker.engine.is_rootless().await?;
        let names = self.list().await?;
        if !std::mem::replace(&mut self.follows, true) {
            info!(socket = %self.docker.engine.socket().display(), "connected to the Docker engine");
        }
        if let Selection::Labelled = self.docker.selection {
            self.done.send(TaskResult::Listed(names)).await?;
        }
        let mut relist = interval_at(Instant::now() + RELIST, RELIST);
        relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = told.recv() => {
                    self.changed(changed.unwrap_or(Err(EngineError::Gone))?).await?;
                }
                Some(Ok(answer)) = self.answers.join_next() => self.answered(answer).await?,
                Some(Ok((asked, tries))) = self.retries.join_next() => {
                    self.waiting.remove(&asked);
                    self.ask(asked, tries);
                }
                _ = relist.tick() => match self.list().await {
                    Ok(_) => {}
                    Err(Stopped::Engine(error)) if !error.is_of_engine() => {
                        warn!(%error, "cannot refresh the list of containers");
                    }
                    Err(stopped) => return Err(stopped),
                },
                () = self.done.closed() => return Err(Stopped::Loop),
            }
        }
    }

    /// Asks about all containers that may be targets; returns their names.
    async fn list(&mut self) -> Result<HashSet<String>, Stopped> {
        if let Selection::Named(name, _) = &self.docker.selection {
            let name = name.clone();
            self.ask(name.clone(), 0);
            return Ok(HashSet::from([name]));
        }
        let listed = self.docker.engine.labelled(HEAL_LABEL).await?;
        let (ids, names): (HashSet<_>, HashSet<_>) = listed.into_iter().unzip();
        let known = self.known.values().map(|known| known.container.id.clone());
        let gone: Vec<String> = known.filter(|id| !ids.contains(id)).collect();
        for id in gone {
            self.gone(&id).await?;
        }
        for id in ids {
            self.ask(id, 0);
        }
        Ok(names)
    }

    async fn changed(&mut self, changed: Changed) -> Result<(), Stopped> {
        let uid = self.uid_of(&changed.id);
        if let (Some(uid), Some(sent)) = (&uid, &changed.signal) {
            return self.signalled(uid, sent).await;
        }
        let concerns = match &self.docker.selection {
            Selection::Labelled => changed.labels.iter().any(|label| label == HEAL_LABEL),
            Selection::Named(name, _) => {
                changed.name.as_ref() == Some(name) || changed.id.starts_with(name)
            }
        };
        if concerns || uid.is_some() {
            self.ask(self.question(changed.id), 0);
        }
        Ok(())
    }

    /// The id or name to ask about: a container that the user named is identified by its name,
    /// whichever container has it.
    fn question(&self, id: String) -> String {
        match &self.docker.selection {
            Selection::Labelled => id,
            Selection::Named(name, _) => name.clone(),
        }
    }

    /// The engine was asked to signal a container. If that is to stop it, it is not sick, whatever
    /// it answers from now on.
    async fn signalled(&mut self, uid: &str, sent: &str) -> Result<(), Stopped> {
        let Some(known) = self.known.get_mut(uid) else { return Ok(()) };
        let ends = signal(sent)
            .is_none_or(|sent| sent == libc::SIGKILL || sent == known.container.stop_signal);
        if !ends || known.end.is_none() {
            return Ok(());
        }
        let limit = known.container.grace + STOPPING;
        let (id, instance) = (known.container.id.clone(), known.target.id.instance.clone());
        known.stopping = Some((instance, Instant::now() + limit));
        info!(container = uid, "Docker is stopping the container; remedies suspended");
        self.stopped(uid).await?;
        // It may have caught the signal and continued.
        let asked = self.question(id);
        self.retries.spawn(async move {
            sleep(limit).await;
            (asked, 0)
        });
        Ok(())
    }

    /// Asks the engine about a container. If a request is in flight, another one follows it.
    fn ask(&mut self, asked: String, tries: u32) {
        if let Some(changed) = self.asking.get_mut(&asked) {
            *changed = true;
            return;
        }
        self.asking.insert(asked.clone(), false);
        let (docker, effects) = (Arc::clone(&self.docker), Arc::clone(&self.effects));
        let permits = Arc::clone(&self.permits);
        self.answers.spawn(async move {
            let _permit = permits.acquire().await;
            let said = match docker.engine.inspect(&asked).await {
                Ok(seen) => Ok(said(&docker.selection, &*effects, &seen).await),
                Err(error) => Err(error),
            };
            Answer { asked, tries, said }
        });
    }

    fn retry(&mut self, asked: String, tries: u32) {
        if self.waiting.insert(asked.clone()) {
            let pause = RETRY * 2_u32.pow(tries.min(RETRY_DOUBLINGS));
            self.retries.spawn(async move {
                sleep(pause).await;
                (asked, tries.saturating_add(1))
            });
        }
    }

    async fn answered(&mut self, answer: Answer) -> Result<(), Stopped> {
        let Answer { asked, tries, said } = answer;
        if self.asking.remove(&asked) == Some(true) {
            self.ask(asked.clone(), 0);
        }
        let said = match said {
            Ok(said) => said,
            Err(error @ EngineError::NoContainer(_)) => {
                if let Selection::Named(..) = self.docker.selection {
                    self.tell(&asked, &error);
                }
                return self.gone(&asked).await;
            }
            Err(error) if error.is_of_engine() => return Err(error.into()),
            Err(error) => {
                self.tell(&asked, &error);
                self.retry(asked, tries);
                return Ok(());
            }
        };
        match said.watched_container {
            Ok((watched_container, Ok(container)))
                if container.main.pid == watched_container.container.pid =>
            {
                self.watched_container(&watched_container, &container).await
            }
            // Of its last instance, or of its next.
            Ok((_, found)) => {
                if tries >= TRIES {
                    match found {
                        Ok(_) => self.tell(
                            &said.name,
                            &"its first process differs from the engine's report",
                        ),
                        Err(error) => self.tell(&said.name, &error),
                    }
                }
                self.retry(asked, tries);
                Ok(())
            }
            Err(why @ (NotWatchable::NotRunning | NotWatchable::Paused)) => {
                self.tell(&said.name, &why);
                let uid = self.uid_of(&asked);
                self.stopped(&uid.unwrap_or(said.name)).await
            }
            Err(NotWatchable::NoConsent) => self.gone(&asked).await,
            Err(why) => {
                self.tell(&said.name, &why);
                self.gone(&asked).await
            }
        }
    }

    async fn watched_container(
        &mut self,
        watched_container: &WatchedContainer,
        container: &Container,
    ) -> Result<(), Stopped> {
        let target = self.target_of(watched_container, container);
        let (uid, id) = (target.id.uid.clone(), &watched_container.container.id);
        if container.is_own() {
            self.tell(&uid, &"it is the agent's own container");
            return Ok(());
        }
        let watched = self.known.values().filter(|known| known.end.is_some()).count();
        if !self.known.contains_key(&uid) && watched >= MOST {
            self.tell(&uid, &format!("the agent watches at most {MOST} containers"));
            return Ok(());
        }
        if let Some(before) = self.uid_of(id).filter(|before| *before != uid) {
            // It was renamed.
            self.known.remove(&before);
            self.done.send(TaskResult::Gone(before)).await?;
        }
        let before = self.known.remove(&uid);
        let stopping = before.as_ref().and_then(|before| before.stopping.clone());
        let is_stopping = stopping.as_ref().is_some_and(|(instance, until)| {
            *instance == target.id.instance && Instant::now() < *until
        });
        let same_life = before
            .as_ref()
            .is_some_and(|before| before.target.id == target.id && before.end.is_some());
        let is_news = before.as_ref().is_none_or(|before| before.target != target) || !same_life;
        let end = before.and_then(|before| before.end).filter(|_| same_life);
        let known =
            |end| Known { container: watched_container.container.clone(), target, end, stopping };
        if is_stopping || !is_news {
            self.known.insert(uid, known(end));
            return Ok(());
        }
        self.told.remove(&uid);
        for invalid in &watched_container.invalid_settings {
            warn!(container = uid, %invalid, "invalid setting; the container is only observed");
        }
        let mut known = known(end);
        if known.target.address.is_none() {
            info!(
                container = uid,
                "no health checks: the label paramedic.dev/port must name the port, and the \
                 container needs its own network and an engine that runs as root"
            );
        }
        self.done.send(TaskResult::Found(Box::new(known.target.clone()))).await?;
        known.end.get_or_insert_with(|| {
            let instance = known.target.id.instance.clone();
            Wait::begin(&self.effects, &self.done, container.main, uid.clone(), instance)
        });
        self.known.insert(uid, known);
        Ok(())
    }

    fn uid_of(&self, id: &str) -> Option<String> {
        let mut known = self.known.iter();
        known.find(|(_, known)| known.container.id == id).map(|(uid, _)| uid.clone())
    }

    async fn stopped(&mut self, uid: &str) -> Result<(), Stopped> {
        let Some(known) = self.known.get_mut(uid) else { return Ok(()) };
        if known.end.take().is_some() {
            let (uid, instance) = (uid.to_owned(), known.target.id.instance.clone());
            self.done.send(TaskResult::Lost { uid, instance }).await?;
        }
        Ok(())
    }

    /// The container is no longer a target.
    async fn gone(&mut self, asked: &str) -> Result<(), Stopped> {
        // A named container stays a target, whichever container has its name next.
        if let Selection::Named(name, _) = &self.docker.selection {
            let name = name.clone();
            return self.stopped(&name).await;
        }
        let Some(uid) = self.uid_of(asked) else { return Ok(()) };
        self.known.remove(&uid);
        self.told.remove(&uid);
        self.done.send(TaskResult::Gone(uid)).await?;
        Ok(())
    }

    /// Reports why a container is not watched, unless that was reported before.
    fn tell(&mut self, name: &str, why: &dyn ToString) {
        let why = why.to_string();
        if self.told.get(name) != Some(&why) {
            if self.told.len() >= MOST {
                self.told.clear();
            }
            warn!(container = name, why, "not watched");
            self.told.insert(name.to_owned(), why);
        }
    }

    fn target_of(&self, watched_container: &WatchedContainer, container: &Container) -> Target {
        let (uid, address, host) = match &self.docker.selection {
            Selection::Labelled => {
                let address = watched_container.address.filter(|_| !self.is_rootless);
                let host = address.map(|address| address.to_string()).unwrap_or_default();
                (watched_container.container.name.clone(), address, host)
            }
            Selection::Named(name, watched) => {
                (name.clone(), watched_container.address, watched.host.clone())
            }
        };
        Target {
            // The engine's id survives a restart.
            id: TargetId { uid: uid.clone(), instance: container.main.to_string() },
            name: uid,
            kind: Kind::Container(Arc::new(watched_container.container.clone())),
            settings: watched_container.settings.clone(),
            address,
            tls: false,
            host,
            cgroups: container.cgroups.clone(),
            // The remedy is for the container, whichever of its ports is sick.
            port: None,
            started: container.started,
            main: Some(container.main),
            no_restart: watched_container.no_restart,
            no_evict: Some(Obstacle::NoCluster),
        }
    }
}

/// Interprets the engine's report on a container.
async fn said(
    selection: &Selection,
    effects: &dyn Effects,
    seen: &ContainerInspectResponse,
) -> Said {
    let name = match selection {
        Selection::Labelled => plain(seen.name.as_deref().unwrap_or_default()),
        // It may be its id, or the beginning of it.
        Selection::Named(name, _) => name,
    };
    let name = name.to_owned();
    let watched_container = match selection {
        Selection::Labelled => by_labels(seen),
        Selection::Named(_, watched) => {
            let found = by_name(seen, watched.port, &watched.addresses);
            found.map(|(one, address, obstacle)| named(watched, one, address, obstacle))
        }
    };
    let watched_container = match watched_container {
        Ok(watched_container) => {
            let container = effects.container(&watched_container.container.id).await;
            Ok((watched_container, container))
        }
        Err(why) => Err(why),
    };
    Said { name, watched_container }
}

/// The target of a container that the user named, at the URL that the user gave.
fn named(
    watched: &Watched,
    container: ContainerRef,
    address: SocketAddr,
    no_restart: Option<Obstacle>,
) -> WatchedContainer {
    WatchedContainer {
        container,
        settings: watched.settings.clone(),
        no_restart,
        address: Some(address),
        invalid_settings: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
