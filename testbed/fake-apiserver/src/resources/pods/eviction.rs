//! `POST pods/NAME/eviction`, in the order in which a real server checks and acts.
//!
//! The order matters: the budget is spent before the uid is compared, so that a refused eviction
//! can still cost something.
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{PodRef, Pods, status::is_ready};
use crate::{
    FakeApi,
    access::{AT_MOST, Access, Identity},
    api::{
        json as j,
        kind::Kind,
        status::{About, Status, success},
    },
    cluster::{Cluster, Due, store::Object},
    requests::{Answer, route::Route},
    resources::{
        budgets::{self, Count},
        removal::check_preconditions,
        workloads::owners,
    },
};

/// A budget that the server has not processed yet asks for this much patience.
const UNPROCESSED_RETRY_S: u32 = 10;

/// One eviction that was granted and carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// When, since the fake was made.
    pub at: Duration,
    /// The user of the request.
    pub username: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Kind and name of the workload that it belonged to: of a Deployment's pod the Deployment.
    pub workload: Option<(String, String)>,
    /// Whether it was ready.
    pub was_ready: bool,
    /// Whether it had ended, was going anyway or had never run, so that no budget counted it.
    pub was_leaving: bool,
    /// Whether its budget lets unready pods be evicted whatever the others do.
    pub always_allowed: bool,
    /// Its budget and what that came to just before, counted from the pods and not from the
    /// budget's own status.
    pub budget: Option<(String, Count)>,
}

impl Evicted {
    /// Whether it left fewer healthy pods than its budget demands.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        let Some((_, count)) = &self.budget else { return false };
        if self.was_leaving || (!self.was_ready && self.always_allowed) {
            return false;
        }
        count.healthy - i64::from(self.was_ready) < count.desired
    }
}

/// Evictions.
impl FakeApi {
    /// The evictions that were carried out.
    #[must_use]
    pub fn evictions(&self) -> Vec<Evicted> {
        self.with(|state| state.evictions.0.clone())
    }

    /// The evictions that left fewer healthy pods than a budget demands. There should be none,
    /// by construction; they are found by counting pods, not by believing the budget's status.
    #[must_use]
    pub fn violations(&self) -> Vec<Evicted> {
        self.evictions().into_iter().filter(Evicted::is_violation).collect()
    }
}

/// The evictions that were carried out.
#[derive(Debug, Default)]
pub(crate) struct Evictions(Vec<Evicted>);

/// A request for an eviction, and what it works on.
pub(crate) struct Eviction<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) pods: &'a mut Pods,
    pub(crate) access: &'a Access,
    pub(crate) identity: &'a Identity,
    pub(crate) route: &'a Route,
    pub(crate) body: &'a Value,
}

impl Evictions {
    pub(crate) fn evict(&mut self, eviction: Eviction<'_>) -> Result<Answer, Status> {
        let Eviction { cluster, pods, access, identity, route, body } = eviction;
        // Without a kind the path says what it is.
        let kind = j::text(body, "/kind");
        if !matches!(kind, "" | "Eviction") {
            return Err(Status::bad_request(format!("not an Eviction object: {kind}")));
        }
        if j::name(body) != route.name {
            let message = "name in URL does not match name in Eviction object";
            return Err(Status::bad_request(message));
        }
        let all = cluster.store.in_namespace(Kind::Pod, &route.namespace);
        let of = cluster.store.get(Kind::Namespace, "", &route.namespace);
        let at_most = of.and_then(|of| of["metadata"]["labels"][AT_MOST].as_str());
        access.fence_eviction(identity, route, at_most, all.map(|pod| &**pod))?;
        let about = About::new(Kind::Pod, &route.name);
        let found = cluster.store.get(Kind::Pod, &route.namespace, &route.name);
        let pod = found.cloned().ok_or_else(|| Status::not_found(about))?;
        let options = &body["deleteOptions"];
        let in_body = j::list(options, "/dryRun").iter().any(|value| value == "All");
        let dry_run = route.is_dry_run() || in_body;

        let mut evicted = evicted(cluster, &pod, &route.namespace);
        if !ignores_budgets(&pod) {
            spend_budget(cluster, &pod, dry_run)?;
        }
        check_preconditions(Kind::Pod, &pod, options)?;
        if !dry_run {
            evicted.username.clone_from(&identity.username);
            self.0.push(evicted);
            let pod = PodRef::of(&pod);
            mark_disrupted(cluster, &pod);
            pods.terminate(cluster, &pod, j::int(options, "/gracePeriodSeconds"));
        }
        Ok(Answer::Json(201, success(201)))
    }
}

/// Asks the pod's budget, and spends it unless this is a dry run.
fn spend_budget(cluster: &mut Cluster, pod: &Object, dry_run: bool) -> Result<(), Status> {
    let budgets = budgets::of(&cluster.store, pod);
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [budget] => budget,
        _ => {
            let message = "This pod has more than one PodDisruptionBudget, which the \
                           eviction subresource does not support.";
            return Err(Status::new(500, "", message));
        }
    };
    let of_status = |field: &str| j::int(budget, &format!("/status/{field}")).unwrap_or(0);
    let (healthy, desired) = (of_status("currentHealthy"), of_status("desiredHealthy"));
    if !is_ready(pod) {
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        if always || (healthy >= desired && desired > 0) {
            return Ok(());
        }
    }
    let name = j::name(budget);
    let generation = j::int(budget, "/metadata/generation").unwrap_or(1);
    if of_status("observedGeneration") < generation {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(Status::budget(&cause, Some(UNPROCESSED_RETRY_S)));
    }
    if of_status("disruptionsAllowed") <= 0 {
        let condition = &budget["status"]["conditions"][0];
        let cause = if condition["reason"] == "SyncFailed" {
            format!(
                "The disruption budget {name} does not allow evicting pods currently because \
                 it failed sync: {}",
                j::text(condition, "/message")
            )
        } else {
            format!(
                "The disruption budget {name} needs {desired} healthy pods and has {healthy} \
                 currently"
            )
        };
        return Err(Status::budget(&cause, None));
    }
    if !dry_run {
        let date = cluster.date();
        let (namespace, name) = (j::namespace(pod).to_owned(), name.to_owned());
        cluster.update(Kind::PodDisruptionBudget, &namespace, &name, |budget| {
            let status = &mut budget["status"];
            let left = j::int(status, "/disruptionsAllowed").unwrap_or(1) - 1;
            status["disruptionsAllowed"] = json!(left);
            status["disruptedPods"][j::name(pod)] = date;
        });
        cluster.schedule(budgets::STALE, Due::Budgets(namespace));
    }
    Ok(())
}

/// The pod gets the condition of one that is on its way out.
fn mark_disrupted(cluster: &mut Cluster, pod: &PodRef) {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": cluster.date(), "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    });
    pod.update(cluster, |pod| {
        let conditions = &mut pod["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let Some(conditions) = conditions.as_array_mut() else { return };
        if conditions.iter().all(|c| c["type"] != "DisruptionTarget") {
            conditions.insert(0, condition);
        }
    });
}

/// What will be on record if the pod is evicted now.
fn evicted(cluster: &Cluster, pod: &Value, namespace: &str) -> Evicted {
    let budgets = budgets::of(&cluster.store, pod);
    let budget = budgets.first().and_then(|budget| {
        let disrupted = budget["status"]["disruptedPods"].as_object();
        let others = disrupted.into_iter().flatten().filter(|(name, _)| *name != j::name(pod));
        let others: Map<_, _> = others.map(|(k, v)| (k.clone(), v.clone())).collect();
        let count = budgets::count(&cluster.store, budget, &others).ok()?;
        Some((j::name(budget).to_owned(), count))
    });
    let always =
        budgets.first().is_some_and(|b| b["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow");
    Evicted {
        at: cluster.now,
        username: String::new(),
        namespace: namespace.to_owned(),
        pod: j::name(pod).to_owned(),
        uid: j::uid(pod).to_owned(),
        node: j::text(pod, "/spec/nodeName").to_owned(),
        workload: owners::workload_of(&cluster.store, pod),
        was_ready: is_ready(pod),
        was_leaving: ignores_budgets(pod),
        always_allowed: always,
        budget,
    }
}

/// A pod that has not started, has ended or is already going costs no budget.
fn ignores_budgets(pod: &Value) -> bool {
    let phase = j::text(pod, "/status/phase");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || j::is_terminating(pod)
}
