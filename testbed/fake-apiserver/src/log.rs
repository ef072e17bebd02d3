//! What was asked and what was done, for tests to look at afterwards.
use std::{sync::Arc, time::Duration};

use crate::{FakeApi, budget::Count, route::Route};

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

    /// Whether it asks for an eviction, dry run or not.
    #[must_use]
    pub fn is_eviction(&self) -> bool {
        self.verb == "create" && self.resource == "pods" && self.subresource == "eviction"
    }
}

/// One eviction that was granted and carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// When, since the fake was made.
    pub at: Duration,
    /// Who asked.
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

/// Records.
impl FakeApi {
    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        self.with(|state| state.log.clone())
    }

    /// Forgets the requests so far. Those under way are not written down any more.
    pub fn clear_requests(&self) {
        self.with(|state| {
            state.log_begins += state.log.len();
            state.log.clear();
        });
    }

    /// How many watches are open.
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.with(|state| Arc::strong_count(&state.open_watches) - 1)
    }

    /// The evictions that were carried out.
    #[must_use]
    pub fn evictions(&self) -> Vec<Evicted> {
        self.with(|state| state.evictions.clone())
    }

    /// The evictions that left fewer healthy pods than a budget demands. There should be none,
    /// by construction; they are found by counting pods, not by believing the budget's status.
    #[must_use]
    pub fn violations(&self) -> Vec<Evicted> {
        self.evictions().into_iter().filter(Evicted::is_violation).collect()
    }
}
