//! The values of one pod for the HPA, from its case.
use std::time::Duration;

use paramedic_pod_metrics::{HELD, PodMetrics};

use super::{Case, State};
use crate::{boot_time::BootTime, decide::Action};

/// The present reading of a case; `None` if it is not a pod, or nothing recent is known.
#[must_use]
pub fn pod_metrics_of(case: &Case, now: BootTime) -> Option<PodMetrics> {
    // A pod that is being healed keeps its metric: without one it would look idle.
    let (pod, load) = (case.target.pod()?, case.recent_load(now)?);
    let decision = case.decision?;
    let verdict_age = now.since(case.decided_at);
    let well = decision.probabilities[Action::NoAction as usize];
    let unhealthy = (verdict_age <= case.counts_for()).then(|| (1.0 - well).clamp(0.0, 1.0));
    Some(PodMetrics {
        uid: pod.uid.clone(),
        age_ms: millis(now.since(load.at)),
        window_ms: millis(load.window),
        verdict_age_ms: millis(verdict_age.min(HELD)),
        healing: !matches!(case.state, State::Watching),
        values: [
            load.responses_per_second,
            load.ratio_5xx,
            load.throttled_ratio,
            unhealthy,
            load.p95_seconds,
            load.in_flight,
        ],
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
