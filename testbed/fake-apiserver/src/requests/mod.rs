//! From a request to what is done about it.
use serde_json::{Value, json};

use crate::{
    access::reviews::Review,
    api::{kind::Kind, status::Status},
    resources::{events, objects, pods::eviction::Eviction, removal},
    state::State,
};

pub(crate) mod route;
pub(crate) mod log;
pub(crate) mod faults;
pub(crate) mod list;
pub(crate) mod watch;
pub(crate) mod service;
pub(crate) mod serve;

use route::Route;
use watch::Watching;

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
    /// Authenticates, authorizes, and hands the request to the handler of its resource.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Result<Answer, Status> {
        let identity = self.access.authenticate(asked.token.as_deref())?;
        let route = &asked.route;
        if !route.is_resource {
            return about_nothing(&asked.path);
        }
        if route.verb.is_empty() {
            return Err(Status::method_not_allowed());
        }
        identity.check(route, route.verb)?;
        if let Some(review) = Review::of(route) {
            return self.access.review(review, asked);
        }
        let kind = Kind::of(&route.group, &route.version, &route.resource)
            .ok_or_else(Status::no_such_resource)?;
        let Self { cluster, access, faults, watches, pods, evictions, changes, resizes, .. } = self;
        match (route.verb, kind, route.subresource.as_str()) {
            ("create", Kind::Pod, "eviction") => {
                let (identity, body) = (&identity, &asked.json()?);
                evictions.evict(Eviction { cluster, pods, access, identity, route, body })
            }
            ("patch", Kind::Pod, "resize") => resizes.patch(cluster, access, &identity, asked),
            ("get", _, "" | "status") => objects::get(cluster, kind, route),
            ("list", _, _) => list::list(&cluster.store, kind, route),
            ("watch", _, _) => watches.open(cluster, faults, kind, asked),
            ("create", Kind::Event, "") if !route.group.is_empty() => {
                events::create(cluster, asked)
            }
            ("create", _, "") if kind.is_plain() => objects::create(cluster, kind, asked),
            ("update", _, "") if kind.is_plain() => {
                objects::replace(cluster, kind, &identity, asked)
            }
            ("patch", Kind::Pod, "") => changes.patch(cluster, access, &identity, asked),
            ("patch", _, "") | ("patch", Kind::HealingPolicy, "status") => {
                objects::patch(cluster, kind, asked)
            }
            ("delete", Kind::Namespace | Kind::Node, _) => Err(Status::method_not_allowed()),
            ("delete", _, "") => removal::delete(cluster, pods, access, &identity, kind, asked),
            (_, _, "" | "status" | "eviction") => Err(Status::method_not_allowed()),
            _ => Err(Status::no_such_resource()),
        }
    }
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
