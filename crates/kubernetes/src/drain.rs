//! Takes a pod out of its Services before a restart, by a label that the Services select.
//!
//! A readiness gate would do that too, but then a pod is out of service until somebody sets its
//! condition, and without an agent nobody does. A label fails open.
use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ListParams, Patch},
};
use paramedic_api_server::{ApiError, patch_by, within};
use paramedic_core::{
    guard::Gate,
    target::{MAX_DRAIN, PodRef, Remedy},
};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    Cluster, Lock,
    labels::{self, Labels, PodSelector, SERVING},
    lock::{TRIES, is_conflict},
    outside::{Drained, LONGEST, Name},
};

/// Time from the end of a drain to the deadline, for the restart, beside the grace period.
const MARGIN: Duration = Duration::from_secs(60);
/// Interval at which the pause switch is read during a drain.
const PAUSE_CHECK: Duration = Duration::from_secs(2);

/// Whether a restart begins with a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Its owner has not asked for it.
    No,
    /// There is nothing to drain, and why.
    Nothing(&'static str),
    /// So long.
    For(Duration),
}

impl Cluster {
    /// Whether to drain a pod whose owner wants it drained for `span`, by what selects it.
    pub(super) async fn plan_drain(
        &self,
        pod: &PodRef,
        pod_labels: &Labels,
        span: Duration,
    ) -> Result<Drain, ApiError> {
        match pod_labels.get(SERVING).map(String::as_str) {
            Some("true") => {}
            Some("false") => return Ok(Drain::Nothing("it is out of its Services already")),
            _ => {
                return Ok(Drain::Nothing(
                    "it does not carry the label paramedic.dev/serving: true",
                ));
            }
        }
        let services = self.services(&pod.namespace).await?;
        let served = services.iter().any(|s| s.names(SERVING) && s.matches(pod_labels));
        Ok(if served {
            Drain::For(span.min(MAX_DRAIN))
        } else {
            Drain::Nothing("no Service selects it by paramedic.dev/serving")
        })
    }

    /// The selectors of a namespace's Services.
    pub(super) async fn services(&self, namespace: &str) -> Result<Vec<PodSelector>, ApiError> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let services = within(api.list(&ListParams::default())).await?;
        let selector = |service: Service| PodSelector::of_service(&service.spec?.selector?);
        Ok(services.items.into_iter().filter_map(selector).collect())
    }

    /// Takes the pod out of its Services, under the lock of its workload. The deadline is on the pod
    /// before this returns, and the pod goes back when the result is dropped.
    ///
    /// # Errors
    /// Why the pod was not drained; if that is unknown, it is put back.
    pub async fn drain(
        self: &Arc<Self>,
        pod: &PodRef,
        lock: &Lock,
        span: Duration,
    ) -> Result<Drained, String> {
        let span = (span + pod.grace.max(MARGIN / 2) + MARGIN).min(LONGEST);
        let seconds = i64::try_from(span.as_secs()).unwrap_or(0);
        let now = self.server_now().map_err(|error| error.to_string())?;
        let until = Timestamp::from_second(now.saturating_add(seconds));
        let until = until.map_err(|_| "the API server's clock is absurd".to_owned())?;
        let drained = Drained::begins(self, pod, until.as_second());
        for _ in 0..TRIES {
            let found = self.judged_pod(pod, Remedy::Restart).await?;
            if labels::label(&found, SERVING) != Some("true") {
                return Err("its label paramedic.dev/serving has changed meanwhile".to_owned());
            }
            lock.holds(self.clock.now())?;
            match self.change((&pod.namespace, &pod.name), &labels::drain(&found, until)).await {
                Ok(()) => return Ok(drained),
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("the pod changes all the time".to_owned())
    }

    /// The pod, if it still is the judged instance and its label still permits the remedy.
    pub(super) async fn judged_pod(&self, pod: &PodRef, remedy: Remedy) -> Result<Pod, String> {
        let found = within(self.pods(&pod.namespace).get_opt(&pod.name)).await;
        let found = found.map_err(|error| error.to_string())?.ok_or("it was deleted")?;
        let now = self.watched_pod(&found).map_err(|absent| absent.to_string())?;
        if now.pod.uid != pod.uid || now.pod.container_id != pod.container_id {
            return Err("it is no longer the container that was judged".to_owned());
        }
        if now.settings.ceiling < remedy {
            return Err(format!("its label or its namespace no longer permits {}", remedy.name()));
        }
        Ok(found)
    }

    /// Changes a pod, or nothing if it has changed since it was read.
    pub(super) async fn change(
        &self,
        (namespace, name): (&str, &str),
        change: &Value,
    ) -> Result<(), ApiError> {
        let by_agent = patch_by("paramedic-agent");
        let pods = self.pods(namespace);
        let patch = Patch::Merge(change);
        within(pods.patch_metadata(name, &by_agent, &patch)).await.map(|_| ())
    }

    /// Waits for the end of a drain.
    ///
    /// # Errors
    /// If healing is paused in the cluster meanwhile.
    pub async fn wait_drained(&self, span: Duration) -> Result<(), String> {
        let end = self.clock.now() + span;
        loop {
            let left = end.since(self.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(PAUSE_CHECK)).await;
            // Without an answer the drain goes on: the check after it refuses.
            match self.not_paused(Remedy::Restart).await {
                Err(refusal) if refusal.gate == Gate::Paused => {
                    return Err(refusal.why.to_string());
                }
                _ => {}
            }
        }
    }

    /// Puts a drained pod back into its Services. Returns whether it was out.
    pub(super) async fn put_back(&self, pod: &Name) -> Result<bool, ApiError> {
        let pods = self.pods(&pod.namespace);
        let mut last = None;
        for _ in 0..TRIES {
            let found = within(pods.get_opt(&pod.name)).await?;
            let found = found.filter(|found| found.metadata.uid.as_ref() == Some(&pod.uid));
            let Some(change) = found.as_ref().and_then(labels::put_back) else { return Ok(false) };
            match self.change((&pod.namespace, &pod.name), &change).await {
                Ok(()) => return Ok(true),
                Err(error) if is_conflict(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(ApiError::TimedOut))
    }
}
