//! Resizes one container of a pod in place, through `pods/resize`.
//!
//! The agent reads the pod and its template, plans one step, writes it down, and patches exactly the
//! version that it read: whoever changed the pod meanwhile is not overwritten. `Deferred` and
//! `Infeasible` are answers: the request is withdrawn, because a pending one reserves room on the
//! node and would be granted at a time when nobody asks for it any more.
use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{Container, Pod, PodSpec},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::{Patch, PatchParams};
use paramedic_api_server::{ApiError, within};
use paramedic_core::{
    boot_time::BootTime,
    guard::{Gate, Refusal},
    resize::{Ceilings, NoResize, Reason, Resource, Step, Wish, step},
    target::{PodRef, Remedy},
};
use serde_json::{Map, Value, json};
use tokio::{join, time::sleep};

use super::{Cluster, workload::owner_kind};

/// Set by the VerticalPodAutoscaler's admission controller on pods whose resources it has set.
const VPA: [&str; 2] = ["vpaUpdates", "vpaObservedContainers"];
/// Kubernetes' own word for "the container is restarted to change this".
const RESTART_CONTAINER: &str = "RestartContainer";
/// A plan rests on answers that are no older.
const PLAN_HOLDS: Duration = Duration::from_secs(3);
/// How long the kubelet may take before the request is withdrawn, and how often it is asked.
const APPLIED_WITHIN: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// One step for one container, as planned from what the API server said.
#[derive(Clone, Debug)]
pub struct ResizePlan {
    /// The step.
    pub step: Step,
    /// The version of the pod that was read.
    version: String,
    /// Whether the request moves with the limit: the pod is Guaranteed and has to stay so.
    with_request: bool,
    /// When the first of the questions was sent.
    asked: BootTime,
}

/// What became of a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resized {
    /// The kubelet has applied it.
    Given,
    /// Nothing was done, or it was withdrawn.
    Refused(NoResize),
    /// It may have been done.
    Unknown(String),
}

impl Cluster {
    /// Plans the step that a wish leads to.
    ///
    /// # Errors
    /// Why no step may be taken.
    pub async fn plan_resize(&self, pod: &PodRef, wish: &Wish) -> Result<ResizePlan, NoResize> {
        let asked = self.clock.now();
        let api = self.pods(&pod.namespace);
        // Asked together, so that no answer is old when the others come.
        let (paused, found, template) = join!(
            self.not_paused(Remedy::Restart),
            within(api.get_opt(&pod.name)),
            self.template(pod)
        );
        paused.map_err(|refusal| of_pause(&refusal))?;
        let found = found.map_err(|error| no_answer(&error))?;
        let found = found.ok_or_else(|| NoResize::new(Reason::Identity, "it was deleted"))?;
        let (container, ceilings) = self.may_resize(pod, &found, wish).await?;
        let limit =
            amount_of(container, wish.resource).ok_or_else(|| NoResize::from(Reason::NoLimit))?;
        let template = template.map_err(|error| no_answer(&error))?;
        let base = own_limit(template.as_ref(), &pod.container, wish.resource)?;
        let guaranteed = found.status.as_ref().and_then(|status| status.qos_class.as_deref());
        Ok(ResizePlan {
            step: step(wish, &ceilings, limit, base)?,
            version: found.metadata.resource_version.clone().unwrap_or_default(),
            with_request: guaranteed == Some("Guaranteed"),
            asked,
        })
    }

    /// The container to resize and how far its owner permits it, if the pod is still the one that was
    /// judged, and nothing else sets its limits.
    async fn may_resize<'a>(
        &self,
        pod: &PodRef,
        found: &'a Pod,
        wish: &Wish,
    ) -> Result<(&'a Container, Ceilings), NoResize> {
        let moved_on = |how: &str| NoResize::new(Reason::Identity, how);
        let now = self.watched_pod(found).map_err(|absent| moved_on(&absent.to_string()))?;
        if now.pod.uid != pod.uid {
            return Err(moved_on("another pod has its name"));
        }
        if now.pod.container_id != pod.container_id {
            return Err(moved_on("its container was restarted"));
        }
        let ceilings = now.settings.resize.filter(|_| now.settings.ceiling >= Remedy::Soft);
        let ceilings = ceilings.ok_or_else(|| NoResize::from(Reason::Mode))?;
        let annotations = found.metadata.annotations.as_ref();
        if annotations.is_some_and(|all| VPA.iter().any(|key| all.contains_key(*key))) {
            return Err(Reason::Vpa.into());
        }
        let mut containers = found.spec.iter().flat_map(|spec| &spec.containers);
        let container = containers.find(|container| container.name == pod.container);
        let container = container.ok_or_else(|| moved_on("it has no such container"))?;
        let restarts = container.resize_policy.iter().flatten().any(|policy| {
            policy.resource_name == wish.resource.name()
                && policy.restart_policy == RESTART_CONTAINER
        });
        if restarts {
            return Err(Reason::RestartsContainer.into());
        }
        match pending(found) {
            None => Ok((container, ceilings)),
            Some(no) => Err(self.clean_up(pod, found, container, wish, no).await),
        }
    }

    /// An earlier request is pending. If it is the agent's own, which died meanwhile, withdraws it.
    async fn clean_up(
        &self,
        pod: &PodRef,
        found: &Pod,
        container: &Container,
        wish: &Wish,
        no: NoResize,
    ) -> NoResize {
        let limit = amount_of(container, wish.resource);
        let Some(last) = wish.last.filter(|last| limit == Some(last.to)) else { return no };
        let qos = found.status.as_ref().and_then(|status| status.qos_class.as_deref());
        self.withdraw(pod, &last, qos == Some("Guaranteed"), no).await
    }

    /// Changes the limit, and waits for the kubelet's answer.
    pub async fn resize(&self, pod: &PodRef, plan: &ResizePlan) -> Resized {
        if self.clock.now().since(plan.asked) > PLAN_HOLDS {
            return Resized::Refused(no_answer(&ApiError::TooSlow));
        }
        let ResizePlan { step, version, with_request, .. } = plan;
        let patch = patch(pod, step.resource, step.to, *with_request, Some(version));
        match self.send(pod, &patch).await {
            Ok(()) => self.follow(pod, step, *with_request).await,
            Err(error) => answer(&error),
        }
    }

    async fn send(&self, pod: &PodRef, patch: &Value) -> Result<(), ApiError> {
        let api = self.pods(&pod.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        within(api.patch_subresource("resize", &pod.name, &params, &patch)).await.map(drop)
    }

    /// Waits until the kubelet has applied a step, or says that it does not.
    async fn follow(&self, pod: &PodRef, step: &Step, with_request: bool) -> Resized {
        let begun = self.clock.now();
        loop {
            sleep(ASK_EVERY).await;
            let found = within(self.pods(&pod.namespace).get_opt(&pod.name)).await;
            let late = self.clock.now().since(begun) >= APPLIED_WITHIN;
            let no = match found {
                Ok(Some(found)) if found.metadata.uid.as_ref() == Some(&pod.uid) => {
                    if is_applied(&found, &pod.container, step) {
                        return Resized::Given;
                    }
                    pending(&found).filter(|no| no.reason != Reason::Conflict)
                }
                Ok(_) => return Resized::Unknown("the pod was deleted".to_owned()),
                // The cgroup will show it.
                Err(error) if late => return Resized::Unknown(error.to_string()),
                Err(_) => continue,
            };
            let too_late = || {
                let text =
                    format!("the kubelet has not applied it within {} s", APPLIED_WITHIN.as_secs());
                NoResize::new(Reason::Deferred, text)
            };
            if let Some(no) = no.or_else(|| late.then(too_late)) {
                return Resized::Refused(self.withdraw(pod, step, with_request, no).await);
            }
        }
    }

    /// Asks for the limit as it was before the step.
    async fn withdraw(
        &self,
        pod: &PodRef,
        step: &Step,
        with_request: bool,
        no: NoResize,
    ) -> NoResize {
        let patch = patch(pod, step.resource, step.from, with_request, None);
        match self.send(pod, &patch).await {
            Ok(()) => no,
            Err(error) => {
                let detail = format!("{}; and it could not be withdrawn: {error}", no.detail);
                NoResize::new(no.reason, detail)
            }
        }
    }

    /// The specification in the template of the pod's owner; `None` if it has no owner whose kind is
    /// known.
    async fn template(&self, pod: &PodRef) -> Result<Option<PodSpec>, ApiError> {
        let Some((kind, owner)) = pod.owner.as_ref().and_then(|o| Some((owner_kind(o)?, o))) else {
            return Ok(None);
        };
        let (namespace, name) = (pod.namespace.as_str(), owner.name.as_str());
        let (metadata, template) = match kind {
            "ReplicaSet" => {
                let set = self.read::<ReplicaSet>(namespace, name).await?;
                (set.metadata, set.spec.and_then(|spec| spec.template))
            }
            "StatefulSet" => {
                let set = self.read::<StatefulSet>(namespace, name).await?;
                (set.metadata, set.spec.map(|spec| spec.template))
            }
            "DaemonSet" => {
                let set = self.read::<DaemonSet>(namespace, name).await?;
                (set.metadata, set.spec.map(|spec| spec.template))
            }
            _ => {
                let job = self.read::<Job>(namespace, name).await?;
                (job.metadata, job.spec.map(|spec| spec.template))
            }
        };
        // Another owner of the same name says nothing of this pod.
        let same = metadata.uid.as_ref() == Some(&owner.uid);
        Ok(template.filter(|_| same).and_then(|template| template.spec))
    }
}

/// The owner's own limit.
fn own_limit(
    template: Option<&PodSpec>,
    container: &str,
    resource: Resource,
) -> Result<u64, NoResize> {
    let Some(template) = template else {
        return Err(NoResize::new(Reason::NoTemplate, "no workload of a known kind owns the pod"));
    };
    let of_template = template.containers.iter().find(|other| other.name == container);
    of_template
        .and_then(|container| amount_of(container, resource))
        .ok_or_else(|| NoResize::new(Reason::NoTemplate, "the template sets no limit"))
}

/// The limit of a container.
fn amount_of(container: &Container, resource: Resource) -> Option<u64> {
    amount_in(container.resources.as_ref()?.limits.as_ref(), resource)
}

fn amount_in(all: Option<&BTreeMap<String, Quantity>>, resource: Resource) -> Option<u64> {
    resource.read(&all?.get(resource.name())?.0)
}

/// Whether the kubelet reports the new limit.
fn is_applied(pod: &Pod, container: &str, step: &Step) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut ours = statuses.filter(|status| status.name == container);
    let limits = ours.next().and_then(|status| status.resources.as_ref()?.limits.as_ref());
    amount_in(limits, step.resource) == Some(step.to)
}

/// What the kubelet says of a resize that it has not applied.
fn pending(pod: &Pod) -> Option<NoResize> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut present = conditions.filter(|condition| condition.status == "True");
    let condition = present.find(|condition| condition.type_.starts_with("PodResize"))?;
    let reason = match (condition.type_.as_str(), condition.reason.as_deref()) {
        ("PodResizePending", Some("Infeasible")) => Reason::Infeasible,
        ("PodResizePending", _) => Reason::Deferred,
        _ => Reason::Conflict,
    };
    Some(NoResize::new(reason, condition.message.clone().unwrap_or_default()))
}

/// A strategic merge patch of one limit. Without a version it changes any state of this pod.
fn patch(
    pod: &PodRef,
    resource: Resource,
    to: u64,
    with_request: bool,
    version: Option<&str>,
) -> Value {
    let amount: Map<String, Value> =
        Map::from_iter([(resource.name().to_owned(), json!(resource.text(to)))]);
    let mut resources = json!({ "limits": amount });
    if with_request {
        resources["requests"] = json!(amount);
    }
    let mut metadata = json!({ "uid": pod.uid });
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    json!({
        "metadata": metadata,
        "spec": { "containers": [{ "name": pod.container, "resources": resources }] },
    })
}

fn no_answer(error: &ApiError) -> NoResize {
    NoResize::new(Reason::ApiServer, error.to_string())
}

fn of_pause(refusal: &Refusal) -> NoResize {
    let reason = if refusal.gate == Gate::Paused { Reason::Paused } else { Reason::ApiServer };
    NoResize::new(reason, refusal.why.to_string())
}

/// What a refused patch says. What names no cause may have been done.
fn answer(error: &ApiError) -> Resized {
    let ApiError::Refused(kube::Error::Api(status)) = error else {
        return Resized::Unknown(error.to_string());
    };
    let said = status.message.as_str();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let reason = match status.code {
        409 => Reason::Conflict,
        404 if has(&["pods \""]) => Reason::Identity,
        404 | 405 => Reason::Unsupported,
        403 if has(&["exceeded quota"]) => Reason::Quota,
        403 if has(&["allocatable", "OutOf"]) => Reason::NoRoom,
        401 | 403 => Reason::Denied,
        400 | 422 => Reason::Invalid,
        429 => Reason::ApiServer,
        _ => return Resized::Unknown(error.to_string()),
    };
    Resized::Refused(NoResize::new(reason, said))
}
