//! `PATCH pods/NAME/resize`: the resources of running containers, and what a kubelet makes of them.
//!
//! As seen on 1.36.2: the status follows within 280 ms without a restart; more than the node can
//! allocate is refused with 403 at once; a container of another name with 422.
use std::time::Duration;

use serde_json::{Value, json};

use super::{Due, PodRef, status::container_status};
use crate::{
    FakeApi,
    access::{Access, Identity},
    api::{
        json as j,
        kind::Kind,
        status::{About, Problem, Status},
    },
    cluster::{self, Cluster},
    requests::{Answer, Asked},
};

/// Until the kubelet has applied a resize.
const APPLIES: Duration = Duration::from_millis(280);

/// Whether there is room for larger limits, and who says so if there is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// There is.
    #[default]
    Enough,
    /// The API server: the node cannot allocate that much.
    NodeFull,
    /// The API server: the quota of the namespace is exceeded.
    QuotaFull,
    /// The kubelet, at present.
    Deferred,
    /// The kubelet, for ever.
    Infeasible,
    /// Nobody: the kubelet does not act and says nothing.
    Ignored,
    /// The API server is older than 1.33 and has no such subresource.
    Unsupported,
}

/// One resize that the API server accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Resized {
    /// When, since the fake was made.
    pub at: Duration,
    /// The user of the request, and the node that its token is bound to.
    pub username: String,
    /// The node that the token is bound to.
    pub by: Option<String>,
    /// The pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Its labels and annotations at that moment.
    pub metadata: Value,
    /// The container.
    pub container: String,
    /// `resources` before.
    pub before: Value,
    /// `resources` after.
    pub after: Value,
    /// The pod's QoS class before and after.
    pub qos: (&'static str, &'static str),
}

/// The resizes so far, and the room for more.
#[derive(Debug, Default)]
pub(crate) struct Resizes {
    room: Room,
    done: Vec<Resized>,
}

/// Resizes.
impl FakeApi {
    /// The resizes that were accepted.
    #[must_use]
    pub fn resizes(&self) -> Vec<Resized> {
        self.with(|state| state.resizes.done.clone())
    }

    /// Sets whether there is room for larger limits from now on.
    pub fn set_room(&self, room: Room) {
        self.with(|state| state.resizes.room = room);
    }
}

impl Resizes {
    pub(crate) fn patch(
        &mut self,
        cluster: &mut Cluster,
        access: &Access,
        identity: &Identity,
        asked: &Asked,
    ) -> Result<Answer, Status> {
        let route = &asked.route;
        let about = About::new(Kind::Pod, &route.name);
        if self.room == Room::Unsupported {
            return Err(Status::no_such_resource());
        }
        let known = ["application/strategic-merge-patch+json", "application/merge-patch+json"];
        if !known.contains(&asked.content_type.as_str()) {
            return Err(Status::unsupported_media_type(&asked.content_type));
        }
        let patch = asked.json()?;
        let found = cluster.store.get(Kind::Pod, &route.namespace, &route.name);
        let old = found.cloned().ok_or_else(|| Status::not_found(about))?;
        for field in ["uid", "resourceVersion"] {
            let wanted = j::text(&patch, &format!("/metadata/{field}"));
            if !wanted.is_empty() && wanted != j::text(&old, &format!("/metadata/{field}")) {
                let why = "the object has been modified; please apply your changes to the latest \
                           version and try again";
                return Err(Status::conflict(about, why));
            }
        }
        access.fence_resize(identity, route, &old)?;
        let mut new = Value::clone(&old);
        let mut changed = Vec::new();
        for wanted in j::list(&patch, "/spec/containers") {
            let name = j::text(wanted, "/name").to_owned();
            let containers = new["spec"]["containers"].as_array_mut();
            let mut containers = containers.into_iter().flatten();
            let Some(container) = containers.find(|c| j::text(c, "/name") == name) else {
                return Err(forbidden_field(
                    about,
                    "spec.containers",
                    "containers may not be added or removed on resize",
                ));
            };
            let before = container["resources"].clone();
            j::merge(&mut container["resources"], &wanted["resources"]);
            if !is_consistent(&container["resources"]) {
                return Err(forbidden_field(
                    about,
                    "spec.containers[0].resources.requests",
                    "must be less than or equal to its limit",
                ));
            }
            changed.push((name, before, container["resources"].clone()));
        }
        let qos = (qos_of(&old), qos_of(&new));
        if qos.0 != qos.1 {
            return Err(forbidden_field(
                about,
                "spec",
                "Pod QOS Class may not change as a result of resizing",
            ));
        }
        self.is_there_room(about, &changed)?;
        if route.is_dry_run() {
            return Ok(Answer::Json(200, new));
        }
        let generation = j::int(&old, "/metadata/generation").unwrap_or(1);
        new["metadata"]["generation"] = json!(generation + 1);
        for (container, before, after) in changed {
            self.done.push(Resized {
                at: cluster.now,
                username: identity.username.clone(),
                by: identity.node.clone(),
                pod: route.name.clone(),
                uid: j::uid(&old).to_owned(),
                node: j::text(&old, "/spec/nodeName").to_owned(),
                metadata: json!({
                    "labels": old["metadata"]["labels"],
                    "annotations": old["metadata"]["annotations"],
                }),
                container,
                before,
                after,
                qos,
            });
        }
        let pod = PodRef::of(&cluster.write(Kind::Pod, new));
        cluster.schedule(
            APPLIES,
            cluster::Due::Pod(Due::Resized { pod: pod.clone(), room: self.room }),
        );
        let now = pod.find(cluster).map(|pod| Value::clone(pod));
        Ok(Answer::Json(200, now.unwrap_or_default()))
    }

    /// What grows needs room; what shrinks does not.
    fn is_there_room(
        &self,
        about: About<'_>,
        changed: &[(String, Value, Value)],
    ) -> Result<(), Status> {
        let grows = changed.iter().any(|(_, before, after)| {
            ["cpu", "memory"]
                .iter()
                .any(|name| amount(&after["limits"][name]) > amount(&before["limits"][name]))
        });
        match self.room {
            Room::NodeFull if grows => Err(Status::forbidden(
                about,
                "node didn't have enough allocatable resources: memory, requested: 4294967296, \
                 allocatable: 2147483648",
            )),
            Room::QuotaFull if grows => Err(Status::forbidden(
                about,
                "exceeded quota: team, requested: limits.memory=32Mi, used: limits.memory=1Gi, \
                 limited: limits.memory=1Gi",
            )),
            _ => Ok(()),
        }
    }
}

/// The kubelet has seen new resources. A request that was withdrawn is pending no more.
pub(crate) fn applied(cluster: &mut Cluster, pod: &PodRef, room: Room) {
    let Some(found) = pod.find(cluster) else { return };
    let mut object = Value::clone(found);
    let containers = j::list(&object, "/spec/containers").to_vec();
    let of_status = |object: &Value, name: &str| {
        let statuses = j::list(object, "/status/containerStatuses");
        let status = statuses.iter().find(|c| j::text(c, "/name") == name);
        status.map_or(Value::Null, |status| status["resources"].clone())
    };
    let grows = containers.iter().any(|container| {
        let now = of_status(&object, j::text(container, "/name"));
        ["cpu", "memory"].iter().any(|name| {
            amount(&container["resources"]["limits"][name]) > amount(&now["limits"][name])
        })
    });
    let pending = match room {
        Room::Deferred if grows => Some(("Deferred", "Node didn't have enough resource: memory")),
        Room::Infeasible if grows => {
            Some(("Infeasible", "Node didn't have enough capacity: memory"))
        }
        Room::Ignored if grows => return,
        _ => None,
    };
    if let Some(conditions) = object["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodResizePending");
    }
    if let Some((reason, message)) = pending {
        let condition = json!({
            "type": "PodResizePending", "status": "True", "reason": reason, "message": message,
        });
        cluster.set_condition(&mut object["status"], condition);
    } else {
        for container in containers {
            let name = j::text(&container, "/name").to_owned();
            if let Some(status) = container_status(&mut object, &name) {
                status["resources"] = container["resources"].clone();
            }
        }
    }
    cluster.write(Kind::Pod, object);
}

fn forbidden_field(about: About<'_>, field: &str, why: &str) -> Status {
    Status::invalid(About { resource: "Pod", ..about }, &[Problem::forbidden(field, why)])
}

/// Requests are within limits.
fn is_consistent(resources: &Value) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let limit = amount(&resources["limits"][name]);
        limit == 0 || amount(&resources["requests"][name]) <= limit
    })
}

/// A quantity in thousandths of its unit; 0 if there is none.
fn amount(quantity: &Value) -> u128 {
    let text = match quantity {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return 0,
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u128 = number.parse().unwrap_or(0);
    number
        * match unit {
            "m" => 1,
            "Ki" => 1000 << 10,
            "Mi" => 1000 << 20,
            "Gi" => 1000 << 30,
            "k" => 1_000_000,
            "M" => 1_000_000_000,
            _ => 1000,
        }
}

/// A server sets what is not requested to the limit, when a pod is created.
pub(crate) fn default_requests(pod: &mut Value) {
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        let resources = &mut container["resources"];
        let limits = resources["limits"].as_object().cloned().unwrap_or_default();
        for (name, limit) in limits {
            if resources["requests"][&name].is_null() {
                resources["requests"][&name] = limit;
            }
        }
    }
}

/// The QoS class of a pod.
pub(crate) fn qos_of(pod: &Value) -> &'static str {
    let containers = j::list(pod, "/spec/containers");
    let is = |container: &Value, name: &str| {
        let resources = &container["resources"];
        let limit = amount(&resources["limits"][name]);
        limit > 0 && limit == amount(&resources["requests"][name])
    };
    let guaranteed = |container: &Value| is(container, "cpu") && is(container, "memory");
    if !containers.is_empty() && containers.iter().all(guaranteed) {
        return "Guaranteed";
    }
    let any = containers.iter().any(|container| {
        ["limits", "requests"]
            .iter()
            .any(|kind| container["resources"][kind].as_object().is_some_and(|all| !all.is_empty()))
    });
    if any { "Burstable" } else { "BestEffort" }
}
