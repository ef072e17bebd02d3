//! `POST pods/NAME/eviction`, in the order in which a real server checks and acts.
//!
//! The order is the point: the budget is spent before the uid is compared, so that a refused
//! eviction can still cost something.
use serde_json::{Map, Value, json};

use crate::{
    access::Identity,
    answer::Answer,
    budget, json as j,
    kind::Kind,
    log::Evicted,
    pod::is_ready,
    route::Route,
    state::{Due, PodRef, State},
    status::{About, Status, success},
    store::Object,
};

/// A budget that a server finds still unprocessed asks for this much patience.
const UNPROCESSED_RETRY_S: u32 = 10;

impl State {
    pub(crate) fn evict(
        &mut self,
        who: &Identity,
        route: &Route,
        body: &Value,
    ) -> Result<Answer, Status> {
        // Without a kind the path says what it is.
        let kind = j::text(body, "/kind");
        if !matches!(kind, "" | "Eviction") {
            return Err(Status::bad_request(format!("not an Eviction object: {kind}")));
        }
        if j::name(body) != route.name {
            let message = "name in URL does not match name in Eviction object";
            return Err(Status::bad_request(message));
        }
        let pods = self.store.in_namespace(Kind::Pod, &route.namespace);
        self.access.fence_eviction(who, route, pods.map(|pod| &**pod))?;
        let about = About::new(Kind::Pod, &route.name);
        let found = self.store.get(Kind::Pod, &route.namespace, &route.name);
        let pod = found.cloned().ok_or_else(|| Status::not_found(about))?;
        let options = &body["deleteOptions"];
        let in_body = j::list(options, "/dryRun").iter().any(|value| value == "All");
        let dry_run = route.is_dry_run() || in_body;

        let mut evicted = self.evicted(&pod, &route.namespace);
        if !ignores_budgets(&pod) {
            self.spend_budget(&pod, dry_run)?;
        }
        check_preconditions(Kind::Pod, &pod, options)?;
        if !dry_run {
            evicted.username.clone_from(&who.username);
            self.evictions.push(evicted);
            self.disrupt(&PodRef::of(&pod), j::int(options, "/gracePeriodSeconds"));
        }
        Ok(Answer::Json(201, success(201)))
    }

    /// Asks the pod's budget, and spends it unless this is a dry run.
    fn spend_budget(&mut self, pod: &Object, dry_run: bool) -> Result<(), Status> {
        let budgets = self.budgets_of(pod);
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
            let cause =
                format!("The disruption budget {name} is still being processed by the server.");
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
            let date = self.date();
            let (namespace, name) = (j::namespace(pod).to_owned(), name.to_owned());
            self.update(Kind::PodDisruptionBudget, &namespace, &name, |budget| {
                let status = &mut budget["status"];
                let left = j::int(status, "/disruptionsAllowed").unwrap_or(1) - 1;
                status["disruptionsAllowed"] = json!(left);
                status["disruptedPods"][j::name(pod)] = date;
            });
            self.schedule(budget::STALE, Due::Budgets(namespace));
        }
        Ok(())
    }

    /// The pod gets its condition and is on its way out.
    fn disrupt(&mut self, pod: &PodRef, grace: Option<i64>) {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": self.date(), "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        });
        self.update_pod(pod, |pod| {
            let conditions = &mut pod["status"]["conditions"];
            if !conditions.is_array() {
                *conditions = json!([]);
            }
            let Some(conditions) = conditions.as_array_mut() else { return };
            if conditions.iter().all(|c| c["type"] != "DisruptionTarget") {
                conditions.insert(0, condition);
            }
        });
        self.terminate(pod, grace);
    }

    /// What will be on record if the pod is evicted now.
    fn evicted(&self, pod: &Value, namespace: &str) -> Evicted {
        let budgets = self.budgets_of(pod);
        let budget = budgets.first().and_then(|budget| {
            let disrupted = budget["status"]["disruptedPods"].as_object();
            let others = disrupted.into_iter().flatten().filter(|(name, _)| *name != j::name(pod));
            let others: Map<_, _> = others.map(|(k, v)| (k.clone(), v.clone())).collect();
            let count = self.count(budget, &others).ok()?;
            Some((j::name(budget).to_owned(), count))
        });
        let always = budgets
            .first()
            .is_some_and(|b| b["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow");
        Evicted {
            at: self.now,
            username: String::new(),
            namespace: namespace.to_owned(),
            pod: j::name(pod).to_owned(),
            uid: j::uid(pod).to_owned(),
            node: j::text(pod, "/spec/nodeName").to_owned(),
            workload: self.workload_of(pod),
            was_ready: is_ready(pod),
            was_leaving: ignores_budgets(pod),
            always_allowed: always,
            budget,
        }
    }
}

/// A pod that has not started, has ended or is already going costs no budget.
fn ignores_budgets(pod: &Value) -> bool {
    let phase = j::text(pod, "/status/phase");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || j::is_terminating(pod)
}

/// Whether the pod is the one that is meant.
pub(crate) fn check_preconditions(
    kind: Kind,
    object: &Value,
    options: &Value,
) -> Result<(), Status> {
    let about = About { group: kind.group(), resource: kind.name(), name: j::name(object) };
    let uid = j::text(options, "/preconditions/uid");
    if !uid.is_empty() && uid != j::uid(object) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The \
             object might have been deleted and then recreated",
            j::uid(object)
        );
        return Err(Status::conflict(about, &why));
    }
    let version = j::text(options, "/preconditions/resourceVersion");
    if !version.is_empty() && version != j::text(object, "/metadata/resourceVersion") {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the \
             ResourceVersion in record ({}). The object might have been modified",
            j::text(object, "/metadata/resourceVersion")
        );
        return Err(Status::conflict(about, &why));
    }
    Ok(())
}
