//! What to write: a pure function of a namespace's policies and pods.
//!
//! A pod that one valid policy matches gets what it says. A pod that several match gets nothing of
//! any: which one is meant is for people to say, and in doubt nothing is done. Keys that are not
//! ours are never touched, see [`crate::record`].
use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Selector, SelectorExt as _};
use paramedic_core::target::consent::{HEAL_LABEL, HEAL_PATH, SOFT};
use serde_json::{Map, Value, json};

use crate::{
    policy::HealingPolicySpec,
    record::{FROM_POLICY, Record},
    settings::{KEYS, Settings, settings},
};

/// Set by an agent on a pod that it has put into quarantine.
const QUARANTINED: &str = "paramedic.dev/quarantined";

/// A policy, read.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Which pods it is for; `None` if its selector cannot be read: then it matches none.
    selector: Option<Selector>,
    /// What it sets, or why it sets nothing.
    settings: Result<Settings, String>,
}

impl Policy {
    /// Reads a spec.
    #[must_use]
    pub fn new(name: &str, spec: &HealingPolicySpec) -> Self {
        let (selector, settings) = match Selector::try_from(spec.selector.clone()) {
            Ok(selector) => (Some(selector), settings(spec)),
            Err(error) => (None, Err(format!("selector: {error}"))),
        };
        Self { name: name.to_owned(), selector, settings }
    }

    /// A policy whose spec cannot be read: it matches no pod.
    #[must_use]
    pub fn unreadable(name: &str, error: &str) -> Self {
        let settings = Err(format!("this controller cannot read the spec: {error}"));
        Self { name: name.to_owned(), selector: None, settings }
    }

    fn matches(&self, pod: &Pod) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    }

    /// Why it sets nothing, if it is invalid.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.settings.as_ref().err().map(String::as_str)
    }
}

/// What is used of a pod that has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion: a write that names an older one is refused.
    pub version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations `paramedic.dev/…`.
    pub annotations: BTreeMap<String, String>,
}

impl Pod {
    fn value(&self, key: &str) -> Option<&String> {
        if key == HEAL_LABEL { self.labels.get(key) } else { self.annotations.get(key) }
    }

    fn record(&self) -> Record {
        let annotation = self.annotations.get(FROM_POLICY);
        Record::read(annotation.map(String::as_str), &self.uid)
    }

    /// Whether it is out of its Services, for people to look at. Then it has lost labels by which
    /// policies select, and must keep the keys by which its agent still knows it.
    fn is_quarantined(&self) -> bool {
        self.labels.contains_key(QUARANTINED) || self.annotations.contains_key(QUARANTINED)
    }

    /// Whether something was written on it that a policy may have to take away.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.annotations.contains_key(FROM_POLICY)
    }
}

/// A change of a pod's metadata: values by keys, `None` removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The pod's name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// The version that was judged.
    pub version: String,
    /// The keys and their values, with that of the record.
    pub keys: BTreeMap<String, Option<String>>,
}

impl Change {
    /// The merge patch. It is refused if the pod has changed since.
    #[must_use]
    pub fn patch(&self) -> Value {
        let of = |label: bool| -> Map<String, Value> {
            let keys = self.keys.iter().filter(|(key, _)| (*key == HEAL_LABEL) == label);
            keys.map(|(key, value)| (key.clone(), json!(value))).collect()
        };
        let mut metadata = json!({ "uid": self.uid, "resourceVersion": self.version });
        for (place, keys) in [("labels", of(true)), ("annotations", of(false))] {
            if !keys.is_empty() {
                metadata[place] = Value::Object(keys);
            }
        }
        json!({ "metadata": metadata })
    }
}

/// What a policy comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The uids of the pods that it matches.
    pub matched: BTreeSet<String>,
    /// How many of them need no change.
    pub applied: usize,
    /// The policies that match some of the same pods.
    pub rivals: BTreeSet<String>,
    /// One of the pods that it shares with them.
    pub shared: Option<String>,
}

/// What to write, and what each policy comes to, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes of pods.
    pub changes: Vec<Change>,
    /// By the policy's name.
    pub reach: BTreeMap<String, Reach>,
}

/// Plans one namespace.
#[must_use]
pub fn plan<'a>(policies: &[&Policy], pods: impl IntoIterator<Item = &'a Pod>) -> Plan {
    let mut plan = Plan {
        reach: policies.iter().map(|policy| (policy.name.clone(), Reach::default())).collect(),
        ..Plan::default()
    };
    for pod in pods.into_iter().filter(|pod| !pod.is_quarantined()) {
        let matching: Vec<&Policy> =
            policies.iter().copied().filter(|policy| policy.matches(pod)).collect();
        let only = match matching.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        let change = change(pod, only, !matching.is_empty());
        for policy in &matching {
            let Some(reach) = plan.reach.get_mut(&policy.name) else { continue };
            reach.matched.insert(pod.uid.clone());
            let is_applied = only.is_some_and(|only| only.settings.is_ok()) && change.is_none();
            reach.applied += usize::from(is_applied);
            let rivals = matching.iter().filter(|other| other.name != policy.name);
            reach.rivals.extend(rivals.map(|other| other.name.clone()));
            if only.is_none() {
                reach.shared.get_or_insert_with(|| pod.name.clone());
            }
        }
        plan.changes.extend(change);
    }
    plan
}

/// What must change on a pod, if anything. `only` is the one policy that matches it; `matched`
/// whether any does.
fn change(pod: &Pod, only: Option<&Policy>, matched: bool) -> Option<Change> {
    let record = pod.record();
    let mut wanted = only.and_then(|policy| policy.settings.as_ref().ok()).cloned();
    let wanted = wanted.get_or_insert_default();
    if pod.annotations.contains_key(HEAL_PATH) {
        // The pod names its soft remedy in the older way, which ours would take the place of.
        wanted.remove(SOFT);
    }
    let mut keys = BTreeMap::new();
    let mut set = BTreeMap::new();
    for key in KEYS {
        let (is, ours) = (pod.value(key), record.set.get(key));
        match (ours, wanted.get(key)) {
            (None, Some(value)) if is.is_none() => {
                keys.insert(key.to_owned(), Some(value.clone()));
                set.insert(key.to_owned(), value.clone());
            }
            (None, _) => {}
            // Somebody has changed or removed it: it is theirs as long as any policy matches.
            (Some(ours), _) if is != Some(ours) => {
                if matched {
                    set.insert(key.to_owned(), ours.clone());
                }
            }
            (Some(ours), Some(value)) => {
                if ours != value {
                    keys.insert(key.to_owned(), Some(value.clone()));
                }
                set.insert(key.to_owned(), value.clone());
            }
            (Some(_), None) => {
                keys.insert(key.to_owned(), None);
            }
        }
    }
    let policy = only.map_or(record.policy, |policy| policy.name.clone());
    let written = Record { policy, pod: pod.uid.clone(), set }.written();
    if written.as_ref() != pod.annotations.get(FROM_POLICY) {
        keys.insert(FROM_POLICY.to_owned(), written);
    }
    let (name, uid, version) = (pod.name.clone(), pod.uid.clone(), pod.version.clone());
    (!keys.is_empty()).then_some(Change { pod: name, uid, version, keys })
}

#[cfg(test)]
pub(crate) mod tests;
