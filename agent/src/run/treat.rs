//! Applies one remedy: writes the intention to disk, keeps the evidence, drains the pod if its owner
//! wants that, acts, and reports the result.
use std::{sync::Arc, time::Duration};

use paramedic_core::{
    decide::Classifier,
    engine::{Index, Intent, Remedied},
    guard::Permit,
    health::Responses,
    target::{Remedy, Target},
};
use paramedic_host::clock::Clock;
use paramedic_kubernetes::{Cluster, Lock};
use paramedic_record::{SharedJournal, intent_of};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::timeout,
};
use tracing::{error, info, warn};

use super::{
    TaskResult,
    drain::Drainage,
    effects::Effects,
    evidence::{self, Keeping},
    sampler::Generation,
};

/// Timeout of writing the intention to disk.
const DISK: Duration = Duration::from_secs(3);

/// Time that evidence leaves of what the lock still permits, for the act itself.
const FOR_THE_ACT: Duration = Duration::from_millis(500);

/// A remedy with its target and reasons.
pub(super) struct Treatment {
    pub(super) index: Index,
    pub(super) life: Option<Generation>,
    pub(super) target: Target,
    pub(super) permit: Permit,
    pub(super) intent: Intent,
    pub(super) classifier: Arc<Classifier>,
    pub(super) effects: Arc<dyn Effects>,
    pub(super) cluster: Option<Arc<Cluster>>,
    /// The workload's lock, for a hard remedy to a pod.
    pub(super) lock: Option<Arc<Lock>>,
    pub(super) journal: Option<SharedJournal>,
    /// Where to keep the evidence of a hard remedy, if it is collected.
    pub(super) evidence: Option<Keeping>,
    pub(super) verify_window: Duration,
    pub(super) clock: Clock,
    /// Whether it serves anybody, if that is known.
    pub(super) serves: Option<bool>,
    /// Turns true when healing is paused on this node, or the agent stops.
    pub(super) halt: watch::Receiver<bool>,
    /// The loop.
    pub(super) done: mpsc::Sender<TaskResult>,
}

/// The result of a treatment.
#[derive(Debug)]
pub(super) struct Treated {
    pub(super) index: Index,
    /// The treated target.
    pub(super) uid: String,
    /// The treated instance.
    pub(super) life: Option<Generation>,
    pub(super) incident: Option<i64>,
    pub(super) result: Remedied,
    /// The target's responses to the remedy.
    pub(super) responses: Responses,
    /// Whether it was drained before, if its owner wants that.
    pub(super) drained: Option<Drainage>,
}

/// Applies the remedy, and reports to the loop.
pub(super) async fn treat(treatment: Treatment) {
    let done = treatment.done.clone();
    let treated = Box::pin(treatment.give()).await;
    // The loop is gone only when the agent stops; the journal has what matters.
    let _ = done.send(TaskResult::Treated(treated)).await;
}

fn not_performed(reason: impl Into<String>) -> Remedied {
    Remedied::NotPerformed(reason.into())
}

impl Treatment {
    async fn give(mut self) -> Treated {
        let (index, life, remedy) = (self.index, self.life, self.permit.remedy());
        let uid = self.target.id.uid.clone();
        let mut treated = Treated {
            index,
            uid,
            life,
            incident: None,
            result: not_performed(""),
            responses: [0; 5],
            drained: None,
        };
        treated.incident = match self.write_down().await {
            Ok(incident) => incident,
            Err(reason) if remedy.is_hard() => {
                treated.result = not_performed(reason);
                return treated;
            }
            Err(reason) => {
                warn!(reason, "applying a soft remedy without its journal entry");
                None
            }
        };
        treated.responses = self.keep_evidence(treated.incident).await;
        treated.result = match (self.lock_holds(), remedy) {
            (Err(reason), _) => not_performed(reason),
            (Ok(()), Remedy::Soft) => {
                let (result, drawn) = self.effects.reset(&self.target, self.permit).await;
                treated.responses = drawn;
                result
            }
            (Ok(()), Remedy::Restart) => self.restart(&mut treated).await,
            (Ok(()), Remedy::Evict) => self.evict(treated.incident).await,
            (Ok(()), Remedy::Observe) => not_performed("observe is not a remedy"),
        };
        treated
    }

    /// Restarts it, after a drain if its owner wants one.
    async fn restart(self, treated: &mut Treated) -> Remedied {
        let drained = match self.drain(treated).await {
            Ok(drained) => drained,
            Err(reason) => return not_performed(reason),
        };
        // The drain took its time.
        if let Err(reason) = self.lock_holds() {
            return not_performed(reason);
        }
        let result = self.effects.restart(&self.target, self.permit).await;
        if let (Some(drained), Remedied::Given | Remedied::Failed(_)) = (drained, &result) {
            drained.restarted();
        }
        result
    }

    /// Keeps the evidence of a hard remedy, and returns the target's responses meanwhile.
    async fn keep_evidence(&mut self, incident: Option<i64>) -> Responses {
        let remedy = self.permit.remedy();
        match (self.evidence.take(), incident) {
            (Some(keeping), Some(incident)) if remedy.is_hard() => {
                let limit = self.time_for_evidence();
                let of = (incident, remedy);
                keeping.keep(&*self.effects, &self.target, of, limit).await
            }
            _ => [0; 5],
        }
    }

    /// A lock permits to act for a few seconds only, and evidence must not use them up.
    fn time_for_evidence(&self) -> Duration {
        let lock = self.lock.as_ref().map(|lock| lock.permits_for(self.clock.now()));
        lock.map_or(evidence::LIMIT, |left| evidence::LIMIT.min(left.saturating_sub(FOR_THE_ACT)))
    }

    /// Writing to the journal may have been slow: refuses if the lock is about to expire.
    fn lock_holds(&self) -> Result<(), &'static str> {
        match &self.lock {
            _ if !self.permit.remedy().is_hard() || self.target.pod().is_none() => Ok(()),
            Some(lock) => lock.holds(self.clock.now()),
            None => Err("the agent does not hold its workload's lock"),
        }
    }

    /// Writes the intention to disk before anything is done; returns its number in the journal.
    async fn write_down(&self) -> Result<Option<i64>, String> {
        let Some(journal) = self.journal.clone() else { return Ok(None) };
        let (target, intent) = (self.target.clone(), self.intent.clone());
        let (classifier, now) = (Arc::clone(&self.classifier), self.clock.now());
        let written =
            spawn_blocking(move || journal.intend(&intent_of(&target, &intent, &classifier, now)));
        let Ok(written) = timeout(DISK, written).await else {
            // It may still be written; then the next agent process finds and verifies it.
            error!("the journal's disk is too slow: no hard remedies until it recovers");
            return Err(format!("the intention was not on disk within {} s", DISK.as_secs()));
        };
        match written {
            Ok(Ok(incident)) => Ok(Some(incident)),
            Ok(Err(error)) => {
                error!(%error, "cannot write to the journal: no hard remedies until it recovers");
                Err(format!("cannot write the intention: {error}"))
            }
            Err(panicked) => Err(format!("the journal failed: {panicked}")),
        }
    }

    /// Evicts or quarantines, and waits for the state of the workload: the pod itself is gone from
    /// it.
    async fn evict(self, incident: Option<i64>) -> Remedied {
        let (Some(cluster), Some(pod), Some(lock)) = (&self.cluster, self.target.pod(), &self.lock)
        else {
            return not_performed("only a pod of a cluster can be evicted");
        };
        if lock.is_quarantine() != self.target.settings.quarantine.is_some() {
            return not_performed("its settings have just changed (paramedic.dev/give-up)");
        }
        let done = match lock.is_quarantine() {
            true => cluster.quarantine(pod, lock, self.permit, incident).await.map(Some),
            false => cluster.evict(pod, lock, self.permit).await.map(|()| None),
        };
        let done = match done {
            Ok(done) => done,
            Err(result) => return result,
        };
        if let Some(done) = &done {
            info!(target = self.target.name, done, "quarantined");
        }
        let (outcome, text) = cluster.replaced(pod, lock, self.verify_window).await;
        Remedied::Ended(outcome, done.map_or(text.clone(), |done| format!("{done}; {text}")))
    }
}
