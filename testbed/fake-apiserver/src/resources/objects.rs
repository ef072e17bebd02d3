//! Objects that clients make and change: what all kinds have in common.
use serde_json::{Map, Value, json};

use super::{contents, events, garbage};
use crate::{
    FakeApi,
    access::Identity,
    api::{
        json as j,
        kind::Kind,
        make,
        status::{About, Problem, Status},
    },
    cluster::{Cluster, store::Object},
    requests::{Answer, Asked, route::Route},
};

/// The refusal of a write that names another version than the latest.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

pub(crate) fn get(cluster: &Cluster, kind: Kind, route: &Route) -> Result<Answer, Status> {
    let namespace = if kind.is_namespaced() { route.namespace.as_str() } else { "" };
    let about = About { group: &route.group, resource: &route.resource, name: &route.name };
    let object = cluster.store.get(kind, namespace, &route.name);
    let object = object.ok_or_else(|| Status::not_found(about))?;
    Ok(Answer::Json(200, view(object, kind, &route.group)))
}

/// A merge patch; the fake knows no other.
pub(crate) fn patch(cluster: &mut Cluster, kind: Kind, asked: &Asked) -> Result<Answer, Status> {
    let (_, new) = patched(cluster, kind, asked)?;
    if asked.route.is_dry_run() {
        return Ok(Answer::Json(200, new));
    }
    let new = cluster.write(kind, new);
    match kind {
        Kind::Event => events::expire(cluster, &new),
        _ if kind.is_plain() => garbage::collect_later(cluster, kind, &new),
        _ => {}
    }
    Ok(Answer::Json(200, view(&new, kind, &asked.route.group)))
}

/// An object as it is, and as a patch makes it.
pub(crate) fn patched(
    cluster: &Cluster,
    kind: Kind,
    asked: &Asked,
) -> Result<(Object, Value), Status> {
    let route = &asked.route;
    if asked.content_type != "application/merge-patch+json" {
        return Err(Status::unsupported_media_type(&asked.content_type));
    }
    let namespace = if kind.is_namespaced() { route.namespace.as_str() } else { "" };
    let about = About::new(kind, &route.name);
    let old = cluster.store.get(kind, namespace, &route.name).cloned();
    let old = old.ok_or_else(|| Status::not_found(about))?;
    let patch = asked.json()?;
    let version = j::text(&patch, "/metadata/resourceVersion");
    if !version.is_empty() && version != j::text(&old, "/metadata/resourceVersion") {
        return Err(Status::conflict(about, MODIFIED));
    }
    // The status of a custom resource is a resource of its own: neither way changes the other's part.
    let is_status = route.subresource == "status";
    let patch = if is_status { json!({ "status": patch["status"] }) } else { patch };
    let uid = j::text(&patch, "/metadata/uid");
    if !uid.is_empty() && uid != j::uid(&old) {
        return Err(Status::conflict(about, &other_uid(uid, &old)));
    }
    let mut new = Value::clone(&old);
    j::merge(&mut new, &patch);
    let status = new["status"].clone();
    for fixed in ["name", "namespace", "uid", "creationTimestamp", "generation"] {
        if let Some(value) = old["metadata"].get(fixed) {
            new["metadata"][fixed] = value.clone();
        }
    }
    contents::check_readable(kind, &new)?;
    contents::prepare(kind, &mut new, Some(&old));
    if is_status {
        new["status"] = status;
    }
    contents::check_valid(kind, &new, Some(&old))?;
    Ok((old, new))
}

/// An object as a group shows it.
pub(crate) fn view(object: &Value, kind: Kind, group: &str) -> Value {
    if kind == Kind::Event && group.is_empty() {
        return events::core_view(object);
    }
    object.clone()
}

pub(crate) fn create(cluster: &mut Cluster, kind: Kind, asked: &Asked) -> Result<Answer, Status> {
    let mut object = asked.json()?;
    contents::check_readable(kind, &object)?;
    name_new(cluster, kind, &mut object, asked)?;
    contents::prepare(kind, &mut object, None);
    contents::check_valid(kind, &object, None)?;
    let name = j::name(&object);
    if cluster.store.get(kind, j::namespace(&object), name).is_some() {
        return Err(Status::already_exists(About::new(kind, name)));
    }
    Ok(Answer::Json(201, create_unless_dry(cluster, kind, object, asked)))
}

/// PUT replaces an object. Of some kinds it also creates what is not there, whatever version the
/// client names: a holder whose Lease was deleted creates it again by renewing it.
pub(crate) fn replace(
    cluster: &mut Cluster,
    kind: Kind,
    identity: &Identity,
    asked: &Asked,
) -> Result<Answer, Status> {
    let route = &asked.route;
    let given = asked.json()?;
    contents::check_readable(kind, &given)?;
    if j::name(&given) != route.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            j::name(&given),
            route.name
        )));
    }
    let mut object = given.clone();
    name_new(cluster, kind, &mut object, asked)?;
    let about = About::new(kind, &route.name);
    let Some(old) = cluster.store.get(kind, &route.namespace, &route.name).cloned() else {
        if !kind.is_created_by_put() {
            return Err(Status::not_found(about));
        }
        identity.check(route, "create")?;
        contents::prepare(kind, &mut object, None);
        contents::check_valid(kind, &object, None)?;
        return Ok(Answer::Json(201, create_unless_dry(cluster, kind, object, asked)));
    };
    check_replaced(kind, about, &given, &old)?;
    contents::prepare(kind, &mut object, Some(&old));
    contents::check_valid(kind, &object, Some(&old))?;
    for kept in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
        if let Some(value) = old["metadata"].get(kept) {
            object["metadata"][kept] = value.clone();
        }
    }
    object["kind"] = old["kind"].clone();
    object["apiVersion"] = old["apiVersion"].clone();
    if route.is_dry_run() {
        return Ok(Answer::Json(200, object));
    }
    let written = cluster.write(kind, object);
    garbage::collect_later(cluster, kind, &written);
    Ok(Answer::Json(200, Value::clone(&written)))
}

/// Gives a new object its name and namespace, and leaves of its metadata what a client may
/// set.
pub(crate) fn name_new(
    cluster: &mut Cluster,
    kind: Kind,
    object: &mut Value,
    asked: &Asked,
) -> Result<(), Status> {
    let namespace = asked.route.namespace.as_str();
    if kind.is_namespaced() {
        cluster.require_namespace(namespace)?;
        if !matches!(j::namespace(object), "") && j::namespace(object) != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on \
                 the request",
            ));
        }
    }
    let prefix = j::text(object, "/metadata/generateName");
    let name = match j::name(object) {
        "" if prefix.is_empty() => {
            let problem = Problem::required("name or generateName");
            let about = About { group: kind.group(), resource: kind.name(), name: "" };
            return Err(Status::invalid(about, &[problem]));
        }
        "" => format!("{prefix}{}", make::suffix(cluster.serial())),
        name => name.to_owned(),
    };
    let given = object["metadata"].take();
    let mut metadata = Map::new();
    for key in ["labels", "annotations", "ownerReferences", "finalizers", "generateName"] {
        if let Some(value) = given.get(key).filter(|value| !value.is_null()) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    metadata.insert("name".to_owned(), json!(name));
    if kind.is_namespaced() {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    object["metadata"] = Value::Object(metadata);
    Ok(())
}

pub(crate) fn create_unless_dry(
    cluster: &mut Cluster,
    kind: Kind,
    object: Value,
    asked: &Asked,
) -> Value {
    if asked.route.is_dry_run() {
        return cluster.complete(kind, object);
    }
    let created = cluster.create(kind, object);
    garbage::collect_later(cluster, kind, &created);
    Value::clone(&created)
}

/// Whether an object is the one that is to be replaced, at the version that is.
fn check_replaced(kind: Kind, about: About<'_>, given: &Value, old: &Value) -> Result<(), Status> {
    let version = j::text(given, "/metadata/resourceVersion");
    let unconditional = matches!(version, "" | "0");
    if unconditional && kind.needs_version() {
        let why = "must be specified for an update";
        let problem = Problem::invalid("metadata.resourceVersion", "0", why);
        return Err(Status::invalid(about, &[problem]));
    }
    let uid = j::text(given, "/metadata/uid");
    if !uid.is_empty() && uid != j::uid(old) {
        return Err(Status::conflict(about, &other_uid(uid, old)));
    }
    if !unconditional && version != j::text(old, "/metadata/resourceVersion") {
        return Err(Status::conflict(about, MODIFIED));
    }
    Ok(())
}

fn other_uid(uid: &str, old: &Value) -> String {
    let found = j::uid(old);
    format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}")
}

/// There is no such object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {} {namespace}/{name} in the fake", .kind.name())]
pub struct Missing {
    /// Of this kind.
    pub kind: Kind,
    /// In this namespace.
    pub namespace: String,
    /// With this name.
    pub name: String,
}

impl Cluster {
    /// An object that must be there.
    pub(crate) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Result<Object, Missing> {
        let missing = || Missing { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        self.store.get(kind, namespace, name).cloned().ok_or_else(missing)
    }
}

/// Objects of any kind.
impl FakeApi {
    /// Stores any object, new or in place of the one with its name, and returns it as it is then.
    pub fn put(&self, kind: Kind, mut object: Value) -> Value {
        self.with(|state| {
            let (namespace, name) = (j::namespace(&object).to_owned(), j::name(&object));
            if kind.is_namespaced() {
                state.cluster.ensure_namespace(&namespace);
            }
            if let Ok(old) = state.cluster.find(kind, &namespace, name) {
                for kept in ["uid", "creationTimestamp", "generation"] {
                    if let Some(value) = old["metadata"].get(kept) {
                        object["metadata"][kept] = value.clone();
                    }
                }
            }
            Value::clone(&state.cluster.create(kind, object))
        })
    }

    /// Merges `patch` into an object, as a JSON merge patch: `null` removes.
    ///
    /// # Errors
    /// If it is not there.
    pub fn patch(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), Missing> {
        self.with(|state| {
            state.cluster.find(kind, namespace, name)?;
            state.cluster.update(kind, namespace, name, |object| j::merge(object, patch));
            Ok(())
        })
    }

    /// One object.
    #[must_use]
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        self.with(|state| state.cluster.store.get(kind, namespace, name).map(|o| Value::clone(o)))
    }

    /// All objects of a kind, in the order of namespace and name.
    #[must_use]
    pub fn list(&self, kind: Kind) -> Vec<Value> {
        self.with(|state| state.cluster.store.all(kind).map(|(_, o)| Value::clone(o)).collect())
    }

    /// The version of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.with(|state| state.cluster.store.version())
    }
}
