//! Changes one limit of one target: plans it from what the cluster or the engine says, writes the
//! intention to disk, acts, and reports the result. Of a process the agent plans only.
use std::{collections::HashMap, sync::Arc, time::Duration};

use paramedic_core::{
    engine::{Event, Index, Resizing},
    resize::{
        Answer, Concluded, Direction, NoResize, Reason, Recalled, ResizeOutcome, Resource, Step,
        Wish, step,
    },
    target::{ContainerRef, Kind, PodRef, Target},
};
use paramedic_docker::{
    Engine,
    resize::{self as container, Updated},
};
use paramedic_host::{
    clock::{Clock, wall_time},
    procfs::Machine,
};
use paramedic_kubernetes::{Cluster, Resized};
use paramedic_record::{
    SharedJournal,
    journal::{Resize, ResizeIntent, scope_of},
};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tracing::info;

use super::{Agent, TaskResult};

/// Timeout of writing the intention to disk.
const DISK: Duration = Duration::from_secs(3);

/// The last change of each limit, by what it belongs to: a target that comes back, or whose owner
/// permits resizes again, takes up where it was.
#[derive(Debug, Default)]
pub(super) struct LastResizes(HashMap<(String, Resource), Recalled>);

impl LastResizes {
    pub(super) fn of(resizes: &[Resize]) -> Self {
        let last = resizes.iter().map(|resize| {
            ((resize.intent.scope.clone(), resize.intent.step.resource), resize.recalled())
        });
        Self(last.collect())
    }

    fn set(&mut self, target: &Target, recalled: Recalled) {
        if let Some(scope) = scope_of(target) {
            self.0.insert((scope, recalled.step.resource), recalled);
        }
    }

    fn of_target(&self, target: &Target) -> Vec<Recalled> {
        let Some(scope) = scope_of(target) else { return Vec::new() };
        let of = |resource| self.0.get(&(scope.clone(), resource)).cloned();
        Resource::ALL.into_iter().filter_map(of).collect()
    }
}

/// How the limits of a target are changed.
enum Way {
    /// Through the API server.
    Pod(Arc<Cluster>, Arc<PodRef>),
    /// Through the engine.
    Container(Engine, Arc<ContainerRef>),
    /// Not by the agent.
    Advice,
}

/// A wish and all that it needs.
struct Work {
    index: Index,
    target: Target,
    wish: Wish,
    way: Way,
    journal: Option<SharedJournal>,
    dry_run: bool,
    clock: Clock,
}

impl Agent {
    /// Carries out a wish, in a task of its own.
    pub(super) fn resize(&self, index: Index, wish: Wish) {
        let Some(case) = self.engine.case(index) else { return };
        let way = match &case.target.kind {
            Kind::Process => Some(Way::Advice),
            Kind::Pod(pod) => {
                self.node.as_ref().map(|node| Way::Pod(Arc::clone(&node.cluster), Arc::clone(pod)))
            }
            Kind::Container(container) => {
                let engine = self.config.containers.as_ref().map(|all| all.engine.clone());
                engine.map(|engine| Way::Container(engine, Arc::clone(container)))
            }
        };
        // A recording has neither.
        let Some(way) = way else { return };
        let work = Work {
            index,
            target: case.target.clone(),
            wish,
            way,
            journal: self.recorder.journal(),
            dry_run: self.config.policy.dry_run,
            clock: self.clock,
        };
        tokio::spawn(work.run(self.done.0.clone()));
    }

    /// The result of a wish. If the target is gone meanwhile, only the journal needs it.
    pub(super) fn resized(&mut self, index: Index, target: &Target, answer: Answer) {
        if let Answer::Given { id: Some(id), step } | Answer::Unknown { id: Some(id), step, .. } =
            &answer
        {
            self.resizes.set(target, Recalled { id: *id, step: *step, open: true });
        }
        let case = self.engine.case(index);
        if case.is_some_and(|case| case.target.id.uid == target.id.uid) {
            self.handle(Event::Resized(index, answer));
        } else if let Some(ended) = Concluded::unknown(&answer, "it was removed") {
            self.recorder.end_resize(ended.id, ended.outcome, ended.detail);
        } else if let Answer::Refused { id, no } = answer {
            self.recorder.end_resize(id, ResizeOutcome::Refused, Some(no.to_string()));
        }
    }

    /// A resize has ended: it is no longer to be verified.
    pub(super) fn resize_ended(&mut self, index: Index, news: &Resizing) {
        let Some(case) = self.engine.case(index) else { return };
        if let Resizing::Concluded(Concluded { id: Some(id), step, .. }) = news {
            self.resizes.set(&case.target, Recalled { id: *id, step: *step, open: false });
        }
    }

    /// Tells the engine what was done to the limits of a target before.
    pub(super) fn recall_resizes(&mut self, index: Index) {
        let Some(case) = self.engine.case(index) else { return };
        if case.target.settings.resize.is_none() {
            return;
        }
        for recalled in self.resizes.of_target(&case.target) {
            if recalled.open {
                info!(
                    target = case.target.name.as_str(),
                    step = %recalled.step,
                    "found a resize without an outcome: it counts as done and is verified"
                );
            }
            self.pending.push_back(Event::ResizeRecalled(index, recalled));
        }
        self.handle_pending();
    }

    /// Open resizes of targets that are gone cannot be verified any more.
    pub(super) fn give_up_resizes(&mut self, listed: &std::collections::HashSet<String>) {
        let is_gone = |scope: &str| !listed.contains(scope.split('/').next().unwrap_or_default());
        for ((scope, _), recalled) in &mut self.resizes.0 {
            if recalled.open && is_gone(scope) && self.node.is_some() {
                recalled.open = false;
                let detail = Some("it was removed while the agent was down".to_owned());
                self.recorder.end_resize(Some(recalled.id), ResizeOutcome::Unverified, detail);
            }
        }
    }
}

impl Work {
    async fn run(self, done: mpsc::Sender<TaskResult>) {
        let answer = match &self.way {
            Way::Pod(cluster, pod) => self.resize_pod(cluster, pod).await,
            Way::Container(engine, container) => self.resize_container(engine, container).await,
            Way::Advice => self.advice().map(Answer::Withheld),
        };
        let answer = answer.unwrap_or_else(|no| Answer::Refused { id: None, no });
        let Self { index, target, .. } = self;
        let target = Box::new(target);
        // The loop is gone only when the agent stops; the journal has what matters.
        let _ = done.send(TaskResult::Resized { index, target, answer }).await;
    }

    async fn resize_pod(&self, cluster: &Cluster, pod: &PodRef) -> Result<Answer, NoResize> {
        let plan = cluster.plan_resize(pod, &self.wish).await?;
        let step = plan.step;
        if self.dry_run {
            return Ok(Answer::Withheld(step));
        }
        let id = Some(self.write_down(step).await?);
        Ok(match cluster.resize(pod, &plan).await {
            Resized::Given => Answer::Given { id, step },
            Resized::Refused(no) => Answer::Refused { id, no },
            Resized::Unknown(why) => Answer::Unknown { id, step, why },
        })
    }

    async fn resize_container(
        &self,
        engine: &Engine,
        judged: &ContainerRef,
    ) -> Result<Answer, NoResize> {
        let limit = container::limit(engine, judged, self.wish.resource).await?;
        let base = self.first_limit(&judged.id).await?.unwrap_or(limit);
        let step = self.plan(limit, base)?;
        if self.dry_run {
            return Ok(Answer::Withheld(step));
        }
        let id = Some(self.write_down(step).await?);
        Ok(match container::resize(engine, judged, &step).await {
            Updated::Given => Answer::Given { id, step },
            Updated::Refused(no) => Answer::Refused { id, no },
            Updated::Unknown(why) => Answer::Unknown { id, step, why },
        })
    }

    /// A step for a process, whose limits are its unit's: nothing is written anywhere.
    fn advice(&self) -> Result<Step, NoResize> {
        let machine = Machine::here();
        let most = match self.wish.resource {
            Resource::Cpu => (f64::from(machine.cpus) * 1000.0) as u64,
            Resource::Memory => machine.memory_bytes,
        };
        // What has no limit of its own is shown the machine's.
        let limit = self.wish.limit.filter(|limit| *limit < most);
        let limit = limit.ok_or_else(|| NoResize::from(Reason::NoLimit))?;
        match self.wish.direction {
            Direction::Up => self.plan(limit, limit),
            Direction::Down => Err(Reason::AtTemplate.into()),
        }
    }

    fn plan(&self, limit: u64, base: u64) -> Result<Step, NoResize> {
        let ceilings = self.target.settings.resize.ok_or_else(|| NoResize::from(Reason::Mode))?;
        step(&self.wish, &ceilings, limit, base)
    }

    /// The limit that a container had when the agent first wanted to change it.
    async fn first_limit(&self, scope: &str) -> Result<Option<u64>, NoResize> {
        let Some(journal) = self.journal.clone() else { return Err(Reason::Journal.into()) };
        let (scope, resource) = (scope.to_owned(), self.wish.resource);
        on_disk(move || journal.first_limit(&scope, resource)).await
    }

    /// Writes the intention to disk; returns its number in the journal.
    async fn write_down(&self, step: Step) -> Result<i64, NoResize> {
        let (Some(journal), Some(scope)) = (self.journal.clone(), scope_of(&self.target)) else {
            return Err(Reason::Journal.into());
        };
        let intent = ResizeIntent {
            scope,
            target: self.target.id.clone(),
            name: self.target.name.clone(),
            step,
            intended: self.clock.now(),
            wall_time: wall_time(),
        };
        info!(target = self.target.name.as_str(), step = %step, "resizing");
        on_disk(move || journal.intend_resize(&intent)).await
    }
}

/// Runs work that waits for the disk. What comes too late may still be written: then the next agent
/// process finds and verifies it.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, paramedic_record::JournalError> + Send + 'static,
) -> Result<T, NoResize> {
    let no = |why: String| NoResize::new(Reason::Journal, why);
    match timeout(DISK, spawn_blocking(work)).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(error))) => Err(no(error.to_string())),
        Ok(Err(panicked)) => Err(no(panicked.to_string())),
        Err(_) => Err(no(format!("not on disk within {} s", DISK.as_secs()))),
    }
}
