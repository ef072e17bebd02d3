//! The status of pods: what it says of their containers, and the conditions derived from that.
use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    api::json as j,
    cluster::{Cluster, clock},
};

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = j::list(pod, "/status/conditions").iter();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a pod's work is over, well or not.
pub(crate) fn is_ended(pod: &Value) -> bool {
    matches!(j::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether a pod counts for its controller.
pub(crate) fn is_active(pod: &Value) -> bool {
    !is_ended(pod) && !j::is_terminating(pod)
}

/// Sets the readiness of a container, or of all.
pub(crate) fn set_ready(cluster: &Cluster, pod: &mut Value, container: Option<&str>, ready: bool) {
    let statuses = pod["status"]["containerStatuses"].as_array_mut();
    for status in statuses.into_iter().flatten() {
        let meant = container.is_none_or(|name| j::text(status, "/name") == name);
        if meant {
            status["ready"] = json!(ready);
        }
    }
    refresh_conditions(cluster, pod);
}

/// Derives a pod's conditions from its phase and containers.
pub(crate) fn refresh_conditions(cluster: &Cluster, pod: &mut Value) {
    let statuses = j::list(pod, "/status/containerStatuses");
    let unready = statuses.iter().filter(|c| c["ready"] != true);
    let unready: Vec<&str> = unready.map(|c| j::text(c, "/name")).collect();
    let phase = j::text(pod, "/status/phase");
    let ready: Option<(&str, String)> = match phase {
        "Failed" => Some(("PodFailed", String::new())),
        "Succeeded" => Some(("PodCompleted", String::new())),
        _ if unready.is_empty() => None,
        _ => {
            let all = unready.join(" ");
            Some(("ContainersNotReady", format!("containers with unready status: [{all}]")))
        }
    };
    let up = phase == "Running";
    let generation = pod["metadata"]["generation"].clone();
    pod["status"]["observedGeneration"] = generation.clone();
    for (kind, why_not) in [
        ("PodReadyToStartContainers", (!up).then(|| ("", String::new()))),
        ("Initialized", None),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", None),
    ] {
        let mut condition = json!({
            "type": kind, "observedGeneration": generation, "lastProbeTime": null,
            "status": if why_not.is_none() { "True" } else { "False" },
        });
        for (key, text) in [("reason", why_not.as_ref().map(|w| w.0.to_owned()))]
            .into_iter()
            .chain([("message", why_not.as_ref().map(|w| w.1.clone()))])
        {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                condition[key] = json!(text);
            }
        }
        cluster.set_condition(&mut pod["status"], condition);
    }
}

/// The status of a container.
pub(crate) fn container_status<'a>(pod: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let mut statuses = pod["status"]["containerStatuses"].as_array_mut()?.iter_mut();
    statuses.find(|c| j::text(c, "/name") == name)
}

/// A container's process has ended.
pub(crate) fn end_container(pod: &mut Value, container: &str, exit_code: i64, at: Duration) {
    let Some(status) = container_status(pod, container) else { return };
    let started = status["state"]["running"]["startedAt"].take();
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let terminated = json!({
        "exitCode": exit_code, "reason": reason, "startedAt": started,
        "finishedAt": clock::rfc3339(at), "containerID": status["containerID"],
    });
    status["state"] = json!({"terminated": terminated});
    status["ready"] = json!(false);
    status["started"] = json!(false);
}

/// A pod whose containers all ended for good has ended.
pub(crate) fn finish(pod: &mut Value) {
    let statuses = j::list(pod, "/status/containerStatuses");
    let code = |c: &Value| j::int(c, "/state/terminated/exitCode");
    if statuses.iter().any(|c| c["state"]["running"].is_object()) {
        return;
    }
    let well = !statuses.is_empty() && statuses.iter().all(|c| code(c) == Some(0));
    pod["status"]["phase"] = json!(if well { "Succeeded" } else { "Failed" });
}
