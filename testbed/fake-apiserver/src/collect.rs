//! Garbage collection: what belonged to something that is gone goes too.
use std::time::Duration;

use serde_json::Value;

use crate::{
    json as j,
    kind::Kind,
    state::{Due, State},
    store::{Key, Object},
};

/// How soon it is noticed that a new object belongs to nothing that exists.
const NOTICED_AFTER: Duration = Duration::from_secs(1);

impl State {
    /// Collects what a removed object owned. What has another owner only loses this one.
    pub(crate) fn collect_owned_by(&mut self, gone: &Value) {
        let uid = j::uid(gone);
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_plain()) {
            let owned: Vec<Object> = self
                .store
                .all(kind)
                .map(|(_, object)| object)
                .filter(|object| owners(object).iter().any(|o| j::text(o, "/uid") == uid))
                .cloned()
                .collect();
            for object in owned {
                if self.is_orphan(&object) {
                    self.remove(kind, &object, None);
                    continue;
                }
                self.update(kind, j::namespace(&object), j::name(&object), |object| {
                    if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                        owners.retain(|owner| j::text(owner, "/uid") != uid);
                    }
                });
            }
        }
    }

    /// Has the owners of a new object looked at in a while.
    pub(crate) fn collect_later(&mut self, kind: Kind, object: &Value) {
        if !owners(object).is_empty() {
            let key = (j::namespace(object).to_owned(), j::name(object).to_owned());
            self.schedule(NOTICED_AFTER, Due::Orphan(kind, key));
        }
    }

    pub(crate) fn collect_orphan(&mut self, kind: Kind, key: &Key) {
        let object = self.store.get(kind, &key.0, &key.1).cloned();
        if let Some(object) = object.filter(|object| self.is_orphan(object)) {
            self.remove(kind, &object, None);
        }
    }

    /// Whether an object had owners, of which none is there.
    fn is_orphan(&self, object: &Value) -> bool {
        let owners = owners(object);
        !owners.is_empty() && owners.iter().all(|o| self.is_gone(o, j::namespace(object)))
    }

    /// An owner is in the same namespace or in none, and has the uid that it had. One of a kind
    /// that is unknown here is believed in.
    fn is_gone(&self, owner: &Value, namespace: &str) -> bool {
        let api_version = j::text(owner, "/apiVersion");
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let mut kinds = Kind::ALL.into_iter();
        let named = |kind: &Kind| (kind.group(), kind.name()) == (group, j::text(owner, "/kind"));
        let Some(kind) = kinds.find(named) else { return false };
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        let found = self.store.get(kind, namespace, j::text(owner, "/name"));
        found.is_none_or(|found| j::uid(found) != j::text(owner, "/uid"))
    }
}

fn owners(object: &Value) -> &[Value] {
    j::list(object, "/metadata/ownerReferences")
}
