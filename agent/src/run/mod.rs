//! The one loop: does what the [`Engine`] commands and tells it what came of it.
//!
//! Everything that waits (a poll, a remedy, the journal's disk) runs as a task of its own and
//! comes back as a [`Done`]; everything that changes state happens here, on one thread, in order.
mod find;
mod senses;
mod treat;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use find::Watched;
use senses::{Life, Senses};
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};
use tracing::{error, info, warn};
use treat::Treated;

use crate::{
    decide::Brain,
    engine::{Command, Engine, Event, Index, Pace, State},
    guard::Policy,
    moment::{Moment, unix_seconds},
    record::{Incident, Recorder},
    serve::{Query, TargetView},
    signal::{
        health::{App, Poll},
        kernel::{Cause, Kernel, Slot, Wake, Wakeups},
        sample::Trigger,
    },
    target::Target,
};

/// What the agent runs with; validated before it is made.
#[derive(Debug)]
pub struct Config {
    /// The services to watch.
    pub watched: Vec<Watched>,
    /// What the guard permits.
    pub policy: Policy,
    /// How often to look.
    pub pace: Pace,
    /// Restarts a process-mode target; without it SIGTERM does, and a supervisor.
    pub restart_command: Option<String>,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// While this file exists, nothing is healed.
    pub pause_file: Option<PathBuf>,
}

/// What came back from a task.
#[derive(Debug)]
enum Done {
    /// A watched service was found, or found again in another life.
    Found(usize, Box<Target>),
    /// Its process has ended.
    Lost(usize),
    /// A poll ended.
    Polled { index: Index, life: Life, trigger: Trigger, poll: Poll, app: Box<App> },
    /// A remedy was given, or could not be.
    Treated(Treated),
}

/// The agent: everything that the loop owns.
pub struct Agent {
    engine: Engine,
    brain: Arc<Brain>,
    kernel: Option<Kernel>,
    wakeups: Option<Wakeups>,
    recorder: Recorder,
    config: Arc<Config>,
    senses: HashMap<Index, Senses>,
    slots: HashMap<Slot, Index>,
    /// Which place each watched service has.
    places: HashMap<usize, Index>,
    past: Vec<Incident>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    queries: mpsc::Receiver<Query>,
    pending: VecDeque<Event>,
    commands: Vec<Command>,
    lives: u64,
    pause_checked: Moment,
}

/// Results that may wait for the loop; a task that finds the queue full waits, nothing is lost.
const QUEUE: usize = 64;
/// How long a remedy under way may hold up the end. Kubernetes gives 30 s by default.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);
/// How often the pause file is looked for.
const PAUSE_CHECK: Duration = Duration::from_secs(1);

impl Agent {
    /// An agent that has not begun to watch. `past` are the recent incidents of this boot, oldest
    /// first: their cooldowns still hold, and those without an outcome are taken up.
    #[must_use]
    pub fn new(
        config: Config,
        brain: Arc<Brain>,
        kernel: Option<(Kernel, Wakeups)>,
        recorder: Recorder,
        past: Vec<Incident>,
        queries: mpsc::Receiver<Query>,
    ) -> Self {
        let (kernel, wakeups) = kernel.unzip();
        Self {
            engine: Engine::new(Arc::clone(&brain), config.policy.clone(), config.pace.clone()),
            brain,
            kernel,
            wakeups,
            recorder,
            config: Arc::new(config),
            senses: HashMap::new(),
            slots: HashMap::new(),
            places: HashMap::new(),
            past,
            done: mpsc::channel(QUEUE),
            queries,
            pending: VecDeque::new(),
            commands: Vec::new(),
            lives: 0,
            pause_checked: Moment::default(),
        }
    }

    /// Watches until `shutdown` resolves. Targets are left as they are: an intention under way is
    /// in the journal and is taken up by the next life of the agent.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let scans = Arc::new(Semaphore::new(find::SCANS));
        for (service, watched) in self.config.watched.iter().enumerate() {
            let (scans, done) = (Arc::clone(&scans), self.done.0.clone());
            tokio::spawn(find::follow(service, watched.clone(), scans, done));
        }
        tokio::pin!(shutdown);
        loop {
            let due = self.engine.next_due();
            tokio::select! {
                () = &mut shutdown => break,
                Some(query) = self.queries.recv() => self.answer(query),
                Some(done) = self.done.1.recv() => self.take(done),
                woken = next_wakeup(&mut self.wakeups) => self.woken(woken),
                () = until(due) => self.handle(Event::Tick),
            }
        }
        self.finish_treatments().await;
        info!("stopped; targets are left as they are");
    }

    /// A restart that is broken off half-way may leave a service down: it is waited for.
    async fn finish_treatments(&mut self) {
        let limit = sleep(SHUTDOWN_LIMIT);
        tokio::pin!(limit);
        while self.engine.cases().any(|(_, case)| matches!(case.state, State::Healing { .. })) {
            tokio::select! {
                () = &mut limit => {
                    error!("a remedy is still under way; the next start verifies it");
                    return;
                }
                Some(done) = self.done.1.recv() => self.take(done),
            }
        }
    }

    /// One event, and all that follows from it at once.
    fn handle(&mut self, event: Event) {
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            self.refresh_switches();
            let look = match &event {
                Event::Looked(_, sample) => Some((sample.trigger, sample.at)),
                _ => None,
            };
            let mut commands = std::mem::take(&mut self.commands);
            self.engine.handle(Moment::now(), utc_hour(), event, &mut commands);
            if let Some((trigger, begun)) = look {
                self.recorder.looked(trigger, Moment::now().since(begun));
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
        let now = Moment::now();
        if now.since(self.pause_checked) >= PAUSE_CHECK {
            self.pause_checked = now;
            let paused = self.config.pause_file.as_ref().is_some_and(|file| file.exists());
            self.engine.set_paused(paused);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Look(index, trigger) => self.look(index, trigger),
            Command::Heal(index, intent) => {
                let Some(case) = self.engine.case(index) else { return };
                let treatment = treat::Treatment {
                    index,
                    life: self.senses.get(&index).map(Senses::life),
                    target: case.target.clone(),
                    intent,
                    brain: Arc::clone(&self.brain),
                    config: Arc::clone(&self.config),
                    journal: self.recorder.journal(),
                };
                self.recorder.healing(&case.target, &treatment.intent);
                tokio::spawn(treat::treat(treatment, self.done.0.clone()));
            }
            Command::Tell(index, fact) => {
                if let Some(case) = self.engine.case(index) {
                    self.recorder.tell(case, fact);
                }
            }
        }
    }

    /// Polls the target, if it is polled at all; the rest is read when the poll is back.
    fn look(&mut self, index: Index, trigger: Trigger) {
        let Some(senses) = self.senses.get_mut(&index) else { return };
        let target = self.engine.case(index).map(|case| &case.target);
        let Some(mut app) = target.and_then(|target| senses.take_app(target)) else {
            let looked = self.read(index, trigger, None);
            self.pending.extend(looked);
            return;
        };
        let life = senses.life();
        let done = self.done.0.clone();
        tokio::spawn(async move {
            let poll = app.poll(Moment::now()).await;
            // The loop is gone only when the agent stops: then nobody needs this.
            let _ = done.send(Done::Polled { index, life, trigger, poll, app }).await;
        });
    }

    /// Everything but the poll, which came first.
    fn read(&mut self, index: Index, trigger: Trigger, poll: Option<Poll>) -> Option<Event> {
        let senses = self.senses.get_mut(&index)?;
        let sample = senses.sample(self.kernel.as_mut(), trigger, poll);
        if let Some(case) = self.engine.case(index) {
            self.recorder.sampled(&case.target.name, &sample);
        }
        Some(Event::Looked(index, Box::new(sample)))
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Found(service, target) => self.found(service, *target),
            Done::Lost(service) => {
                if let Some(index) = self.places.get(&service).copied() {
                    self.handle(Event::Lost(index));
                }
            }
            Done::Polled { index, life, trigger, poll, app } => {
                let Some(senses) = self.senses.get_mut(&index) else { return };
                if senses.life() != life {
                    // The poll of a former instance says nothing of this one.
                    return;
                }
                senses.return_app(app);
                if let Some(looked) = self.read(index, trigger, Some(poll)) {
                    self.handle(looked);
                }
            }
            Done::Treated(treated) => {
                let senses = self.senses.get_mut(&treated.index);
                if let Some(senses) = senses.filter(|s| Some(s.life()) == treated.life) {
                    senses.drew(treated.responses);
                }
                self.handle(Event::Treated {
                    index: treated.index,
                    incident: treated.incident,
                    failed: treated.failed,
                });
            }
        }
    }

    /// A service was found: a new target, or another life of a known one.
    fn found(&mut self, service: usize, target: Target) {
        let index = self.places.get(&service).copied();
        let place = index.unwrap_or_else(|| self.engine.vacant());
        if let Some(before) = self.senses.remove(&place) {
            self.let_go(before);
        }
        self.recorder.found(&target, index.is_some());
        self.lives += 1;
        let senses = Senses::open(&target, Life(self.lives), self.kernel.as_mut());
        if let Some(slot) = senses.slot() {
            self.slots.insert(slot, place);
        }
        self.senses.insert(place, senses);
        self.places.insert(service, place);
        self.recorder.targets(self.places.len());
        let uid = target.id.uid.clone();
        if index.is_some() {
            self.handle(Event::Changed(place, Box::new(target)));
        } else {
            self.handle(Event::Added(place, Box::new(target)));
            self.recall(place, &uid);
        }
    }

    /// What a former life of the agent did to this target. Its cooldowns hold; an intention
    /// without an outcome counts as done, is verified and never repeated.
    fn recall(&mut self, index: Index, uid: &str) {
        let of_target = |incident: &mut Incident| incident.intent.target.uid == uid;
        let past: Vec<_> = self.past.extract_if(.., of_target).collect();
        for Incident { id, intent, outcome, concluded, .. } in past {
            let (rung, treated) = (intent.rung, intent.intended);
            let ended = outcome.zip(concluded);
            self.handle(Event::Recalled { index, rung, treated, ended });
            if outcome.is_none() {
                warn!(
                    incident = id,
                    target = uid,
                    rung = rung.name(),
                    "an intention without an outcome was found: it counts as done and is verified"
                );
                let (before, judged) = (intent.action, intent.target.instance);
                self.handle(Event::Recovered { index, incident: id, rung, before, judged });
            }
        }
    }

    fn let_go(&mut self, senses: Senses) {
        if let (Some(slot), Some(kernel)) = (senses.slot(), self.kernel.as_mut()) {
            self.slots.remove(&slot);
            if let Err(error) = kernel.unwatch(slot) {
                warn!(%error, "a former instance is still counted in the kernel");
            }
        }
    }

    fn woken(&mut self, wake: Wake) {
        self.recorder.woken(wake.cause);
        if let Some(index) = self.slots.get(&wake.slot) {
            let throttled = wake.cause == Cause::Throttled;
            self.handle(Event::Woken { index: *index, at: wake.at, throttled });
        }
    }

    fn answer(&self, query: Query) {
        match query {
            Query::Targets(reply) => {
                let views = self.engine.cases().map(|(_, case)| TargetView::of(case)).collect();
                // Who asked may have hung up.
                let _ = reply.send(views);
            }
            Query::Pending(reply) => {
                let missing = self
                    .config
                    .watched
                    .iter()
                    .enumerate()
                    .filter(|(service, _)| !self.places.contains_key(service))
                    .map(|(_, watched)| format!("{}: nothing listens there yet", watched.url));
                let unseen = self
                    .engine
                    .cases()
                    .filter(|(_, case)| case.decision.is_none())
                    .map(|(_, case)| format!("{}: not yet looked at", case.target.name));
                let _ = reply.send(missing.chain(unseen).collect());
            }
        }
    }
}

/// The next wake-up; never without kernel signals.
async fn next_wakeup(wakeups: &mut Option<Wakeups>) -> Wake {
    if let Some(ring) = wakeups {
        match ring.next().await {
            Ok(wake) => return wake,
            // The regular looks go on without it.
            Err(error) => warn!(%error, "the kernel's wake-ups can no longer be heard"),
        }
        *wakeups = None;
    }
    std::future::pending().await
}

async fn until(due: Option<Moment>) {
    match due {
        Some(due) => sleep(due.since(Moment::now())).await,
        None => std::future::pending().await,
    }
}

/// Hour of the day, UTC, by the node's clock.
fn utc_hour() -> u8 {
    u8::try_from(unix_seconds() / 3600 % 24).unwrap_or(0)
}
