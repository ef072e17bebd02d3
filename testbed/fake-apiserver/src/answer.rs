//! From a request to what is done about it.
use serde_json::{Value, json};

use crate::{
    contents, json as j,
    kind::Kind,
    objects,
    reviews::Review,
    route::Route,
    state::State,
    status::{About, Status},
    watch::Watching,
};

/// What a request is answered with, if it is not refused.
#[derive(Debug)]
pub(crate) enum Answer {
    Json(u16, Value),
    Text(&'static str),
    Watch(Box<Watching>),
    /// The wanted version is not there yet; it may come.
    NotYet(u64),
}

/// A request, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) token: Option<String>,
    pub(crate) path: String,
    pub(crate) route: Route,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// The body as a JSON object, whose metadata is one too if it has any.
    pub(crate) fn json(&self) -> Result<Value, Status> {
        let unrecognized = |why: &str| {
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): json parse error: {why}",
                self.route.resource
            ))
        };
        let body: Value =
            serde_json::from_slice(&self.body).map_err(|error| unrecognized(&error.to_string()))?;
        let metadata = body.get("metadata").unwrap_or(&Value::Null);
        if !body.is_object() || !(metadata.is_object() || metadata.is_null()) {
            return Err(unrecognized("expected an object"));
        }
        Ok(body)
    }

    /// The body as JSON; of an empty one nothing.
    pub(crate) fn options(&self) -> Result<Value, Status> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.json() }
    }
}

impl State {
    pub(crate) fn answer(&mut self, asked: &Asked) -> Result<Answer, Status> {
        let who = self.access.authenticate(asked.token.as_deref())?;
        let route = &asked.route;
        if !route.is_resource {
            return about_nothing(&asked.path);
        }
        if route.verb.is_empty() {
            return Err(Status::method_not_allowed());
        }
        who.check(route, route.verb)?;
        if let Some(review) = Review::of(route) {
            return self.review(review, asked);
        }
        let kind = Kind::of(&route.group, &route.version, &route.resource)
            .ok_or_else(Status::no_such_resource)?;
        match (route.verb, kind, route.subresource.as_str()) {
            ("create", Kind::Pod, "eviction") => self.evict(&who, route, &asked.json()?),
            ("get", _, "" | "status") => self.get(kind, route),
            ("list", _, _) => self.list(kind, route),
            ("watch", _, _) => self.watch(kind, asked),
            ("create", Kind::Event, "") if !route.group.is_empty() => self.create_event(asked),
            ("create", _, "") if kind.is_plain() => self.create_object(kind, asked),
            ("update", _, "") if kind.is_plain() => self.put_object(kind, &who, asked),
            ("patch", _, "") => self.patch(kind, asked),
            ("delete", Kind::Namespace | Kind::Node, _) => Err(Status::method_not_allowed()),
            ("delete", _, "") => self.delete(kind, &who, asked),
            (_, _, "" | "status" | "eviction") => Err(Status::method_not_allowed()),
            _ => Err(Status::no_such_resource()),
        }
    }

    fn get(&self, kind: Kind, route: &Route) -> Result<Answer, Status> {
        let namespace = if kind.is_namespaced() { route.namespace.as_str() } else { "" };
        let about = About { group: &route.group, resource: &route.resource, name: &route.name };
        let object = self.store.get(kind, namespace, &route.name);
        let object = object.ok_or_else(|| Status::not_found(about))?;
        Ok(Answer::Json(200, view(object, kind, &route.group)))
    }

    /// A merge patch; the others are not spoken here.
    fn patch(&mut self, kind: Kind, asked: &Asked) -> Result<Answer, Status> {
        let route = &asked.route;
        if asked.content_type != "application/merge-patch+json" {
            return Err(Status::unsupported_media_type(&asked.content_type));
        }
        let namespace = if kind.is_namespaced() { route.namespace.as_str() } else { "" };
        let about = About::new(kind, &route.name);
        let old = self.store.get(kind, namespace, &route.name).cloned();
        let old = old.ok_or_else(|| Status::not_found(about))?;
        let patch = asked.json()?;
        let version = j::text(&patch, "/metadata/resourceVersion");
        if !version.is_empty() && version != j::text(&old, "/metadata/resourceVersion") {
            return Err(Status::conflict(about, objects::MODIFIED));
        }
        let mut new = Value::clone(&old);
        j::merge(&mut new, &patch);
        for fixed in ["name", "namespace", "uid", "creationTimestamp", "generation"] {
            if let Some(value) = old["metadata"].get(fixed) {
                new["metadata"][fixed] = value.clone();
            }
        }
        contents::check_readable(kind, &new)?;
        contents::prepare(kind, &mut new, Some(&old));
        contents::check_valid(kind, &new, Some(&old))?;
        if route.is_dry_run() {
            return Ok(Answer::Json(200, new));
        }
        let new = self.write(kind, new);
        match kind {
            Kind::Event => self.expire_event(&new),
            _ if kind.is_plain() => self.collect_later(kind, &new),
            _ => {}
        }
        Ok(Answer::Json(200, view(&new, kind, &route.group)))
    }
}

/// An object as a group shows it.
pub(crate) fn view(object: &Value, kind: Kind, group: &str) -> Value {
    if kind == Kind::Event && group.is_empty() {
        return crate::events::core_view(object);
    }
    object.clone()
}

/// Paths that are about no object.
fn about_nothing(path: &str) -> Result<Answer, Status> {
    match path {
        "/livez" | "/readyz" | "/healthz" => Ok(Answer::Text("ok")),
        "/version" => {
            let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2",
                "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-06-01T00:00:00Z",
                "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64"});
            Ok(Answer::Json(200, version))
        }
        _ => Err(Status::no_such_resource()),
    }
}
