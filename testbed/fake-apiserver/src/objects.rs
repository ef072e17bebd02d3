//! Objects that clients make and change: what all kinds have in common.
use serde_json::{Map, Value, json};

use crate::{
    access::Identity,
    answer::{Answer, Asked},
    contents, json as j,
    kind::Kind,
    make,
    state::State,
    status::{About, Problem, Status},
};

/// What a writer is told whose version is not the latest.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl State {
    pub(crate) fn create_object(&mut self, kind: Kind, asked: &Asked) -> Result<Answer, Status> {
        let mut object = asked.json()?;
        contents::check_readable(kind, &object)?;
        self.name_new(kind, &mut object, asked)?;
        contents::prepare(kind, &mut object, None);
        contents::check_valid(kind, &object, None)?;
        let name = j::name(&object);
        if self.store.get(kind, j::namespace(&object), name).is_some() {
            return Err(Status::already_exists(About::new(kind, name)));
        }
        Ok(Answer::Json(201, self.create_unless_dry(kind, object, asked)))
    }

    /// PUT replaces an object. Of some kinds it also creates what is not there, whatever version
    /// the client believes in: a holder whose Lease was deleted brings it back to life by
    /// renewing it.
    pub(crate) fn put_object(
        &mut self,
        kind: Kind,
        who: &Identity,
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
        self.name_new(kind, &mut object, asked)?;
        let about = About::new(kind, &route.name);
        let Some(old) = self.store.get(kind, &route.namespace, &route.name).cloned() else {
            if !kind.is_created_by_put() {
                return Err(Status::not_found(about));
            }
            who.check(route, "create")?;
            contents::prepare(kind, &mut object, None);
            contents::check_valid(kind, &object, None)?;
            return Ok(Answer::Json(201, self.create_unless_dry(kind, object, asked)));
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
        let written = self.write(kind, object);
        self.collect_later(kind, &written);
        Ok(Answer::Json(200, Value::clone(&written)))
    }

    /// Gives a new object its name and namespace, and leaves of its metadata what a client may
    /// set.
    pub(crate) fn name_new(
        &mut self,
        kind: Kind,
        object: &mut Value,
        asked: &Asked,
    ) -> Result<(), Status> {
        let namespace = asked.route.namespace.as_str();
        if kind.is_namespaced() {
            self.require_namespace(namespace)?;
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
            "" => format!("{prefix}{}", make::suffix(self.serial())),
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

    pub(crate) fn create_unless_dry(&mut self, kind: Kind, object: Value, asked: &Asked) -> Value {
        if asked.route.is_dry_run() {
            return self.complete(kind, object);
        }
        let created = self.create(kind, object);
        self.collect_later(kind, &created);
        Value::clone(&created)
    }
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
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            j::uid(old)
        );
        return Err(Status::conflict(about, &why));
    }
    if !unconditional && version != j::text(old, "/metadata/resourceVersion") {
        return Err(Status::conflict(about, MODIFIED));
    }
    Ok(())
}
