//! Watches: which changes a client receives, when, and how the stream ends.
use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{sync::watch::Receiver, time::sleep_until};

use super::{
    Answer, Asked,
    faults::Faults,
    list::{self, Filter},
    route::Route,
};
use crate::{
    ConnectionError, FakeApi,
    api::{
        kind::Kind,
        status::{Problem, Status},
    },
    cluster::{Cluster, store::Change},
};

/// How long a watch lasts if the client names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);
/// How often a watch gets a bookmark.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end it gets a last one.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// An open watch.
#[derive(Debug)]
pub(crate) struct Watching {
    filter: Filter,
    /// The token that it was opened with.
    token: String,
    /// Changes up to this version were sent.
    told: u64,
    ready: VecDeque<Value>,
    /// Where bookmarks are wanted: when the next is due.
    bookmark: Option<Duration>,
    end: Duration,
    /// How often all watches had been broken when this one began.
    breaks: u64,
    /// Held while it is open; see [`Watches`].
    _open: Arc<()>,
}

/// What an open watch must do next.
enum Look {
    Tell(Bytes),
    Cut,
    Broken,
    Over,
    Wait(Duration),
}

/// The state that all watches share.
#[derive(Debug)]
pub(crate) struct Watches {
    /// Whether a watch may ask for the initial state first.
    lists: bool,
    /// Every open watch holds a reference, so the count shows how many there are.
    open: Arc<()>,
}

impl Default for Watches {
    fn default() -> Self {
        Self { lists: true, open: Arc::default() }
    }
}

impl Watches {
    pub(crate) fn open(
        &self,
        cluster: &Cluster,
        faults: &Faults,
        kind: Kind,
        asked: &Asked,
    ) -> Result<Answer, Status> {
        let route = &asked.route;
        self.check_options(route)?;
        let filter = Filter::new(kind, route)?;
        let seconds = list::number(route, "timeoutSeconds")?.filter(|&seconds| seconds > 0);
        let end = cluster.now + seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let bookmarks = matches!(route.query("allowWatchBookmarks"), "true" | "1");
        let from = list::version(route)?.unwrap_or(0);
        let initial = route.query("sendInitialEvents");
        let mut watching = Watching {
            filter,
            token: asked.token.clone().unwrap_or_default(),
            told: from,
            ready: VecDeque::new(),
            bookmark: bookmarks.then(|| next_bookmark(cluster.now, end)),
            end,
            breaks: faults.breaks,
            _open: Arc::clone(&self.open),
        };
        let current = cluster.store.version();
        if initial == "true" || (initial.is_empty() && from == 0) {
            if from > current {
                return Ok(Answer::NotYet(from));
            }
            watching.told = current;
            let all = cluster.store.all(kind).map(|(_, object)| object);
            let all = all.filter(|object| watching.filter.matches(object));
            watching.ready = all.map(|o| event("ADDED", watching.filter.shown(o))).collect();
            if initial == "true" && bookmarks {
                watching.ready.push_back(watching.bookmark(true));
            }
        } else if from == 0 {
            watching.told = current;
        } else if from < cluster.store.watchable_from() {
            let message = format!("too old resource version: {from} ({current})");
            let error = event("ERROR", Status::expired(message).body());
            watching.ready.push_back(error);
            (watching.told, watching.end) = (u64::MAX, cluster.now);
        }
        Ok(Answer::Watch(Box::new(watching)))
    }

    fn check_options(&self, route: &Route) -> Result<(), Status> {
        let mut problems = Vec::new();
        let wanted = route.query("resourceVersionMatch");
        if route.query("sendInitialEvents").is_empty() {
            if !wanted.is_empty() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents \
                           is provided";
                problems.push(Problem::forbidden("resourceVersionMatch", why));
            }
        } else {
            if wanted != "NotOlderThan" {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                problems.push(Problem::forbidden("resourceVersionMatch", why));
            }
            if !self.lists {
                let why = "sendInitialEvents is forbidden for watch unless the WatchList feature \
                           gate is enabled";
                problems.push(Problem::forbidden("sendInitialEvents", why));
            }
        }
        list::refuse(&problems)
    }
}

impl Filter {
    /// What a change is to a client that sees only what the filter lets through: an object that
    /// no longer matches is gone, with the labels that it had, although it lives on.
    fn told(&self, change: &Change) -> Option<Value> {
        if change.kind != self.kind() {
            return None;
        }
        let matching = |o: &Option<Arc<Value>>| o.clone().filter(|object| self.matches(object));
        let (kind, object) = match (matching(&change.old), matching(&change.new)) {
            (None, None) => return None,
            (None, Some(new)) => ("ADDED", new),
            (Some(_), Some(new)) => ("MODIFIED", new),
            (Some(old), None) => ("DELETED", old),
        };
        let mut object = self.shown(&object);
        object["metadata"]["resourceVersion"] = json!(change.version.to_string());
        Some(event(kind, object))
    }
}

impl Watching {
    /// Returns what the watch must do now.
    fn look(&mut self, cluster: &Cluster, faults: &Faults) -> Look {
        if self.breaks == u64::MAX || faults.is_out_of_reach(&self.token) {
            return Look::Broken;
        }
        if faults.breaks != self.breaks {
            let mid_line = faults.mid_line == Some(faults.breaks);
            return if mid_line { Look::Cut } else { Look::Broken };
        }
        let lag = faults.watch_lag;
        let mut later = None;
        for change in cluster.store.since(self.told) {
            if change.at + lag > cluster.now {
                later = Some(change.at + lag);
                break;
            }
            self.told = change.version;
            self.ready.extend(self.filter.told(change));
        }
        if self.bookmark.is_some_and(|at| at <= cluster.now) && cluster.now < self.end {
            self.ready.push_back(self.bookmark(false));
            self.bookmark = Some(next_bookmark(cluster.now, self.end));
        }
        if !self.ready.is_empty() {
            return Look::Tell(lines(self.ready.drain(..)));
        }
        if self.end <= cluster.now {
            return Look::Over;
        }
        let times = [later, self.bookmark, cluster.next_due()].into_iter().flatten();
        Look::Wait(times.fold(self.end, Duration::min))
    }

    /// A bookmark: everything up to this version was sent. The object is as empty as the real one.
    fn bookmark(&self, initial: bool) -> Value {
        let mut object = nothing(self.filter.kind());
        object["kind"] = json!(self.filter.kind().name());
        object["apiVersion"] = json!(self.filter.api_version());
        object["metadata"] = json!({"resourceVersion": self.told.to_string()});
        if initial {
            let annotations = json!({"k8s.io/initial-events-end": "true"});
            object["metadata"]["annotations"] = annotations;
        }
        event("BOOKMARK", object)
    }
}

/// What is left of an object without content: its required fields, a pod without even a list of
/// containers.
fn nothing(kind: Kind) -> Value {
    match kind {
        Kind::Pod => json!({"spec": {"containers": null}, "status": {}}),
        Kind::EndpointSlice => json!({"addressType": "", "endpoints": null, "ports": null}),
        Kind::ClusterRole => json!({"rules": null}),
        Kind::APIService => {
            json!({"spec": {"groupPriorityMinimum": 0, "versionPriority": 0}, "status": {}})
        }
        Kind::Service => json!({"spec": {}, "status": {"loadBalancer": {}}}),
        _ => json!({}),
    }
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn lines(events: impl Iterator<Item = Value>) -> Bytes {
    Bytes::from(events.map(|event| format!("{event}\n")).collect::<String>())
}

/// Every minute, and shortly before the end.
fn next_bookmark(now: Duration, end: Duration) -> Duration {
    let last = end.saturating_sub(LAST_BOOKMARK);
    if last > now { last.min(now + BOOKMARK_EVERY) } else { end }
}

/// Watches.
impl FakeApi {
    /// How many watches are open.
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.with(|state| Arc::strong_count(&state.watches.open) - 1)
    }

    /// Whether watches may ask for the initial state first. By default they may.
    pub fn set_watch_lists(&self, on: bool) {
        self.with(|state| state.watches.lists = on);
    }
}

/// The stream of an open watch.
#[derive(Debug)]
pub(crate) struct Stream {
    fake: FakeApi,
    watching: Watching,
    changes: Receiver<u64>,
}

/// A piece of a stream, and the rest of it, if there is one.
pub(crate) type Piece = Option<(Result<Bytes, ConnectionError>, Option<Stream>)>;

impl Stream {
    pub(crate) fn new(fake: FakeApi, watching: Watching) -> Self {
        let changes = fake.changes();
        Self { fake, watching, changes }
    }

    /// Waits for the next piece; `None` is the orderly end.
    pub(crate) async fn next(mut self) -> Piece {
        loop {
            self.changes.mark_unchanged();
            let look = self.fake.with(|state| self.watching.look(&state.cluster, &state.faults));
            let until = match look {
                Look::Tell(bytes) => return Some((Ok(bytes), Some(self))),
                Look::Over => return None,
                Look::Broken => return Some((Err(ConnectionError::Broken), None)),
                Look::Cut => {
                    // The break itself follows when the client reads on.
                    self.watching.breaks = u64::MAX;
                    let half = Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"kin");
                    return Some((Ok(half), Some(self)));
                }
                Look::Wait(until) => self.fake.instant(until),
            };
            tokio::select! {
                _ = self.changes.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }
}
