//! The caps of the namespaces: the label `paramedic.dev/heal-at-most`, which limits every ceiling
//! in a namespace.
//!
//! One watch of the namespaces that have it. Before its first list is complete no cap is known, and
//! pods are only observed; while the API server is away the last known caps hold. For hard remedies
//! the API server checks the label once more: the fence also judges the dry run before a restart.
use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
};

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::watcher::{Config, Event},
};
use paramedic_api_server::follow_through;
use paramedic_core::target::{Cap, cap::HEAL_AT_MOST};

use super::Cluster;
use crate::pod::{NotWatchable, WatchedPod, watched_pod};

type Watched = PartialObjectMeta<Namespace>;

/// The caps of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Caps {
    /// Whether the first list is complete.
    known: bool,
    named: HashMap<String, Cap>,
    /// The namespaces in the list in progress.
    listed: HashSet<String>,
}

/// Which namespaces have another cap now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// None.
    Nothing,
    /// This one.
    One(String),
    /// Any.
    All,
}

impl Caps {
    /// The cap of a namespace.
    pub(crate) fn of(&self, namespace: &str) -> Cap {
        match self.named.get(namespace) {
            _ if !self.known => Cap::Unknown,
            Some(cap) => *cap,
            None => Cap::None,
        }
    }

    pub(crate) const fn are_known(&self) -> bool {
        self.known
    }

    pub(crate) fn take(&mut self, event: Event<Watched>) -> Changed {
        match event {
            Event::Init => {
                self.listed.clear();
                Changed::Nothing
            }
            Event::InitApply(namespace) => {
                let name = namespace.name_any();
                self.listed.insert(name.clone());
                self.set(name, cap_of(&namespace))
            }
            Event::Apply(namespace) => self.set(namespace.name_any(), cap_of(&namespace)),
            // Deleted, or its label was removed.
            Event::Delete(namespace) => {
                let name = namespace.name_any();
                let removed = self.named.remove(&name).is_some();
                if removed { Changed::One(name) } else { Changed::Nothing }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let before = self.named.len();
                self.named.retain(|name, _| listed.contains(name));
                let first = !std::mem::replace(&mut self.known, true);
                if first || self.named.len() != before { Changed::All } else { Changed::Nothing }
            }
        }
    }

    fn set(&mut self, name: String, cap: Option<Cap>) -> Changed {
        let Some(cap) = cap else { return Changed::Nothing };
        let before = self.named.insert(name.clone(), cap);
        if before == Some(cap) { Changed::Nothing } else { Changed::One(name) }
    }
}

fn cap_of(namespace: &Watched) -> Option<Cap> {
    namespace.labels().get(HEAL_AT_MOST).map(|label| Cap::read(label))
}

impl Cluster {
    /// What is watched of a pod, with its ceiling below the cap of its namespace.
    pub(crate) fn watched_pod(&self, pod: &Pod) -> Result<WatchedPod, NotWatchable> {
        let watched = watched_pod(pod)?;
        let cap = self.caps.lock().of(&watched.pod.namespace);
        let settings = watched.settings.under(cap);
        Ok(WatchedPod { settings, ..watched })
    }

    /// The changes of the caps, forever.
    pub(crate) fn follow_caps(&self) -> Pin<Box<dyn Stream<Item = Event<Watched>> + Send>> {
        let config = Config::default().labels(HEAL_AT_MOST);
        let unheard = "cannot watch the caps of namespaces (paramedic.dev/heal-at-most); the last \
                       known hold, and before the first list pods are only observed";
        follow_through(Api::<Watched>::all(self.client()), config, unheard).boxed()
    }
}

#[cfg(test)]
mod tests {
    use paramedic_core::target::Remedy;
    use serde_json::{from_value, json};

    use super::*;

    fn namespace(name: &str, most: &str) -> Watched {
        from_value(json!({ "metadata": { "name": name, "labels": { HEAL_AT_MOST: most } } }))
            .unwrap()
    }

    #[test]
    fn no_cap_is_known_before_the_first_list_is_complete() {
        let mut caps = Caps::default();
        caps.take(Event::Init);
        assert_eq!(caps.take(Event::InitApply(namespace("a", "soft"))), Changed::One("a".into()));
        assert_eq!((caps.of("a"), caps.of("b")), (Cap::Unknown, Cap::Unknown));
        assert_eq!(caps.take(Event::InitDone), Changed::All);
        assert_eq!((caps.of("a"), caps.of("b")), (Cap::Named(Remedy::Soft), Cap::None));
    }

    #[test]
    fn caps_follow_the_label_and_hold_through_a_new_list() {
        let mut caps = Caps::default();
        caps.take(Event::InitDone);
        assert_eq!(caps.take(Event::Apply(namespace("a", "soft"))), Changed::One("a".into()));
        assert_eq!(caps.take(Event::Apply(namespace("a", "soft"))), Changed::Nothing);
        caps.take(Event::Apply(namespace("b", "nonsense")));
        assert_eq!(caps.of("b"), Cap::Named(Remedy::Observe));
        caps.take(Event::Init);
        assert_eq!(caps.of("a"), Cap::Named(Remedy::Soft), "until the list is complete");
        caps.take(Event::InitApply(namespace("a", "soft")));
        assert_eq!(caps.take(Event::InitDone), Changed::All);
        assert_eq!((caps.of("a"), caps.of("b")), (Cap::Named(Remedy::Soft), Cap::None));
        assert_eq!(caps.take(Event::Delete(namespace("a", "soft"))), Changed::One("a".into()));
        assert_eq!(caps.of("a"), Cap::None);
    }
}
