//! Follows the containers of Docker's engine: what it tells of them, joined with what the machine
//! knows of their processes.
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{sync::mpsc, time::sleep};
use tracing::{info, warn};

use super::{Done, MOST_PODS as MOST, Watched, end::Wait, world::World};
use crate::{
    docker::{Changed, Engine, EngineError, Now},
    target::{
        Obstacle, Target, TargetId,
        consent::HEAL_LABEL,
        container::Container,
        docker::{Absent, ContainerRef, Patient, by_labels, by_name},
    },
};

/// From the engine's word that a container runs to its cgroup being there.
const RETRY: Duration = Duration::from_millis(200);
/// A container not found within this many tries is given up until the engine tells of it again.
const TRIES: u32 = 10;
/// Between two tries to reach the engine; doubles up to [`AWAY_MAX`].
const AWAY_MIN: Duration = Duration::from_millis(250);
const AWAY_MAX: Duration = Duration::from_secs(5);

/// Docker, for an agent that watches containers.
#[derive(Clone, Debug)]
pub struct Docker {
    /// The engine of this machine.
    pub engine: Engine,
    /// Which containers.
    pub whom: Whom,
}

/// Which containers are watched.
#[derive(Clone, Debug)]
pub enum Whom {
    /// All whose label consents.
    Labelled,
    /// The one of this name, at this URL.
    Named(String, Watched),
}

/// A container that was told to the loop.
struct Known {
    uid: String,
    /// What was told; another means other settings.
    target: Target,
    /// `None` once the engine has said that it ended.
    end: Option<Wait>,
}

/// Joins both sides and tells the loop.
struct Ward {
    docker: Docker,
    world: Arc<dyn World>,
    done: mpsc::Sender<Done>,
    /// By the container's id.
    known: HashMap<String, Known>,
    /// What was said last of those that are not watched, so that it is said once.
    told: HashMap<String, String>,
    /// Containers to look for again, with how often it was tried.
    again: mpsc::Sender<(String, u32)>,
}

/// Why the engine is no longer followed.
enum Stopped {
    Engine(EngineError),
    /// The loop is gone.
    Loop,
}

impl From<EngineError> for Stopped {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<mpsc::error::SendError<Done>> for Stopped {
    fn from(_: mpsc::error::SendError<Done>) -> Self {
        Self::Loop
    }
}

/// Runs until the loop is gone, through as many lives of the engine as there are.
pub(super) async fn follow(docker: Docker, world: Arc<dyn World>, done: mpsc::Sender<Done>) {
    let (again, mut retries) = mpsc::channel(MOST);
    let (known, told) = (HashMap::new(), HashMap::new());
    let mut ward = Ward { docker, world, done, known, told, again };
    let (mut pause, mut away) = (AWAY_MIN, false);
    loop {
        let mut heard = false;
        let Err(Stopped::Engine(error)) = ward.attend(&mut retries, &mut heard).await else {
            return;
        };
        if heard {
            (pause, away) = (AWAY_MIN, false);
        }
        if !std::mem::replace(&mut away, true) {
            warn!(%error, "containers are watched as they were until the engine is back");
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = ward.done.closed() => return,
        }
        pause = (pause * 2).min(AWAY_MAX);
    }
}

impl Ward {
    /// Follows one life of the engine; `heard` tells whether it answered.
    async fn attend(
        &mut self,
        retries: &mut mpsc::Receiver<(String, u32)>,
        heard: &mut bool,
    ) -> Result<(), Stopped> {
        let since = Now::now();
        let listed = self.list().await?;
        if !std::mem::replace(heard, true) {
            info!(socket = %self.docker.engine.socket().display(), "following Docker's containers");
        }
        let (ids, names): (HashSet<_>, HashSet<_>) = listed.into_iter().unzip();
        let known: Vec<String> = self.known.keys().cloned().collect();
        for id in known.iter().filter(|id| !ids.contains(*id)) {
            self.gone(id).await?;
        }
        for id in &ids {
            self.look(id, 0).await?;
        }
        if let Whom::Labelled = self.docker.whom {
            self.done.send(Done::Listed(names)).await?;
        }
        // From before the list was made, so that nothing falls between.
        let mut changes = self.docker.engine.changes(since).await?;
        loop {
            tokio::select! {
                changed = changes.next() => {
                    let changed = changed.unwrap_or(Err(EngineError::Gone))?;
                    if self.concerns(&changed) {
                        self.look(&changed.id, 0).await?;
                    }
                }
                Some((id, tries)) = retries.recv() => self.look(&id, tries).await?,
                () = self.done.closed() => return Err(Stopped::Loop),
            }
        }
    }

    /// Id and name of all containers that may be patients.
    async fn list(&mut self) -> Result<Vec<(String, String)>, EngineError> {
        let engine = &self.docker.engine;
        let Whom::Named(name, _) = &self.docker.whom else {
            return engine.labelled(HEAL_LABEL).await;
        };
        match engine.inspect(name).await {
            Ok(seen) => Ok(seen.id.map(|id| (id, name.clone())).into_iter().collect()),
            Err(error @ EngineError::NoContainer(_)) => {
                let name = name.clone();
                self.tell(&name, &error);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn concerns(&self, changed: &Changed) -> bool {
        match &self.docker.whom {
            Whom::Labelled => true,
            Whom::Named(name, _) => {
                changed.name == *name
                    || changed.id.starts_with(name.as_str())
                    || self.known.contains_key(&changed.id)
            }
        }
    }

    /// Asks the engine about a container and tells the loop what is new.
    async fn look(&mut self, id: &str, tries: u32) -> Result<(), Stopped> {
        let seen = match self.docker.engine.inspect(id).await {
            Ok(seen) => seen,
            Err(EngineError::NoContainer(_)) => return self.gone(id).await,
            Err(error) => return Err(error.into()),
        };
        let patient = match &self.docker.whom {
            Whom::Labelled => by_labels(&seen),
            Whom::Named(_, watched) => {
                let found = by_name(&seen, watched.port, &watched.addresses);
                found.map(|(one, address, obstacle)| named(watched, one, address, obstacle))
            }
        };
        match patient {
            Ok(patient) => self.patient(id, patient, tries).await,
            Err(Absent::NotRunning | Absent::Paused) => self.stopped(id).await,
            Err(Absent::NoConsent) => self.gone(id).await,
            Err(why) => {
                let name = seen.name.as_deref().unwrap_or(id).trim_start_matches('/').to_owned();
                self.tell(&name, &why);
                self.gone(id).await
            }
        }
    }

    async fn patient(&mut self, id: &str, patient: Patient, tries: u32) -> Result<(), Stopped> {
        let name = &patient.container.name;
        if !self.known.contains_key(id) && self.known.len() >= MOST {
            self.tell(name, &format!("the agent watches {MOST} containers at most"));
            return Ok(());
        }
        let container = match self.world.container(id).await {
            Ok(container) if container.main.pid == patient.container.pid => container,
            // Of its former life, or of its next.
            Ok(_) if tries < TRIES => return self.retry(id, tries),
            Ok(container) => {
                let (here, there) = (container.main.pid, patient.container.pid);
                let why = format!(
                    "its first process is {here} here and {there} for the engine: give the agent \
                     the host's PID namespace (docker run --pid host)"
                );
                self.tell(name, &why);
                return Ok(());
            }
            Err(_) if tries < TRIES => return self.retry(id, tries),
            Err(error) => {
                self.tell(name, &error);
                return Ok(());
            }
        };
        if u32::try_from(container.main.pid) == Ok(std::process::id()) {
            self.tell(name, &"it is the agent itself");
            return Ok(());
        }
        self.told.remove(name);
        let target = target_of(&self.docker.whom, &patient, &container);
        let before = self.known.remove(id);
        if let Some(before) = &before
            && before.uid != target.id.uid
        {
            // It was renamed.
            self.done.send(Done::Gone(before.uid.clone())).await?;
        }
        let (uid, instance) = (target.id.uid.clone(), target.id.instance.clone());
        let (same_life, end) = match before {
            Some(before) if before.target == target && before.end.is_some() => {
                self.known.insert(id.to_owned(), before);
                return Ok(());
            }
            Some(before) => (before.target.id == target.id, before.end),
            None => (false, None),
        };
        for complaint in &patient.complaints {
            warn!(container = uid, %complaint, "a setting cannot be read");
        }
        if target.address.is_none() {
            info!(
                container = uid,
                "no /health: it has no network of its own, or the label paramedic.dev/port is to \
                 say at which port"
            );
        }
        self.done.send(Done::Found(Box::new(target.clone()))).await?;
        let end = end.filter(|_| same_life).unwrap_or_else(|| {
            Wait::begin(&self.world, &self.done, container.main, uid.clone(), instance)
        });
        self.known.insert(id.to_owned(), Known { uid, target, end: Some(end) });
        Ok(())
    }

    fn retry(&self, id: &str, tries: u32) -> Result<(), Stopped> {
        let (again, id) = (self.again.clone(), id.to_owned());
        tokio::spawn(async move {
            sleep(RETRY).await;
            // Where as many wait as are watched, the next change tells anew.
            let _ = again.try_send((id, tries + 1));
        });
        Ok(())
    }

    async fn stopped(&mut self, id: &str) -> Result<(), Stopped> {
        let Some(known) = self.known.get_mut(id) else { return Ok(()) };
        if known.end.take().is_some() {
            let (uid, instance) = (known.uid.clone(), known.target.id.instance.clone());
            self.done.send(Done::Lost { uid, instance }).await?;
        }
        Ok(())
    }

    async fn gone(&mut self, id: &str) -> Result<(), Stopped> {
        // One that was named stays a patient, whatever container has its name next.
        if matches!(self.docker.whom, Whom::Named(..)) {
            self.stopped(id).await?;
            self.known.remove(id);
        } else if let Some(known) = self.known.remove(id) {
            self.told.remove(&known.uid);
            self.done.send(Done::Gone(known.uid)).await?;
        }
        Ok(())
    }

    /// Says why a container is not watched, unless that was said before.
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
}

/// A container that the user named, at the URL that the user gave.
fn named(
    watched: &Watched,
    container: ContainerRef,
    address: SocketAddr,
    no_restart: Option<Obstacle>,
) -> Patient {
    Patient {
        container,
        ceiling: watched.ceiling,
        no_restart,
        address: Some(address),
        health_path: watched.health_path.clone(),
        heal_path: watched.heal_path.clone(),
        min_confidence: watched.min_confidence,
        complaints: Vec::new(),
    }
}

fn target_of(whom: &Whom, patient: &Patient, container: &Container) -> Target {
    let Patient { address, .. } = *patient;
    let (uid, host) = match whom {
        Whom::Labelled => {
            let host = address.map(|address| address.to_string()).unwrap_or_default();
            (patient.container.name.clone(), host)
        }
        Whom::Named(name, watched) => (name.clone(), watched.host.clone()),
    };
    Target {
        // The engine's id outlives a restart.
        id: TargetId { uid: uid.clone(), instance: container.main.to_string() },
        name: uid,
        ceiling: patient.ceiling,
        address,
        host,
        health_path: patient.health_path.clone(),
        heal_path: patient.heal_path.clone(),
        min_confidence: patient.min_confidence,
        cgroups: container.cgroups.clone(),
        // The container is what is healed, whichever of its ports is ill.
        port: None,
        started: container.started,
        main: Some(container.main),
        pod: None,
        docker: Some(Arc::new(patient.container.clone())),
        no_restart: patient.no_restart,
        no_evict: Some(Obstacle::NoCluster),
    }
}

#[cfg(test)]
mod tests;
