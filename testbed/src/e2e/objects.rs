//! The fields of the cluster's objects that the scenes read.
use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Owner {
    pub(super) uid: String,
}

/// An object of which only the metadata matters.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    pub(super) metadata: Metadata,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    ip: String,
    conditions: Vec<Condition>,
    container_statuses: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    message: String,
}

/// A container as the kubelet sees it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    image: String,
    #[serde(rename = "containerID")]
    pub(super) id: String,
    pub(super) restart_count: u32,
    state: State,
    last_state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    exit_code: i32,
    reason: String,
}

impl Pod {
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(super) fn node(&self) -> &str {
        &self.spec.node_name
    }

    /// Its address; empty before it has one.
    pub(super) fn ip(&self) -> &str {
        &self.status.ip
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.metadata.owner_references.first().map(|owner| owner.uid.as_str())
    }

    pub(super) const fn leaves(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn is_ready(&self) -> bool {
        let ready = |c: &Condition| c.r#type == "Ready" && c.status == "True";
        !self.leaves() && self.status.conditions.iter().any(ready)
    }

    /// Its first container; every pod here has one.
    pub(super) fn container(&self) -> Container {
        self.status.container_statuses.first().cloned().unwrap_or_default()
    }

    /// Why it does not run, if the status shows it.
    pub(super) fn trouble(&self) -> String {
        let PodStatus { phase, conditions, container_statuses, .. } = &self.status;
        let waits = container_statuses.iter().find_map(|c| c.state.waiting.as_ref());
        let unmet = conditions.iter().find(|c| c.status == "False" && !c.message.is_empty());
        let why = match (waits, unmet) {
            (Some(Waiting { reason, message }), _) => format!("{reason} {message}"),
            (None, Some(condition)) => condition.message.clone(),
            (None, None) => phase.clone(),
        };
        format!("pod {}: {}", self.name(), why.trim_end())
    }

    /// The image that cannot be pulled, if that is why it does not run. One failed pull does not
    /// count: a registry may have been slow.
    pub(super) fn missing_image(&self) -> Option<&str> {
        const GIVEN_UP: [&str; 3] = ["ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"];
        let missing = |c: &&Container| {
            c.state.waiting.as_ref().is_some_and(|w| GIVEN_UP.contains(&w.reason.as_str()))
        };
        self.status.container_statuses.iter().find(missing).map(|c| c.image.as_str())
    }
}

impl Container {
    /// How its last run ended.
    pub(super) fn last_end(&self) -> Option<String> {
        let Terminated { exit_code, reason } = self.last_state.terminated.as_ref()?;
        Some(format!("{reason}, exit code {exit_code}"))
    }
}

/// An `events.k8s.io/v1` Event.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Event {
    pub(super) reason: String,
    pub(super) note: String,
    pub(super) r#type: String,
    pub(super) regarding: Regarding,
    event_time: Option<String>,
    reporting_controller: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Regarding {
    pub(super) name: String,
    pub(super) uid: String,
}

impl Event {
    /// Whether an agent made it.
    pub(super) fn is_ours(&self) -> bool {
        self.reporting_controller == "paramedic.dev/agent"
    }

    /// The time, for sorting. All Events of agents have one, in the same form.
    pub(super) fn time(&self) -> &str {
        self.event_time.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.r#type, self.reason, self.note)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_pod_that_runs() {
        let pod: Pod = from_value(json!({
            "metadata": { "name": "a", "uid": "u", "ownerReferences": [{ "kind": "ReplicaSet", "uid": "o" }] },
            "spec": { "nodeName": "node1" },
            "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": "True" }],
                "containerStatuses": [{
                    "image": "docker.io/paramedic/patient:0.1.0", "containerID": "containerd://2",
                    "restartCount": 1, "state": { "running": { "startedAt": "…" } },
                    "lastState": { "terminated": { "exitCode": 0, "reason": "Completed" } },
                }],
            },
        }))
        .unwrap();
        assert!(pod.is_ready() && !pod.leaves());
        assert_eq!((pod.node(), pod.owner()), ("node1", Some("o")));
        let container = pod.container();
        assert_eq!((container.id.as_str(), container.restart_count), ("containerd://2", 1));
        assert_eq!(container.last_end().as_deref(), Some("Completed, exit code 0"));
        assert_eq!(pod.missing_image(), None);
        let leaving = Metadata { deletion_timestamp: Some("now".into()), ..pod.metadata.clone() };
        assert!(!Pod { metadata: leaving, ..pod }.is_ready());
    }

    #[test]
    fn a_pod_says_what_it_waits_for() {
        let waiting = |reason: &str| -> Pod {
            let state = json!({ "waiting": { "reason": reason, "message": "no such image" } });
            let container = json!({ "image": "agent:0.1.0", "state": state });
            let status = json!({ "phase": "Pending", "containerStatuses": [container] });
            from_value(json!({ "metadata": { "name": "a" }, "status": status })).unwrap()
        };
        assert_eq!(waiting("ErrImagePull").missing_image(), None);
        assert_eq!(waiting("ImagePullBackOff").missing_image(), Some("agent:0.1.0"));
        assert_eq!(waiting("ErrImagePull").trouble(), "pod a: ErrImagePull no such image");
        let nowhere: Pod = from_value(json!({
            "metadata": { "name": "a" },
            "status": {
                "phase": "Pending",
                "conditions": [{
                    "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available",
                }],
            },
        }))
        .unwrap();
        assert_eq!(nowhere.trouble(), "pod a: 0/1 nodes are available");
        assert_eq!(Pod::default().trouble(), "pod : ");
    }

    #[test]
    fn an_event_that_an_agent_made() {
        let event: Event = from_value(json!({
            "reason": "Healed", "note": "soft: healed after 15 s", "type": "Normal",
            "eventTime": "2026-11-24T22:24:39.901193Z",
            "reportingController": "paramedic.dev/agent", "regarding": { "name": "a", "uid": "u" },
        }))
        .unwrap();
        assert!(event.is_ours());
        assert_eq!(event.to_string(), "Normal Healed: soft: healed after 15 s");
        let kubelet: Event = from_value(json!({ "reason": "Pulled", "eventTime": null })).unwrap();
        assert!(!kubelet.is_ours() && kubelet.time().is_empty());
    }
}
