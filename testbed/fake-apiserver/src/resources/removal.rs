//! Deletion: of a pod within its grace period, of a workload with everything it owns.
use serde_json::{Value, json};

use super::{
    garbage,
    objects::Missing,
    pods::{PodRef, Pods},
    workloads::owners,
};
use crate::{
    FakeApi,
    access::{Access, Identity},
    api::{
        json as j,
        kind::Kind,
        status::{About, Status, success},
    },
    cluster::{Cluster, store::Object},
    requests::{Answer, Asked},
};

/// Answers `DELETE`.
pub(crate) fn delete(
    cluster: &mut Cluster,
    pods: &mut Pods,
    access: &Access,
    identity: &Identity,
    kind: Kind,
    asked: &Asked,
) -> Result<Answer, Status> {
    let route = &asked.route;
    let about = About::new(kind, &route.name);
    let found = cluster.store.get(kind, &route.namespace, &route.name).cloned();
    let object = found.ok_or_else(|| Status::not_found(about))?;
    if kind == Kind::Pod {
        access.fence_deletion(identity, &object)?;
    }
    let options = asked.options()?;
    check_preconditions(kind, &object, &options)?;
    let in_body = j::list(&options, "/dryRun").iter().any(|value| value == "All");
    if !route.is_dry_run() && !in_body {
        let grace = route.query("gracePeriodSeconds").parse().ok();
        let grace = grace.or_else(|| j::int(&options, "/gracePeriodSeconds"));
        remove(cluster, pods, kind, &object, grace);
    }
    let left = cluster.store.get(kind, &route.namespace, &route.name);
    if let Some(left) = left.filter(|_| kind == Kind::Pod) {
        return Ok(Answer::Json(200, Value::clone(left)));
    }
    let mut done = success(200);
    let mut details = about.details();
    details.insert("uid".to_owned(), json!(j::uid(&object)));
    done["details"] = Value::Object(details);
    Ok(Answer::Json(200, done))
}

/// Removes an object and what it owns: pods get their grace period.
pub(crate) fn remove(
    cluster: &mut Cluster,
    pods: &mut Pods,
    kind: Kind,
    object: &Object,
    grace: Option<i64>,
) {
    if kind == Kind::Pod {
        pods.terminate(cluster, &PodRef::of(object), grace);
        return;
    }
    let key = (j::namespace(object).to_owned(), j::name(object).to_owned());
    cluster.erase(kind, &key);
    for pod in owners::pods_of(&cluster.store, object) {
        pods.terminate(cluster, &PodRef::of(&pod), None);
    }
    for set in owners::sets_of(&cluster.store, object) {
        remove(cluster, pods, Kind::ReplicaSet, &set, None);
    }
    garbage::collect_owned_by(cluster, pods, object);
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

/// Deletion.
impl FakeApi {
    /// Deletes any object, and what it owns.
    ///
    /// # Errors
    /// If it is not there.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<(), Missing> {
        self.with(|state| {
            let object = state.cluster.find(kind, namespace, name)?;
            remove(&mut state.cluster, &mut state.pods, kind, &object, None);
            Ok(())
        })
    }
}
