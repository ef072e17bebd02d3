//! The requests so far, for tests to look at afterwards.
use std::time::Duration;

use super::route::Route;
use crate::FakeApi;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When it came, since the fake was made.
    pub at: Duration,
    /// The token it came with; empty if there was none.
    pub identity: String,
    /// Such as `get`, `list`, `watch`, `create`; empty if it is about no object.
    pub verb: &'static str,
    /// The API group.
    pub group: String,
    /// Such as `pods`; the path, if it is about no object.
    pub resource: String,
    /// Such as `eviction`.
    pub subresource: String,
    /// Empty: the whole cluster.
    pub namespace: String,
    /// Empty: a collection.
    pub name: String,
    /// The query's `labelSelector`; empty: none.
    pub labels: String,
    /// The query's `fieldSelector`; empty: none.
    pub fields: String,
    /// Whether the query asked for a dry run, or the body of an eviction.
    pub dry_run: bool,
    /// The status that was sent; `None`: the client saw none, or not yet.
    pub status: Option<u16>,
}

impl Logged {
    pub(crate) fn new(at: Duration, identity: &str, route: &Route, path: &str) -> Self {
        let resource = if route.is_resource { route.resource.clone() } else { path.to_owned() };
        Self {
            at,
            identity: identity.to_owned(),
            verb: route.verb,
            group: route.group.clone(),
            resource,
            subresource: route.subresource.clone(),
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            labels: route.query("labelSelector").to_owned(),
            fields: route.query("fieldSelector").to_owned(),
            dry_run: route.is_dry_run(),
            status: None,
        }
    }

    /// Whether it asks for other resources of a running pod.
    #[must_use]
    pub fn is_resize(&self) -> bool {
        self.verb == "patch" && self.resource == "pods" && self.subresource == "resize"
    }

    /// Whether it asks for an eviction, dry run or not.
    #[must_use]
    pub fn is_eviction(&self) -> bool {
        self.verb == "create" && self.resource == "pods" && self.subresource == "eviction"
    }
}

/// The requests so far.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    kept: Vec<Logged>,
    /// Requests that came before those that are kept.
    forgotten: usize,
}

impl Requests {
    /// Writes a request down, and returns its number.
    pub(crate) fn push(&mut self, request: Logged) -> usize {
        self.kept.push(request);
        self.forgotten + self.kept.len() - 1
    }

    /// Notes the status with which a request was answered, unless it was forgotten meanwhile.
    pub(crate) fn answered(&mut self, number: usize, status: u16) {
        let index = number.checked_sub(self.forgotten);
        if let Some(logged) = index.and_then(|index| self.kept.get_mut(index)) {
            logged.status = Some(status);
        }
    }
}

/// Requests.
impl FakeApi {
    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        self.with(|state| state.requests.kept.clone())
    }

    /// Forgets the requests so far. Those under way are not written down any more.
    pub fn clear_requests(&self) {
        self.with(|state| {
            state.requests.forgotten += state.requests.kept.len();
            state.requests.kept.clear();
        });
    }
}
