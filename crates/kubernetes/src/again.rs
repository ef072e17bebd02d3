//! The second look at the cluster, after a drain and before the restart: seconds or minutes have
//! passed since the first.
use std::sync::Arc;

use paramedic_api_server::ApiError;
use paramedic_core::{
    guard::{Gate, Refusal, Why, workload},
    target::{PodRef, Remedy},
};

use crate::{
    Cluster, Lock,
    lock::{ACT_WITHIN, record_of},
    pause::no_answer,
};

impl Cluster {
    /// Whether the cluster still permits the remedy under this lock, which then holds for another
    /// three seconds.
    ///
    /// # Errors
    /// The refusal.
    pub async fn still_clear(
        self: &Arc<Self>,
        pod: &PodRef,
        remedy: Remedy,
        lock: &Lock,
    ) -> Result<(), Refusal> {
        let asked = self.clock.now();
        self.not_paused(remedy).await?;
        let (judged, _) = self.still_judged(pod, remedy).await?;
        let of = self.workload(pod).await.map_err(|error| no_answer(&error))?;
        if let Some(refusal) = workload::rollout(of.rolling) {
            return Err(refusal);
        }
        let lease = self.read_lease(lock.name()).await.map_err(|error| no_answer(&error))?;
        let lease = lease.filter(|lease| self.is_ours(lease)).ok_or_else(|| {
            let why = Why::LockedBy("another agent".into());
            Refusal { gate: Gate::WorkloadLock, why }
        })?;
        let record = record_of(lock.name(), Some(&lease))?;
        let now = self.server_now().map_err(|error| no_answer(&error))?;
        let sick = record.sick(now);
        let refusal = workload::overload(sick, of.replicas);
        if let Some(refusal) =
            refusal.or_else(|| self.starting(lock.name(), &of, sick, judged.ready))
        {
            return Err(refusal);
        }
        if let Some(refusal) = self.ask_eviction(pod, true).await.refusal() {
            return Err(refusal);
        }
        if self.clock.now().since(asked) > ACT_WITHIN {
            return Err(no_answer(&ApiError::TooSlow));
        }
        lock.asked_again(asked);
        Ok(())
    }
}
