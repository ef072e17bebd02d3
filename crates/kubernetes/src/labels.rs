//! Which labels take a pod out of its Services or its workload, and put it back. Pure: pods in,
//! changes out.
//!
//! A drained pod carries `paramedic.dev/serving: "false"` and the time at which it must be back. A
//! quarantined one lacks the labels that its controller and its Services select it by, and an
//! annotation holds them.
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector, jiff::Timestamp,
};
use kube::core::{Selector, SelectorExt as _};
use paramedic_core::target::Obstacle;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The label by which a Service selects only pods that are to serve: `"true"`, and `"false"` while a
/// pod is drained.
pub const SERVING: &str = "paramedic.dev/serving";
/// The annotation of a drained pod: when it must be back, by the API server's clock (RFC 3339).
pub const DRAINED_UNTIL: &str = "paramedic.dev/drained-until";
/// The annotation of a quarantined pod: [`Quarantined`] as JSON.
pub const QUARANTINED: &str = "paramedic.dev/quarantined";

/// Labels with this prefix are Paramedic's own, and never taken.
const OWN: &str = "paramedic.dev/";

/// Labels of a pod.
pub type Labels = BTreeMap<String, String>;

/// What a controller or a Service selects pods by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodSelector {
    keys: BTreeSet<String>,
    selector: Selector,
}

impl PodSelector {
    /// That of a controller; `None` if it cannot be read.
    pub(crate) fn of(selector: &LabelSelector) -> Option<Self> {
        let labels = selector.match_labels.iter().flatten().map(|(key, _)| key.clone());
        let expressions = selector.match_expressions.iter().flatten().map(|e| e.key.clone());
        let keys = labels.chain(expressions).collect();
        Some(Self { keys, selector: selector.clone().try_into().ok()? })
    }

    /// That of a Service; one without a selector selects nothing.
    pub(crate) fn of_service(labels: &Labels) -> Option<Self> {
        let keys = labels.keys().cloned().collect();
        let selector = labels.clone().into_iter().collect();
        (!labels.is_empty()).then_some(Self { keys, selector })
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.selector.matches(labels)
    }

    /// Whether it depends on this label.
    pub(crate) fn names(&self, key: &str) -> bool {
        self.keys.contains(key)
    }
}

/// What was done to a quarantined pod, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The labels that were taken.
    pub labels: Labels,
    /// The workload that it was taken from, as `Deployment/web`.
    pub workload: String,
    /// When, by the API server's clock.
    pub at: Timestamp,
    /// When the agent of its node evicts it.
    pub until: Timestamp,
    /// The incident in that agent's journal.
    pub incident: Option<i64>,
    /// The agent, as `NODE/START`.
    pub by: String,
}

impl Quarantined {
    /// Of a pod, if it is in quarantine.
    ///
    /// # Errors
    /// What is wrong with the annotation.
    pub(crate) fn of(pod: &Pod) -> Option<Result<Self, String>> {
        let text = annotation(pod, QUARANTINED)?;
        Some(serde_json::from_str(text).map_err(|error| error.to_string()))
    }
}

/// The labels that must be taken so that neither the controller nor any of the Services selects the
/// pod.
///
/// # Errors
/// That this is not possible.
pub(crate) fn to_take(
    labels: &Labels,
    controller: &PodSelector,
    services: &[PodSelector],
) -> Result<Labels, Obstacle> {
    let selecting: Vec<&PodSelector> = services
        .iter()
        .filter(|service| service.matches(labels))
        .chain(std::iter::once(controller))
        .collect();
    let is_taken = |key: &str| !key.starts_with(OWN) && selecting.iter().any(|s| s.names(key));
    let (taken, left): (Labels, Labels) =
        labels.clone().into_iter().partition(|(key, _)| is_taken(key));
    if taken.is_empty() || selecting.iter().any(|selector| selector.matches(&left)) {
        return Err(Obstacle::StillSelected);
    }
    Ok(taken)
}

/// When a drained pod must be back, if it is drained. An annotation that is no time is not the
/// agent's.
pub(crate) fn drained_until(pod: &Pod) -> Option<Timestamp> {
    annotation(pod, DRAINED_UNTIL)?.parse().ok()
}

/// What puts a drained pod back; `None` if it is not drained. A label that others have changed since
/// is left to them.
pub(crate) fn put_back(pod: &Pod) -> Option<Value> {
    annotation(pod, DRAINED_UNTIL)?;
    let mut change = change_of(pod);
    change["metadata"]["annotations"] = json!({ DRAINED_UNTIL: null });
    if label(pod, SERVING) == Some("false") {
        change["metadata"]["labels"] = json!({ SERVING: "true" });
    }
    Some(change)
}

/// What `paramedic release` does to a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The change, as a JSON merge patch of just this version of the pod.
    pub change: Value,
    /// The labels that come back.
    pub labels: Labels,
    /// The workload that a quarantined pod goes back to; `None`: it was only drained.
    pub workload: Option<String>,
}

/// Why there is nothing to release, or not safely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRelease {
    /// It is neither in quarantine nor drained.
    #[error("it is neither in quarantine nor drained: there is nothing to release")]
    Nothing,
    /// Somebody else changed the annotation.
    #[error(
        "its annotation {QUARANTINED} cannot be read ({0}): set its labels by hand, then remove it"
    )]
    Unreadable(String),
    /// Somebody else has set its labels.
    #[error(
        "set to something else meanwhile: {}; remove these labels, or remove the annotation \
         {QUARANTINED} if they are meant", .0.join(", ")
    )]
    Changed(Vec<String>),
}

/// Undoes a quarantine and a drain, exactly.
///
/// # Errors
/// See [`NoRelease`].
pub fn release(pod: &Pod) -> Result<Release, NoRelease> {
    let record = Quarantined::of(pod).transpose().map_err(NoRelease::Unreadable)?;
    let back = put_back(pod);
    if record.is_none() && back.is_none() {
        return Err(NoRelease::Nothing);
    }
    let mut change = back.unwrap_or_else(|| change_of(pod));
    let mut labels: Labels = text_of(&change["metadata"]["labels"]);
    let workload = record.as_ref().map(|record| record.workload.clone());
    if let Some(record) = record {
        let other = |(key, value): (&String, &String)| {
            let now = label(pod, key).filter(|now| now != value)?;
            Some(format!("{key}={now} (it was {value})"))
        };
        let changed: Vec<String> = record.labels.iter().filter_map(other).collect();
        if !changed.is_empty() {
            return Err(NoRelease::Changed(changed));
        }
        change["metadata"]["annotations"][QUARANTINED] = Value::Null;
        labels.extend(record.labels);
        change["metadata"]["labels"] = json!(labels);
    }
    Ok(Release { change, labels, workload })
}

/// Takes a pod out of its Services until `until`.
pub(crate) fn drain(pod: &Pod, until: Timestamp) -> Value {
    let mut change = change_of(pod);
    change["metadata"]["labels"] = json!({ SERVING: "false" });
    change["metadata"]["annotations"] = json!({ DRAINED_UNTIL: until.to_string() });
    change
}

/// Puts a pod into quarantine.
pub(crate) fn quarantine(pod: &Pod, record: &Quarantined) -> Value {
    let mut change = change_of(pod);
    let taken: Map<String, Value> =
        record.labels.keys().map(|key| (key.clone(), Value::Null)).collect();
    change["metadata"]["labels"] = Value::Object(taken);
    let text = serde_json::to_string(record).unwrap_or_default();
    change["metadata"]["annotations"] = json!({ QUARANTINED: text });
    change
}

/// A change of just this version of the pod: whoever else changes it in between, wins.
fn change_of(pod: &Pod) -> Value {
    let metadata = &pod.metadata;
    json!({ "metadata": { "uid": metadata.uid, "resourceVersion": metadata.resource_version } })
}

fn text_of(labels: &Value) -> Labels {
    let pairs = labels.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

pub(crate) fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selector(value: Value) -> PodSelector {
        PodSelector::of(&from_value(value).unwrap()).unwrap()
    }

    fn service(pairs: &[(&str, &str)]) -> PodSelector {
        PodSelector::of_service(&labels(pairs)).unwrap()
    }

    fn pod(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Pod {
        let map = |pairs: &[(&str, &str)]| json!(self::labels(pairs));
        from_value(json!({ "metadata": {
            "name": "a", "uid": "u", "resourceVersion": "7",
            "labels": map(labels), "annotations": map(annotations),
        } }))
        .unwrap()
    }

    #[test]
    fn only_labels_that_select_it_are_taken() {
        let of_pod = labels(&[
            ("app", "web"),
            ("pod-template-hash", "abc"),
            ("tier", "front"),
            ("team", "shop"),
            ("paramedic.dev/heal", "evict"),
            ("paramedic.dev/serving", "true"),
        ]);
        let set = selector(json!({
            "matchLabels": { "app": "web", "pod-template-hash": "abc" },
        }));
        let services = [
            service(&[("tier", "front"), ("paramedic.dev/serving", "true")]),
            service(&[("team", "other")]),
        ];
        let taken = to_take(&of_pod, &set, &services).unwrap();
        let expected = [("app", "web"), ("pod-template-hash", "abc"), ("tier", "front")];
        assert_eq!(taken, labels(&expected));
        assert_eq!(to_take(&of_pod, &set, &[]).unwrap(), labels(&expected[..2]));
    }

    #[test]
    fn a_pod_that_would_still_be_selected_is_refused() {
        let of_pod = labels(&[("app", "web"), ("paramedic.dev/heal", "evict")]);
        for set in [
            json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": ["db"] }] }),
            json!({ "matchLabels": { "paramedic.dev/heal": "evict" } }),
            json!({}),
        ] {
            let refused = to_take(&of_pod, &selector(set.clone()), &[]);
            assert_eq!(refused, Err(Obstacle::StillSelected), "{set}");
        }
        let set = selector(json!({ "matchLabels": { "app": "web" } }));
        let by_own = [service(&[("paramedic.dev/heal", "evict")])];
        assert_eq!(to_take(&of_pod, &set, &by_own), Err(Obstacle::StillSelected));
        assert_eq!(PodSelector::of_service(&Labels::new()), None, "it selects nothing");
    }

    #[test]
    fn a_drained_pod_goes_back_and_what_others_did_stays() {
        let until = "2026-11-30T10:00:00Z";
        let drained = drain(&pod(&[(SERVING, "true")], &[]), until.parse().unwrap());
        let metadata = json!({
            "uid": "u", "resourceVersion": "7", "labels": { SERVING: "false" },
            "annotations": { DRAINED_UNTIL: until },
        });
        assert_eq!(drained, json!({ "metadata": metadata }));

        let back = |labels: &[(&str, &str)]| {
            let back = put_back(&pod(labels, &[(DRAINED_UNTIL, until)])).unwrap();
            assert_eq!(back["metadata"]["annotations"], json!({ DRAINED_UNTIL: null }));
            back["metadata"]["labels"].clone()
        };
        assert_eq!(back(&[(SERVING, "false")]), json!({ SERVING: "true" }));
        assert_eq!(back(&[(SERVING, "true")]), Value::Null);
        assert_eq!(back(&[(SERVING, "canary")]), Value::Null);
        assert_eq!(back(&[]), Value::Null);
        assert_eq!(put_back(&pod(&[(SERVING, "false")], &[])), None, "taken out by its owner");
        let by_others = pod(&[], &[(DRAINED_UNTIL, "tomorrow")]);
        assert_eq!(drained_until(&by_others), None);
    }

    fn record() -> Quarantined {
        Quarantined {
            labels: labels(&[("app", "web"), ("hash", "abc")]),
            workload: "Deployment/web".to_owned(),
            at: "2026-11-30T10:00:00Z".parse().unwrap(),
            until: "2026-12-01T10:00:00Z".parse().unwrap(),
            incident: Some(7),
            by: "node1/5".to_owned(),
        }
    }

    #[test]
    fn a_release_restores_exactly_what_was_taken() {
        let before = pod(&[("app", "web"), ("hash", "abc"), ("team", "shop")], &[]);
        let change = quarantine(&before, &record());
        let taken = json!({ "app": null, "hash": null });
        assert_eq!(change["metadata"]["labels"], taken);
        let text = change["metadata"]["annotations"][QUARANTINED].as_str().unwrap();
        let kept = pod(&[("team", "shop")], &[(QUARANTINED, text)]);
        assert_eq!(Quarantined::of(&kept), Some(Ok(record())));

        let release = release(&kept).unwrap();
        assert_eq!(release.labels, record().labels);
        assert_eq!(release.workload.as_deref(), Some("Deployment/web"));
        assert_eq!(release.change["metadata"]["labels"], json!({ "app": "web", "hash": "abc" }));
        assert_eq!(release.change["metadata"]["annotations"], json!({ QUARANTINED: null }));
        assert_eq!(release.change["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn a_release_refuses_what_others_have_changed() {
        let text = serde_json::to_string(&record()).unwrap();
        let of = |labels: &[(&str, &str)]| release(&pod(labels, &[(QUARANTINED, &text)]));
        let changed = of(&[("app", "debug"), ("hash", "abc")]).unwrap_err();
        assert_eq!(changed, NoRelease::Changed(vec!["app=debug (it was web)".to_owned()]));
        assert!(of(&[("app", "web")]).is_ok(), "the same as before");
        let unreadable = release(&pod(&[], &[(QUARANTINED, "{}")])).unwrap_err();
        assert!(matches!(unreadable, NoRelease::Unreadable(_)), "{unreadable}");
        assert_eq!(release(&pod(&[(SERVING, "false")], &[])), Err(NoRelease::Nothing));
    }

    #[test]
    fn a_release_undoes_a_drain_too() {
        let drained = [(DRAINED_UNTIL, "2026-11-30T10:00:00Z")];
        let only = release(&pod(&[(SERVING, "false")], &drained)).unwrap();
        assert_eq!(only.labels, labels(&[(SERVING, "true")]));
        assert_eq!(only.workload, None);
        let text = serde_json::to_string(&record()).unwrap();
        let both = [drained[0], (QUARANTINED, text.as_str())];
        let both = release(&pod(&[(SERVING, "false")], &both)).unwrap();
        assert_eq!(both.labels.len(), 3);
        let gone = json!({ DRAINED_UNTIL: null, QUARANTINED: null });
        assert_eq!(both.change["metadata"]["annotations"], gone);
    }
}
