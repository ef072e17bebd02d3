//! The objects, their versions, and every change so far: what lists and watches are made of.
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use crate::api::{json as j, kind::Kind};

/// A stored object.
pub(crate) type Object = Arc<Value>;
/// Namespace and name.
pub(crate) type Key = (String, String);

/// More changes than this are forgotten, oldest first.
const HISTORY: usize = 20_000;

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The version that it made.
    pub(crate) version: u64,
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) old: Option<Object>,
    pub(crate) new: Option<Object>,
}

/// Everything that is stored.
#[derive(Debug)]
pub(crate) struct Store {
    version: u64,
    objects: BTreeMap<Kind, BTreeMap<Key, Object>>,
    history: VecDeque<Change>,
    /// Watches from versions before this one are expired.
    watchable_from: u64,
    /// Lists at versions before this one are expired.
    listable_from: u64,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            version: 1,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            watchable_from: 1,
            listable_from: 1,
        }
    }

    /// The version of the last change.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) const fn watchable_from(&self) -> u64 {
        self.watchable_from
    }

    pub(crate) const fn listable_from(&self) -> u64 {
        self.listable_from
    }

    pub(crate) const fn expire_watches(&mut self) {
        self.watchable_from = self.version;
    }

    pub(crate) const fn compact(&mut self) {
        self.listable_from = self.version;
    }

    /// Lets versions pass, as the rest of a real cluster does.
    pub(crate) const fn skip_versions(&mut self, versions: u64) {
        self.version += versions;
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.objects.get(&kind)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The objects of a kind in the order of namespace and name.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.get(&kind).into_iter().flatten()
    }

    pub(crate) fn in_namespace<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Object> {
        let from = (namespace.to_owned(), String::new());
        let objects = self.objects.get(&kind).into_iter();
        objects
            .flat_map(move |objects| objects.range(from.clone()..))
            .take_while(move |((ns, _), _)| ns == namespace)
            .map(|(_, object)| object)
    }

    /// Stores an object under its namespace and name. Nothing happens if it is as it was.
    pub(crate) fn put(&mut self, kind: Kind, mut object: Value, at: Duration) -> (Object, bool) {
        let key = (j::namespace(&object).to_owned(), j::name(&object).to_owned());
        let old = self.objects.get(&kind).and_then(|objects| objects.get(&key)).cloned();
        if let Some(old) = &old {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if object == **old {
                return (Arc::clone(old), false);
            }
            if kind.has_generation() && is_another_wish(kind, &object, old) {
                let generation = j::int(old, "/metadata/generation").unwrap_or(0) + 1;
                object["metadata"]["generation"] = json!(generation);
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let new = Arc::new(object);
        self.objects.entry(kind).or_default().insert(key.clone(), Arc::clone(&new));
        self.remember(Change {
            version: self.version,
            at,
            kind,
            key,
            old,
            new: Some(Arc::clone(&new)),
        });
        (new, true)
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, kind: Kind, key: &Key, at: Duration) -> Option<Object> {
        let mut old = self.objects.get_mut(&kind)?.remove(key)?;
        if j::int(&old, "/metadata/deletionGracePeriodSeconds").is_some_and(|left| left > 0) {
            // As its last event shows it.
            Arc::make_mut(&mut old)["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        self.version += 1;
        self.remember(Change {
            version: self.version,
            at,
            kind,
            key: key.clone(),
            old: Some(Arc::clone(&old)),
            new: None,
        });
        Some(old)
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back(change);
        if self.history.len() > HISTORY
            && let Some(forgotten) = self.history.pop_front()
        {
            self.watchable_from = self.watchable_from.max(forgotten.version);
            self.listable_from = self.listable_from.max(forgotten.version);
        }
    }

    /// The changes after a version.
    pub(crate) fn since(&self, version: u64) -> impl Iterator<Item = &Change> {
        let from = self.history.partition_point(|change| change.version <= version);
        self.history.range(from..)
    }

    /// The objects of a kind as they were at a version.
    pub(crate) fn at(&self, kind: Kind, version: u64) -> BTreeMap<Key, Object> {
        let mut objects = self.objects.get(&kind).cloned().unwrap_or_default();
        let later = self.history.iter().rev().take_while(|change| change.version > version);
        for change in later.filter(|change| change.kind == kind) {
            match &change.old {
                Some(old) => objects.insert(change.key.clone(), Arc::clone(old)),
                None => objects.remove(&change.key),
            };
        }
        objects
    }
}

/// Whether a change is one of the generation. A slice of endpoints has no spec: all of it counts,
/// and so do its labels.
fn is_another_wish(kind: Kind, new: &Value, old: &Value) -> bool {
    if kind != Kind::EndpointSlice {
        return new["spec"] != old["spec"];
    }
    ["addressType", "endpoints", "ports"].iter().any(|field| new[field] != old[field])
        || new["metadata"]["labels"] != old["metadata"]["labels"]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": "b"}, "spec": {"holderIdentity": holder}})
    }

    #[test]
    fn the_past_can_be_listed() {
        let mut store = Store::new();
        let put = |store: &mut Store, holder| {
            store.put(Kind::Lease, lease(holder), Duration::ZERO).0["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let first = put(&mut store, "x");
        let second = put(&mut store, "y");
        assert_eq!(put(&mut store, "y"), second, "no change, no version");
        let key = ("a".to_owned(), "b".to_owned());
        store.remove(Kind::Lease, &key, Duration::ZERO).unwrap();
        assert_eq!(store.version(), second + 1);
        assert_eq!(store.at(Kind::Lease, first)[&key]["spec"]["holderIdentity"], "x");
        assert_eq!(store.at(Kind::Lease, second)[&key]["spec"]["holderIdentity"], "y");
        assert!(store.at(Kind::Lease, second + 1).is_empty());
        assert!(store.at(Kind::Lease, first - 1).is_empty());
        assert_eq!(store.since(first).count(), 2);
    }
}
