//! PodDisruptionBudgets: the arithmetic, and the controller that keeps their status up to date.
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{pods::status::is_ready, workloads::owners};
use crate::{
    FakeApi,
    api::{json as j, kind::Kind, selector::Labels},
    cluster::{
        Cluster, clock,
        store::{Object, Store},
    },
};

/// How long a budget remembers a disruption that did not happen.
pub(crate) const STALE: Duration = Duration::from_secs(120);

/// What a budget comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Pods that are ready, and not about to go.
    pub healthy: i64,
    /// How many must be.
    pub desired: i64,
    /// How many there should be in all.
    pub expected: i64,
    /// How many may be disrupted now.
    pub allowed: i64,
}

/// A share of `whole`: a number, or a percentage, rounded up.
fn scaled(value: &Value, whole: i64) -> i64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    match percent {
        Some(percent) => (percent * whole + 99) / 100,
        None => value.as_i64().unwrap_or(0),
    }
}

impl Count {
    /// From the spec, how many are healthy, how many pods there are, and how many their
    /// controllers want.
    fn new(spec: &Value, healthy: i64, pods: i64, wanted: i64) -> Self {
        let (least, most) = (&spec["minAvailable"], &spec["maxUnavailable"]);
        let (expected, desired) = if !most.is_null() {
            (wanted, (wanted - scaled(most, wanted)).max(0))
        } else if least.is_string() {
            (wanted, scaled(least, wanted))
        } else {
            (pods, scaled(least, pods))
        };
        let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
        Self { healthy, desired, expected, allowed }
    }
}

/// The controller of budgets.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    /// Whether it is stopped.
    paused: bool,
}

/// Budgets.
impl FakeApi {
    /// Adds a PodDisruptionBudget for the pods with the label `app`. `spec` is merged into its
    /// spec, such as `{"minAvailable": 1}`, and may bring another selector.
    pub fn add_pdb(&self, namespace: &str, name: &str, app: &str, spec: &Value) {
        let mut object = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": app}}},
        });
        j::merge(&mut object["spec"], spec);
        self.put(Kind::PodDisruptionBudget, object);
    }

    /// Stops the controller that keeps budgets up to date, or lets it catch up.
    pub fn pause_budgets(&self, paused: bool) {
        self.with(|state| {
            state.budgets.paused = paused;
            state.cluster.mark_all_dirty();
        });
    }
}

impl Budgets {
    /// Lets the disruption controller look at the budgets of a namespace.
    pub(crate) fn sync(&self, cluster: &mut Cluster, namespace: &str) {
        if self.paused {
            return;
        }
        let budgets: Vec<Object> =
            cluster.store.in_namespace(Kind::PodDisruptionBudget, namespace).cloned().collect();
        for budget in budgets {
            let disrupted = still_disrupted(cluster, &budget);
            let counted = count(&cluster.store, &budget, &disrupted);
            let count = counted.clone().unwrap_or_default();
            let (reason, message) = match &counted {
                Ok(count) if count.allowed > 0 => ("SufficientPods", ""),
                Ok(_) => ("InsufficientPods", ""),
                Err(error) => ("SyncFailed", error.as_str()),
            };
            let generation = &budget["metadata"]["generation"];
            let mut status = json!({
                "observedGeneration": generation, "disruptionsAllowed": count.allowed,
                "currentHealthy": count.healthy, "desiredHealthy": count.desired,
                "expectedPods": count.expected, "conditions": budget["status"]["conditions"],
            });
            if !disrupted.is_empty() {
                status["disruptedPods"] = Value::Object(disrupted);
            }
            let condition = json!({
                "type": "DisruptionAllowed", "observedGeneration": generation,
                "status": if count.allowed > 0 { "True" } else { "False" },
                "reason": reason, "message": message,
            });
            cluster.set_condition(&mut status, condition);
            cluster.write_status(Kind::PodDisruptionBudget, &budget, status);
        }
    }
}

/// The budgets that select a pod. A pod without labels has none.
pub(crate) fn of(store: &Store, pod: &Value) -> Vec<Object> {
    if pod["metadata"]["labels"].as_object().is_none_or(Map::is_empty) {
        return Vec::new();
    }
    let budgets = store.in_namespace(Kind::PodDisruptionBudget, j::namespace(pod));
    let selects = |budget: &&Object| {
        Labels::of_object(&budget["spec"]["selector"]).is_some_and(|s| s.matches(pod))
    };
    budgets.filter(selects).cloned().collect()
}

fn pods_under(store: &Store, budget: &Value) -> Vec<Object> {
    let Some(selector) = Labels::of_object(&budget["spec"]["selector"]) else {
        return Vec::new();
    };
    let pods = store.in_namespace(Kind::Pod, j::namespace(budget));
    pods.filter(|pod| selector.matches(pod)).cloned().collect()
}

/// What a budget comes to, from its spec and the pods alone. `disrupted` pods do not count,
/// since they are about to go.
///
/// # Errors
/// If a pod's controller does not say how many pods it wants, and the budget must know.
pub(crate) fn count(
    store: &Store,
    budget: &Value,
    disrupted: &Map<String, Value>,
) -> Result<Count, String> {
    let pods = pods_under(store, budget);
    let healthy = pods.iter().filter(|pod| {
        is_ready(pod) && !j::is_terminating(pod) && !disrupted.contains_key(j::name(pod))
    });
    let healthy = healthy.fold(0, |n, _| n + 1);
    let spec = &budget["spec"];
    let relative = !spec["maxUnavailable"].is_null() || spec["minAvailable"].is_string();
    let wanted = if relative { wanted(store, &pods)? } else { 0 };
    Ok(Count::new(spec, healthy, pods.iter().fold(0, |n, _| n + 1), wanted))
}

/// How many pods the controllers of `pods` want together. Pods without one do not count.
fn wanted(store: &Store, pods: &[Object]) -> Result<i64, String> {
    let mut owners: Vec<(String, i64)> = Vec::new();
    for pod in pods.iter().filter(|pod| j::controller(pod).is_some()) {
        let Some((kind, name)) = owners::workload_of(store, pod) else { continue };
        let namespace = j::namespace(pod);
        let kind = match kind.as_str() {
            "Deployment" => Kind::Deployment,
            "ReplicaSet" => Kind::ReplicaSet,
            "StatefulSet" => Kind::StatefulSet,
            "DaemonSet" => return Err(no_scale("daemonsets.apps")),
            "Job" => return Err(no_scale("jobs.batch")),
            other => return Err(no_scale(other)),
        };
        let Some(owner) = store.get(kind, namespace, &name) else {
            return Err(format!("found no controllers for pod \"{}\"", j::name(pod)));
        };
        let uid = j::uid(owner).to_owned();
        if owners.iter().all(|(known, _)| *known != uid) {
            owners.push((uid, j::int(owner, "/spec/replicas").unwrap_or(1)));
        }
    }
    Ok(owners.into_iter().map(|(_, replicas)| replicas).sum())
}

/// The pods whose eviction was granted and that are not yet on their way out.
fn still_disrupted(cluster: &Cluster, budget: &Value) -> Map<String, Value> {
    let all = budget["status"]["disruptedPods"].as_object().cloned().unwrap_or_default();
    let still = |name: &str, since: &Value| {
        let since = clock::parse(since.as_str().unwrap_or(""));
        let pod = cluster.store.get(Kind::Pod, j::namespace(budget), name);
        cluster.now < since + STALE && pod.is_some_and(|pod| !j::is_terminating(pod))
    };
    all.into_iter().filter(|(name, since)| still(name, since)).collect()
}

fn no_scale(kind: &str) -> String {
    format!("{kind} does not implement the scale subresource")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_counted_as_the_controller_counts() {
        for (spec, healthy, pods, wanted, desired, expected, allowed) in [
            (json!({"minAvailable": 2}), 3, 3, 9, 2, 3, 1),
            (json!({"minAvailable": 2}), 2, 2, 0, 2, 2, 0),
            (json!({"minAvailable": 0}), 2, 2, 0, 0, 2, 2),
            (json!({"minAvailable": 5}), 2, 2, 0, 5, 2, 0),
            (json!({"minAvailable": 0}), 0, 0, 0, 0, 0, 0),
            (json!({"minAvailable": "50%"}), 3, 3, 3, 2, 3, 1),
            (json!({"minAvailable": "100%"}), 3, 3, 3, 3, 3, 0),
            (json!({"minAvailable": "0%"}), 3, 3, 3, 0, 3, 3),
            (json!({"maxUnavailable": 1}), 3, 3, 3, 2, 3, 1),
            (json!({"maxUnavailable": 1}), 2, 3, 3, 2, 3, 0),
            (json!({"maxUnavailable": 1}), 2, 2, 3, 2, 3, 0),
            (json!({"maxUnavailable": 0}), 3, 3, 3, 3, 3, 0),
            (json!({"maxUnavailable": 9}), 3, 3, 3, 0, 3, 3),
            // Rounded up: of 3, 30 % is 1.
            (json!({"maxUnavailable": "30%"}), 3, 3, 3, 2, 3, 1),
            (json!({"maxUnavailable": "1%"}), 3, 3, 3, 2, 3, 1),
        ] {
            let count = Count::new(&spec, healthy, pods, wanted);
            assert_eq!(count, Count { healthy, desired, expected, allowed }, "{spec} {healthy}");
        }
    }
}
