//! Keeps a pod for people to look at, in place of its eviction: without the labels by which its
//! ReplicaSet and its Services select it. The ReplicaSet lets it go and starts another.
//!
//! The budget is asked as before an eviction, with a dry run; unlike an eviction the change does not
//! spend it. The workload's lock keeps agents apart, and the dry run is at most three seconds old.
use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{api::ListParams, core::PartialObjectMeta};
use paramedic_api_server::{ApiError, within};
use paramedic_core::{
    engine::Remedied,
    guard::{Gate, Permit, Refusal, Why},
    target::{Obstacle, PodRef, Quarantine, Remedy, consent::HEAL_LABEL},
};

use crate::{
    Cluster, Lock,
    eviction::Answer,
    labels::{self, Labels, PodSelector, QUARANTINED, Quarantined},
    lock::{TRIES, is_conflict},
    outside::Name,
    pause::no_answer,
    workload::Workload,
};

/// A quarantine that nothing in the cluster forbids.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    quarantine: Quarantine,
    workload: String,
    controller: PodSelector,
    services: Vec<PodSelector>,
}

impl Cluster {
    /// Whether the pod can be quarantined, and what selects it.
    pub(super) async fn plan_quarantine(
        &self,
        pod: &PodRef,
        pod_labels: &Labels,
        quarantine: Quarantine,
        of: &Workload,
    ) -> Result<Plan, Refusal> {
        let impossible =
            |obstacle| Refusal { gate: Gate::Mode, why: Why::Impossible(Remedy::Evict, obstacle) };
        let controller = of.selector.clone().ok_or_else(|| impossible(Obstacle::NotReleased))?;
        let services = self.services(&pod.namespace).await.map_err(|error| no_answer(&error))?;
        labels::to_take(pod_labels, &controller, &services).map_err(impossible)?;
        let other = self.quarantined(&pod.namespace, &of.title()).await;
        if let Some(other) = other.map_err(|error| no_answer(&error))? {
            return Err(Refusal { gate: Gate::WorkloadLock, why: Why::InQuarantine(other.into()) });
        }
        Ok(Plan { quarantine, workload: of.title(), controller, services })
    }

    /// The pod of this workload that is in quarantine, if there is one.
    async fn quarantined(
        &self,
        namespace: &str,
        workload: &str,
    ) -> Result<Option<String>, ApiError> {
        let params = ListParams::default().labels(HEAL_LABEL);
        let pods = within(self.pods(namespace).list_metadata(&params)).await?;
        let is_of = |pod: &PartialObjectMeta<Pod>| {
            let text = pod.metadata.annotations.as_ref()?.get(QUARANTINED)?;
            let record: Quarantined = serde_json::from_str(text).ok()?;
            (record.workload == workload).then(|| pod.metadata.name.clone())?
        };
        Ok(pods.items.iter().find_map(is_of))
    }

    /// Takes the labels of the pod, if the lock still holds. Returns what was done, in words.
    ///
    /// # Errors
    /// That it was not done, and why; or that the result is unknown.
    pub async fn quarantine(
        self: &Arc<Self>,
        pod: &PodRef,
        lock: &Lock,
        permit: Permit,
        incident: Option<i64>,
    ) -> Result<String, Remedied> {
        let not_performed = |why: String| Remedied::NotPerformed(why);
        if permit.remedy() != Remedy::Evict {
            return Err(not_performed("another remedy was permitted".to_owned()));
        }
        let Some(plan) = lock.quarantines() else {
            return Err(not_performed("its settings have just changed".to_owned()));
        };
        let at = self.server_now().map_err(|error| not_performed(error.to_string()))?;
        for _ in 0..TRIES {
            let found = self.judged_pod(pod, Remedy::Evict).await.map_err(not_performed)?;
            let of_pod = found.metadata.labels.clone().unwrap_or_default();
            let taken = labels::to_take(&of_pod, &plan.controller, &plan.services);
            let taken = taken.map_err(|obstacle| not_performed(obstacle.to_string()))?;
            let record = self.record(plan, taken, at, incident).map_err(not_performed)?;
            lock.holds(self.clock.now()).map_err(|why| not_performed(why.to_owned()))?;
            match self
                .change((&pod.namespace, &pod.name), &labels::quarantine(&found, &record))
                .await
            {
                Ok(()) => return Ok(told(&record)),
                Err(error) if is_conflict(&error) => {}
                Err(ApiError::Refused(kube::Error::Api(status)))
                    if matches!(status.code, 400 | 403 | 404 | 422) =>
                {
                    return Err(not_performed(status.message));
                }
                Err(error) => return Err(Remedied::Failed(error.to_string())),
            }
        }
        Err(not_performed("the pod changes all the time".to_owned()))
    }

    fn record(
        &self,
        plan: &Plan,
        taken: Labels,
        at: i64,
        incident: Option<i64>,
    ) -> Result<Quarantined, String> {
        let lasts = i64::try_from(plan.quarantine.lasts.as_secs()).unwrap_or(0);
        let time = |seconds: i64| {
            Timestamp::from_second(seconds)
                .map_err(|_| "the API server's clock is absurd".to_owned())
        };
        Ok(Quarantined {
            labels: taken,
            workload: plan.workload.clone(),
            at: time(at)?,
            until: time(at.saturating_add(lasts))?,
            incident,
            by: self.identity.holder.clone(),
        })
    }

    /// Evicts a pod whose quarantine has ended: nothing else would remove it. A pod that others have
    /// given a label of its former life, or a controller, is left to them.
    ///
    /// # Errors
    /// Why not; `None` if it need not be tried again.
    pub(super) async fn end_quarantine(&self, pod: &Name) -> Result<(), Option<String>> {
        let again = |error: &ApiError| Some(error.to_string());
        self.not_paused(Remedy::Evict).await.map_err(|refusal| Some(refusal.why.to_string()))?;
        let found = within(self.pods(&pod.namespace).get_opt(&pod.name)).await;
        let found = found.map_err(|error| again(&error))?;
        let found =
            found.filter(|found| found.metadata.uid.as_ref() == Some(&pod.uid)).ok_or(None)?;
        let record = Quarantined::of(&found).and_then(Result::ok).ok_or(None)?;
        let now = self.server_now().map_err(|error| again(&error))?;
        let is_back = record.labels.keys().any(|key| labels::label(&found, key).is_some());
        let is_owned =
            found.metadata.owner_references.iter().flatten().any(|o| o.controller == Some(true));
        let consents = labels::label(&found, HEAL_LABEL) == Some(Remedy::Evict.name());
        if record.until.as_second() > now || is_back || is_owned || !consents {
            return Err(None);
        }
        let orphan = PodRef {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            container: String::new(),
            container_id: String::new(),
            owner: None,
            grace: Duration::ZERO,
        };
        match self.ask_eviction(&orphan, false).await {
            Answer::MovedOn(_) => Err(None),
            answer => answer.refusal().map_or(Ok(()), |refusal| Err(Some(refusal.why.to_string()))),
        }
    }
}

/// The outcome's text.
fn told(record: &Quarantined) -> String {
    let labels: Vec<&str> = record.labels.keys().map(String::as_str).collect();
    format!("in quarantine until {}, without the labels {}", record.until, labels.join(", "))
}
