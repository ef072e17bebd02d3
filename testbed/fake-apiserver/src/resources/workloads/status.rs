//! The status of workloads, derived from their pods. A rolling update only shows; none takes place.
use serde_json::{Map, Value, json};

use super::{Rollout, Workloads, owners};
use crate::{
    api::{json as j, kind::Kind},
    cluster::{Cluster, store::Object},
    resources::pods::status::{is_active, is_ready},
};

impl Workloads {
    /// The status of an object that owns pods.
    pub(super) fn status_of(&self, kind: Kind, owner: &Value, pods: &[Object]) -> Value {
        let count = |test: &dyn Fn(&Object) -> bool| pods.iter().filter(|p| test(p)).count();
        let active = count(&|pod| is_active(pod));
        let ready = count(&|pod| is_active(pod) && is_ready(pod));
        let observed = self.observed_generation(owner);
        let template = j::text(owner, "/metadata/name").to_owned() + "-1";
        let updated = self.updated(owner, active);
        let fields: Vec<(&str, Value)> = match kind {
            Kind::StatefulSet => vec![
                ("replicas", json!(pods.len())),
                ("readyReplicas", json!(count(&|pod| is_ready(pod)))),
                ("availableReplicas", json!(count(&|pod| is_ready(pod)))),
                ("currentReplicas", json!(active)),
                ("updatedReplicas", updated),
                ("currentRevision", json!(template)),
                ("updateRevision", json!(template)),
                ("collisionCount", json!(0)),
                ("observedGeneration", observed),
            ],
            Kind::DaemonSet => {
                let nodes = self.nodes.get(j::uid(owner)).map_or(0, Vec::len);
                vec![
                    ("currentNumberScheduled", json!(pods.len())),
                    ("desiredNumberScheduled", json!(nodes)),
                    ("numberMisscheduled", json!(0)),
                    ("numberReady", json!(ready)),
                    ("numberAvailable", json!(ready)),
                    ("numberUnavailable", json!(nodes.saturating_sub(ready))),
                    ("updatedNumberScheduled", updated),
                    ("observedGeneration", observed),
                ]
            }
            Kind::Job => {
                let phase =
                    |phase: &'static str| count(&move |pod| j::text(pod, "/status/phase") == phase);
                vec![
                    ("active", json!(active)),
                    ("ready", json!(ready)),
                    ("terminating", json!(count(&|pod| j::is_terminating(pod)))),
                    ("succeeded", json!(phase("Succeeded"))),
                    ("failed", json!(phase("Failed"))),
                    ("startTime", owner["metadata"]["creationTimestamp"].clone()),
                    ("uncountedTerminatedPods", json!({})),
                ]
            }
            _ => vec![
                ("replicas", json!(active)),
                ("fullyLabeledReplicas", json!(active)),
                ("readyReplicas", json!(ready)),
                ("availableReplicas", json!(ready)),
                ("observedGeneration", observed),
            ],
        };
        let required = [
            "replicas",
            "collisionCount",
            "ready",
            "terminating",
            "currentNumberScheduled",
            "desiredNumberScheduled",
            "numberMisscheduled",
            "numberReady",
        ];
        let shown = fields.into_iter().filter(|(key, value)| *value != 0 || required.contains(key));
        Value::Object(shown.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Derives the status of a Deployment from its ReplicaSets.
    pub(super) fn sync_deployment(&self, cluster: &mut Cluster, deployment: &Value) {
        let sets = owners::sets_of(&cluster.store, deployment);
        let sum = |field: &str| -> i64 {
            sets.iter().filter_map(|set| j::int(set, &format!("/status/{field}"))).sum()
        };
        let (replicas, ready) = (sum("replicas"), sum("readyReplicas"));
        let wanted = j::int(deployment, "/spec/replicas").unwrap_or(1);
        let mut status = Map::new();
        for (key, value) in [
            ("replicas", json!(replicas)),
            ("readyReplicas", json!(ready)),
            ("availableReplicas", json!(ready)),
            ("unavailableReplicas", json!((wanted - ready).max(0))),
            ("updatedReplicas", self.updated(deployment, usize::try_from(replicas).unwrap_or(0))),
            ("observedGeneration", self.observed_generation(deployment)),
        ] {
            if value != 0 {
                status.insert(key.to_owned(), value);
            }
        }
        let rolling = matches!(
            self.rollouts.get(j::uid(deployment)),
            Some(Rollout::Updated(_) | Rollout::Unobserved)
        );
        let reason = if rolling { "ReplicaSetUpdated" } else { "NewReplicaSetAvailable" };
        status.insert("conditions".to_owned(), deployment["status"]["conditions"].clone());
        let mut status = Value::Object(status);
        // A quarter may be missing, as the default strategy has it.
        let (available, why) = if ready * 4 >= wanted * 3 {
            ("True", "MinimumReplicasAvailable")
        } else {
            ("False", "MinimumReplicasUnavailable")
        };
        let available = json!({"type": "Available", "status": available, "reason": why});
        cluster.set_condition(&mut status, available);
        let progressing = json!({"type": "Progressing", "status": "True", "reason": reason});
        cluster.set_condition(&mut status, progressing);
        cluster.write_status(Kind::Deployment, deployment, status);
    }

    fn observed_generation(&self, owner: &Value) -> Value {
        let generation = j::int(owner, "/metadata/generation").unwrap_or(1);
        let lag = self.rollouts.get(j::uid(owner)) == Some(&Rollout::Unobserved);
        json!(generation - i64::from(lag))
    }

    fn updated(&self, owner: &Value, all: usize) -> Value {
        match self.rollouts.get(j::uid(owner)) {
            Some(Rollout::Updated(updated)) => json!(updated),
            _ => json!(all),
        }
    }
}
