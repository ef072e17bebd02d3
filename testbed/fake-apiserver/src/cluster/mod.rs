//! What all resources share: the objects with their versions, the time, and the queue of what
//! will happen.
//!
//! Nothing runs in the background. What a controller or kubelet would do later is in the queue,
//! and `State::settle` catches up with it before each request: each step at its own time, in
//! order. So the outcome depends on the clock alone, not on the number of requests.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    api::{
        json as j,
        kind::Kind,
        make,
        status::{About, Status},
    },
    resources::pods,
};

pub(crate) mod clock;
pub(crate) mod store;
pub(crate) mod timing;

use store::{Key, Object, Store};
use timing::Timing;

/// What will happen.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    /// A step in the life of a pod.
    Pod(pods::Due),
    /// A controller creates the pods that its workload lacks.
    Replicas(Kind, Key),
    /// Budgets of a namespace forget a disruption that did not happen.
    Budgets(String),
    /// The garbage collector checks the owners of a new object.
    Orphan(Kind, Key),
    /// An Event is too old.
    EventExpires { key: Key, version: u64 },
}

/// What all resources share.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Time since the fake was made, as of the step that is being taken.
    pub(crate) now: Duration,
    pub(crate) store: Store,
    pub(crate) timing: Timing,
    /// Changes with whatever an open watch might want to know.
    pub(crate) pulse: u64,
    due: BTreeMap<(Duration, u64), Due>,
    /// The namespaces that the controllers have not seen since a change.
    dirty: BTreeSet<String>,
    serial: u64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            now: Duration::ZERO,
            store: Store::new(),
            timing: Timing::default(),
            pulse: 0,
            due: BTreeMap::new(),
            dirty: BTreeSet::new(),
            serial: 0,
        }
    }

    /// Takes the next step that is due by `now` out of the queue, and moves the time to it.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Due> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        let ((at, _), due) = first.remove_entry();
        self.advance(at);
        self.pulse += 1;
        Some(due)
    }

    /// Moves the time on; it never goes back.
    pub(crate) fn advance(&mut self, now: Duration) {
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

    /// A namespace that the controllers have not seen since a change.
    pub(crate) fn take_dirty(&mut self) -> Option<String> {
        self.dirty.pop_first()
    }

    /// Makes the controllers look at a namespace again.
    pub(crate) fn mark_dirty(&mut self, namespace: String) {
        self.dirty.insert(namespace);
    }

    /// Makes the controllers look at every namespace again.
    pub(crate) fn mark_all_dirty(&mut self) {
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
            self.mark_dirty(namespace);
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

    /// Sets one condition of a status; its time moves only if its status does.
    pub(crate) fn set_condition(&self, status: &mut Value, mut condition: Value) {
        condition["lastTransitionTime"] = self.date();
        let conditions = &mut status["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let Some(conditions) = conditions.as_array_mut() else { return };
        match conditions.iter_mut().find(|c| c["type"] == condition["type"]) {
            Some(old) => {
                if old["status"] == condition["status"] {
                    condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
                }
                *old = condition;
            }
            None => conditions.push(condition),
        }
    }
}
