//! The cluster behind the fake: what is stored, what is due, and when.
//!
//! Nothing runs in the background. What a controller or kubelet would do later stands in a queue,
//! and [`State::settle`] catches up with it whenever somebody looks: each step at its own time,
//! in order. So the outcome depends on the clock alone, not on who asked how often.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    access::Access,
    clock,
    faults::Faults,
    json as j,
    kind::Kind,
    kubelet::Life,
    log::{Evicted, Logged},
    make,
    status::{About, Status},
    store::{Key, Object, Store},
    timing::Timing,
    workloads::Workloads,
};

/// One pod, and not a later one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl PodRef {
    pub(crate) fn of(pod: &Value) -> Self {
        Self {
            namespace: j::namespace(pod).to_owned(),
            name: j::name(pod).to_owned(),
            uid: j::uid(pod).to_owned(),
        }
    }
}

/// What will happen.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    /// A pod's containers run.
    Runs(PodRef),
    /// A container becomes ready, if it is still this one.
    Ready { pod: PodRef, container_id: String },
    /// The kubelet notices that a container is dead.
    Died { pod: PodRef, container: String, exit_code: i64, at: Duration },
    /// The short moment in which a back-off shows.
    BackingOff { pod: PodRef, container: String, seconds: u64 },
    /// A container runs again.
    Restarted { pod: PodRef, container: String },
    /// A terminating pod is gone.
    Gone(PodRef),
    /// A controller makes up its pods.
    Replicas(Kind, Key),
    /// Budgets of a namespace forget a disruption that did not happen.
    Budgets(String),
    /// The owners of a new object are looked at.
    Orphan(Kind, Key),
    /// An Event is too old.
    EventExpires { key: Key, version: u64 },
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    /// Time since the fake was made, as of the step that is being taken.
    pub(crate) now: Duration,
    pub(crate) store: Store,
    pub(crate) timing: Timing,
    pub(crate) access: Access,
    pub(crate) faults: Faults,
    pub(crate) log: Vec<Logged>,
    /// Requests that came before those in the log.
    pub(crate) log_begins: usize,
    pub(crate) evictions: Vec<Evicted>,
    pub(crate) workloads: Workloads,
    pub(crate) lives: BTreeMap<(String, String), Life>,
    /// Whether the controller that keeps budgets up to date is stopped.
    pub(crate) budgets_paused: bool,
    /// Whether watches may ask for the initial state first.
    pub(crate) watch_lists: bool,
    /// Every open watch has a share of it.
    pub(crate) open_watches: Arc<()>,
    /// Changes with whatever an open watch might want to know.
    pub(crate) pulse: u64,
    due: BTreeMap<(Duration, u64), Due>,
    dirty: BTreeSet<String>,
    serial: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        let mut state = Self {
            now: Duration::ZERO,
            store: Store::new(),
            timing: Timing::default(),
            access: Access::default(),
            faults: Faults::default(),
            log: Vec::new(),
            log_begins: 0,
            evictions: Vec::new(),
            workloads: Workloads::default(),
            lives: BTreeMap::new(),
            budgets_paused: false,
            watch_lists: true,
            open_watches: Arc::default(),
            pulse: 0,
            due: BTreeMap::new(),
            dirty: BTreeSet::new(),
            serial: 0,
        };
        for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            state.ensure_namespace(namespace);
        }
        state
    }

    /// Takes every step that is due by `now`.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.reconcile();
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), due) = first.remove_entry();
            self.now = self.now.max(at);
            self.pulse += 1;
            self.step(due);
            self.reconcile();
        }
        self.now = self.now.max(now);
    }

    /// When the next step is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn schedule(&mut self, after: Duration, due: Due) {
        self.serial += 1;
        self.pulse += 1;
        self.due.insert((self.now + after, self.serial), due);
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Runs(pod) => self.pod_runs(&pod),
            Due::Ready { pod, container_id } => self.container_ready(&pod, &container_id),
            Due::Died { pod, container, exit_code, at } => {
                self.container_died(&pod, &container, exit_code, at);
            }
            Due::BackingOff { pod, container, seconds } => {
                self.container_backs_off(&pod, &container, seconds);
            }
            Due::Restarted { pod, container } => self.container_restarted(&pod, &container),
            Due::Gone(pod) => self.pod_gone(&pod),
            Due::Replicas(kind, key) => self.make_up(kind, &key),
            Due::Orphan(kind, key) => self.collect_orphan(kind, &key),
            Due::Budgets(namespace) => {
                self.dirty.insert(namespace);
            }
            Due::EventExpires { key, version } => {
                let event = self.store.get(Kind::Event, &key.0, &key.1);
                if event.is_some_and(|event| j::version(event) == version) {
                    self.erase(Kind::Event, &key);
                }
            }
        }
    }

    /// Lets the controllers look at whatever changed.
    fn reconcile(&mut self) {
        while let Some(namespace) = self.dirty.pop_first() {
            self.sync_workloads(&namespace);
            if !self.budgets_paused {
                self.sync_budgets(&namespace);
            }
        }
    }

    /// Makes the controllers look at every namespace again.
    pub(crate) fn look_again(&mut self) {
        self.dirty = self.store.all(Kind::Namespace).map(|((_, name), _)| name.clone()).collect();
    }

    /// A number that was never given before.
    pub(crate) const fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn date(&self) -> Value {
        json!(clock::rfc3339(self.now))
    }

    /// Stores an object, new or changed.
    pub(crate) fn write(&mut self, kind: Kind, object: Value) -> Object {
        let (object, changed) = self.store.put(kind, object, self.now);
        if changed {
            self.changed(kind, j::namespace(&object).to_owned());
        }
        object
    }

    /// Stores the status that a controller has derived. No other controller looks at it.
    pub(crate) fn write_status(&mut self, kind: Kind, object: &Value, status: Value) {
        if object["status"] == status {
            return;
        }
        let mut object = object.clone();
        object["status"] = status;
        self.store.put(kind, object, self.now);
        self.pulse += 1;
    }

    /// Stores a new object with what a server adds.
    pub(crate) fn create(&mut self, kind: Kind, object: Value) -> Object {
        let object = self.complete(kind, object);
        self.write(kind, object)
    }

    /// What a server adds to a new object: kind, uid, creation time and generation.
    pub(crate) fn complete(&mut self, kind: Kind, mut object: Value) -> Value {
        object["kind"] = json!(kind.name());
        object["apiVersion"] = json!(kind.api_version());
        let (uid, date) = (make::uid(self.serial()), self.date());
        let metadata = &mut object["metadata"];
        for (key, value) in [("uid", json!(uid)), ("creationTimestamp", date)] {
            if metadata[key].is_null() {
                metadata[key] = value;
            }
        }
        if kind.has_generation() && metadata["generation"].is_null() {
            metadata["generation"] = json!(1);
        }
        object
    }

    /// Changes an object, if it is there.
    pub(crate) fn update(
        &mut self,
        kind: Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Option<Object> {
        let mut object = Value::clone(self.store.get(kind, namespace, name)?);
        change(&mut object);
        Some(self.write(kind, object))
    }

    /// Removes an object at once.
    pub(crate) fn erase(&mut self, kind: Kind, key: &Key) -> Option<Object> {
        let object = self.store.remove(kind, key, self.now)?;
        self.changed(kind, key.0.clone());
        Some(object)
    }

    fn changed(&mut self, kind: Kind, namespace: String) {
        self.pulse += 1;
        if kind.concerns_controllers() {
            self.dirty.insert(namespace);
        }
    }

    pub(crate) fn ensure_namespace(&mut self, name: &str) {
        if self.store.get(Kind::Namespace, "", name).is_none() {
            self.create(Kind::Namespace, make::namespace(name));
        }
    }

    /// Nothing can be created in a namespace that does not exist.
    pub(crate) fn require_namespace(&self, name: &str) -> Result<(), Status> {
        match self.store.get(Kind::Namespace, "", name) {
            Some(_) => Ok(()),
            None => Err(Status::not_found(About::new(Kind::Namespace, name))),
        }
    }

    /// The pod, if it is still this one.
    pub(crate) fn pod(&self, pod: &PodRef) -> Option<&Object> {
        let found = self.store.get(Kind::Pod, &pod.namespace, &pod.name)?;
        (j::uid(found) == pod.uid).then_some(found)
    }

    /// Changes a pod, if it is still this one.
    pub(crate) fn update_pod(&mut self, pod: &PodRef, change: impl FnOnce(&mut Value)) {
        if self.pod(pod).is_some() {
            self.update(Kind::Pod, &pod.namespace, &pod.name, change);
        }
    }
}
