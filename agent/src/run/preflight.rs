//! Connects the event loop with the cluster: runs the pre-flight checks before a remedy, holds the
//! lock during it, and releases it.
use std::{sync::Arc, time::Duration};

use paramedic_core::{
    decide::Action,
    engine::{Case, Event, Index, State},
    guard::Refusal,
    target::Remedy,
    verify::Outcome,
};
use paramedic_kubernetes::{Lock, Request};

use super::{
    Agent, Node, TaskResult,
    sampler::{Generation, Sampler},
};

impl Agent {
    /// Asks the cluster, and reports its answer.
    pub(super) fn ask(&self, index: Index, remedy: Remedy) {
        let (Some(node), Some(case)) = (&self.node, self.engine.case(index)) else { return };
        let Some(pod) = case.target.pod().cloned() else { return };
        let sick = self.sick_siblings(case);
        let request = Request { pod, remedy, sick, dry_run: self.config.policy.dry_run };
        let (cluster, done) = (Arc::clone(&node.cluster), self.done.0.clone());
        let life = self.registry.sampler(index).map(Sampler::life);
        tokio::spawn(async move {
            let answer = cluster.clear(&request).await;
            // The loop is gone only when the agent stops; a lock then expires by itself.
            let _ = done.send(TaskResult::Cleared { index, life, remedy, answer }).await;
        });
    }

    /// Number of sick pods of the same owner on this node, including this one.
    fn sick_siblings(&self, case: &Case) -> u32 {
        let owner = |case: &Case| {
            let pod = case.target.pod()?;
            Some(pod.owner.as_ref().map_or_else(|| pod.uid.clone(), |owner| owner.uid.clone()))
        };
        let ours = owner(case);
        let sick = self.engine.cases().filter(|(_, other)| {
            let sick = other.decision.is_some_and(|d| d.action > Action::NoAction);
            sick && owner(other) == ours
        });
        u32::try_from(sick.count()).unwrap_or(u32::MAX).max(1)
    }

    /// The cluster answered. A lock that is no longer needed is released at once.
    pub(super) fn cleared(
        &mut self,
        index: Index,
        life: Option<Generation>,
        remedy: Remedy,
        answer: Result<Option<Lock>, (Refusal, Duration)>,
    ) {
        if self.registry.sampler(index).map(Sampler::life) != life {
            self.release(answer.ok().flatten().map(Arc::new), None);
            return;
        }
        let answer = answer.map(|lock| self.locks.extend(lock.map(|lock| (index, Arc::new(lock)))));
        self.handle(Event::Cleared { index, remedy, answer });
    }

    /// Releases the lock that is held for a target, with the outcome of the remedy; a remedy that
    /// was not applied has none.
    pub(super) fn release_of(&mut self, index: Index, outcome: Option<Outcome>) {
        let lock = self.locks.remove(&index);
        self.release(lock, outcome);
    }

    fn release(&self, lock: Option<Arc<Lock>>, outcome: Option<Outcome>) {
        let (Some(node), Some(lock)) = (&self.node, lock) else { return };
        let cluster = Arc::clone(&node.cluster);
        tokio::spawn(async move {
            // Only a treatment in progress holds it as well, and that has ended.
            if let Some(lock) = Arc::into_inner(lock) {
                cluster.release(lock, outcome).await;
            }
        });
    }

    /// Releases all locks, which would otherwise block other agents for a minute. A treatment in
    /// progress keeps its lock, which expires if the next agent process does not take it over in
    /// time.
    pub(super) async fn release_all(&mut self) {
        let Some(Node { cluster, .. }) = &self.node else { return };
        let unused = self.locks.extract_if(|index, _| {
            let case = self.engine.case(*index);
            case.is_none_or(|case| matches!(case.state, State::Watching))
        });
        for lock in unused.filter_map(|(_, lock)| Arc::into_inner(lock)) {
            cluster.release(lock, None).await;
        }
    }
}
