//! The pre-flight checks before a remedy, in order, cheapest first; the first refusal ends them.
//!
//! A soft remedy only requires that the cluster is not paused. A hard one also requires that the
//! pod is still the one that was judged, that its workload is at rest, that a disruption budget
//! would permit its eviction (a restart in place takes it out of service just the same), and the
//! workload's lock.
use std::{sync::Arc, time::Duration};

use paramedic_api_server::{ApiError, within};
use paramedic_core::{
    engine::Remedied,
    guard::{Gate, Permit, Refusal, Why, workload},
    target::{Obstacle, PodRef, Remedy},
    verify::Outcome,
};
use tokio::time::sleep;

use super::{
    Cluster, Lock,
    eviction::Answer,
    labels::{Labels, SERVING},
    lock::{ACT_WITHIN, Aside},
    pause::no_answer,
    workload::Workload,
};
use crate::pod::WatchedPod;

/// The remedy to check, and its pod.
#[derive(Clone, Debug)]
pub struct Request {
    /// The pod, as it was judged.
    pub pod: Arc<PodRef>,
    /// The remedy.
    pub remedy: Remedy,
    /// Number of sick pods of its workload on this node, including itself.
    pub sick: u32,
    /// A dry run takes no lock.
    pub dry_run: bool,
}

/// Interval of the checks of an evicted pod's owner.
const FOLLOW: Duration = Duration::from_secs(3);
/// How long a successor may take to be ready.
const SUCCESSOR: Duration = Duration::from_secs(180);

impl Cluster {
    /// Whether the cluster permits the remedy; takes the workload's lock for a hard one.
    ///
    /// # Errors
    /// The refusal, and how long to wait before asking again.
    pub async fn clear(
        self: &Arc<Self>,
        request: &Request,
    ) -> Result<Option<Lock>, (Refusal, Duration)> {
        let cleared = self.ask_all(request).await;
        cleared.map_err(|refusal| {
            let wait = wait(&refusal);
            (refusal, wait)
        })
    }

    async fn ask_all(self: &Arc<Self>, request: &Request) -> Result<Option<Lock>, Refusal> {
        let Request { pod, remedy, sick, dry_run } = request;
        let asked = self.clock.now();
        self.not_paused(*remedy).await?;
        if !remedy.is_hard() {
            return Ok(None);
        }
        let (judged, pod_labels) = self.still_judged(pod, *remedy).await?;
        let of = self.workload(pod).await.map_err(|error| no_answer(&error))?;
        if let Some(refusal) = workload::rollout(of.rolling) {
            return Err(refusal);
        }
        let aside = self.plan_aside(&judged, &pod_labels, *remedy, &of).await?;
        if let Some(refusal) = self.ask_eviction(pod, true).await.refusal() {
            return Err(refusal);
        }
        if self.clock.now().since(asked) > ACT_WITHIN {
            return Err(no_answer(&ApiError::TooSlow));
        }
        let how = (asked, judged.ready, *dry_run);
        self.lock(&of, pod, *remedy, *sick, how, aside).await
    }

    /// What the remedy does to the labels of the pod.
    async fn plan_aside(
        &self,
        judged: &WatchedPod,
        pod_labels: &Labels,
        remedy: Remedy,
        of: &Workload,
    ) -> Result<Aside, Refusal> {
        let (pod, settings) = (&judged.pod, &judged.settings);
        match (remedy, settings.drain, settings.quarantine) {
            (Remedy::Restart, Some(span), _) => {
                if of.selector.as_ref().is_some_and(|selector| selector.names(SERVING)) {
                    let why = Why::Impossible(remedy, Obstacle::ServingSelected);
                    return Err(Refusal { gate: Gate::Mode, why });
                }
                let drain = self.plan_drain(pod, pod_labels, span).await;
                drain.map(Aside::Drain).map_err(|error| no_answer(&error))
            }
            (Remedy::Evict, _, Some(quarantine)) => {
                let plan = self.plan_quarantine(pod, pod_labels, quarantine, of).await?;
                Ok(Aside::Quarantine(plan))
            }
            _ => Ok(Aside::No),
        }
    }

    /// Whether the pod is still the one that was judged and its owner still consents, according to
    /// a fresh read of the API server; returns it as it is now, with its labels.
    pub(super) async fn still_judged(
        &self,
        pod: &PodRef,
        remedy: Remedy,
    ) -> Result<(WatchedPod, Labels), Refusal> {
        let found = within(self.pods(&pod.namespace).get_opt(&pod.name)).await;
        let found = found.map_err(|error| no_answer(&error))?;
        let moved_on = |how: &str| Refusal { gate: Gate::Identity, why: Why::MovedOn(how.into()) };
        let found = found.ok_or_else(|| moved_on("it was deleted"))?;
        let now = self.watched_pod(&found).map_err(|absent| moved_on(&absent.to_string()))?;
        if now.pod.uid != pod.uid {
            return Err(moved_on("another pod has its name"));
        }
        if now.pod.container_id != pod.container_id {
            return Err(moved_on("its container was restarted"));
        }
        if now.settings.ceiling < remedy {
            let why = now.settings.capped.map_or(Why::ObserveOnly, Why::Capped);
            return Err(Refusal { gate: Gate::Mode, why });
        }
        Ok((now, found.metadata.labels.unwrap_or_default()))
    }

    /// Evicts the pod if the lock still holds. A dry run with its uid has just been permitted; a
    /// real eviction with an outdated uid would spend the budget.
    ///
    /// # Errors
    /// That it was not done, and why; or that the result is unknown.
    pub async fn evict(&self, pod: &PodRef, lock: &Lock, permit: Permit) -> Result<(), Remedied> {
        if permit.remedy() != Remedy::Evict {
            return Err(Remedied::NotPerformed("another remedy was permitted".to_owned()));
        }
        lock.holds(self.clock.now()).map_err(|why| Remedied::NotPerformed(why.to_owned()))?;
        let answer = self.ask_eviction(pod, false).await;
        let unknown = matches!(answer, Answer::Unknown(_));
        let why = |refusal: Refusal| refusal.why.to_string();
        match answer.refusal().map(why) {
            None => Ok(()),
            Some(why) if unknown => Err(Remedied::Failed(why)),
            Some(why) => Err(Remedied::NotPerformed(why)),
        }
    }

    /// The outcome for the workload of an evicted or quarantined pod: well if the pod is gone and the workload has had
    /// its full number of ready pods for `window`.
    pub async fn replaced(&self, pod: &PodRef, lock: &Lock, window: Duration) -> (Outcome, String) {
        let Some(goal) = lock.goal() else {
            return (Outcome::Unverified, "its owner does not report ready pods".to_owned());
        };
        let begun = self.clock.now();
        let mut since = None;
        let mut last = None;
        loop {
            sleep(FOLLOW).await;
            let now = self.clock.now();
            if self.has_left(pod).await
                && let Ok(of) = self.workload(pod).await
                && let Some(ready) = of.ready
            {
                if ready >= goal.min(of.replicas) {
                    let since = *since.get_or_insert(now);
                    if now.since(since) >= window {
                        let text = format!("{ready} of {} pods are ready again", of.replicas);
                        return (Outcome::Healed, text);
                    }
                } else {
                    since = None;
                }
                last = Some((ready, of.replicas));
            }
            if now.since(begun) >= SUCCESSOR + pod.grace + window {
                return match last {
                    Some((ready, replicas)) => {
                        let text = format!("only {ready} of {replicas} pods are ready");
                        (Outcome::NotHealed, text)
                    }
                    None => {
                        (Outcome::Unverified, "the state of its successor is unknown".to_owned())
                    }
                };
            }
        }
    }

    /// Whether this very pod no longer exists, or its controller has let it go.
    async fn has_left(&self, pod: &PodRef) -> bool {
        let found = within(self.pods(&pod.namespace).get_opt(&pod.name)).await;
        found.is_ok_and(|found| {
            found.is_none_or(|found| {
                let mut owners = found.metadata.owner_references.iter().flatten();
                let is_let_go =
                    pod.owner.as_ref().is_some_and(|owner| owners.all(|o| o.uid != owner.uid));
                found.metadata.uid.as_ref() != Some(&pod.uid) || is_let_go
            })
        })
    }
}

/// How long to wait before asking again.
const fn wait(refusal: &Refusal) -> Duration {
    if matches!(refusal.why, Why::Counting) {
        // Another clock counts whole seconds, so wait a little longer.
        return Duration::from_secs(4);
    }
    Duration::from_secs(match refusal.gate {
        Gate::Paused => 4,
        Gate::ApiServer | Gate::Identity => 5,
        Gate::WorkloadLock => 10,
        Gate::Rollout | Gate::DisruptionBudget => 15,
        Gate::Overload => 30,
        _ => 60,
    })
}
