//! Pods out of their Services: drained before a restart, and in quarantine in place of an eviction.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::heals::hooked;
use crate::e2e::{
    objects::{Metadata, Pod},
    patient::PatientSpec,
    stage::{CRITICAL, HEALED, NAMESPACE, STUBBORN, Stage},
};

pub(super) const SERVING: &str = "paramedic.dev/serving";
pub(super) const UNTIL: &str = "paramedic.dev/drained-until";
const QUARANTINED: &str = "paramedic.dev/quarantined";

/// A workload of two pods with this template, its Service, and its budget.
fn admit(
    stage: &Stage<'_>,
    patient: &PatientSpec,
    labels: &Value,
    selector: &Value,
) -> Result<Vec<Pod>> {
    let mut service = patient.service(stage.scene);
    let mut deployment = patient.deployment(stage.scene, 2);
    merge(&mut service["spec"]["selector"], selector);
    merge(&mut deployment["spec"]["template"]["metadata"]["labels"], labels);
    stage.kubectl.apply(&[service, patient.budget(stage.scene, 1), deployment])?;
    let pods = stage.until(&format!("{} ready", patient.name), HEALED, || {
        let pods = stage.pods_of(patient.name)?;
        ensure!(pods.len() == 2 && pods.iter().all(Pod::is_ready), "{} pods", pods.len());
        Ok(pods)
    })?;
    for pod in &pods {
        stage.watched(pod)?;
    }
    Ok(pods)
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

/// The names of the pods behind a Service.
fn endpoints(stage: &Stage<'_>, service: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Slice {
        endpoints: Option<Vec<Endpoint>>,
    }
    #[derive(Deserialize)]
    struct Endpoint {
        conditions: Value,
        #[serde(rename = "targetRef")]
        target: Option<Metadata>,
    }
    let selector = format!("kubernetes.io/service-name={service}");
    let list = ["endpointslices", "--namespace", NAMESPACE, "--selector", &selector];
    let slices: Vec<Slice> = stage.kubectl.list(&list)?;
    let all = slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
    let ready = all.filter(|endpoint| endpoint.conditions["ready"] != json!(false));
    Ok(ready.filter_map(|endpoint| Some(endpoint.target?.name)).collect())
}

pub(super) fn drain(stage: &Stage<'_>) -> Result<String> {
    let drain = Some(("paramedic.dev/drain", "10s"));
    let patient = PatientSpec { annotation: drain, ..PatientSpec::new("drain", Some("restart")) };
    let serving = json!({ SERVING: "true" });
    let pods = admit(stage, &patient, &serving, &serving)?;
    let [ill, other] = two(&pods)?;
    let behind = |expected: &[&Pod]| {
        let mut found = endpoints(stage, patient.name)?;
        let mut names: Vec<&str> = expected.iter().map(|pod| pod.name()).collect();
        found.sort();
        names.sort_unstable();
        ensure!(found == names, "behind the Service are {found:?}");
        Ok(())
    };
    stage.until("both are behind the Service", HEALED, || behind(&[ill, other]))?;
    // The kubelet's probe still gets good responses, so there is something to drain.
    stage.fall_ill(ill, "errors", STUBBORN)?;
    let _traffic = stage.traffic(ill);
    stage.event(ill, "Healing", "restart begins")?;
    stage.until("it has left the Service", Duration::from_secs(20), || behind(&[other]))?;
    let drained = stage.again(ill)?;
    ensure!(
        drained.metadata.labels.get(SERVING).is_some_and(|value| value == "false"),
        "its label"
    );
    let until = drained.metadata.annotations.get(UNTIL).context("it has no deadline")?;
    ensure!(drained.container().id == ill.container().id, "it was restarted before it was drained");
    stage.tell(&format!("drained until {until}, and not restarted yet"));
    stage.event(ill, "Healed", "restart: healed")?;
    let restarts = stage.again(ill)?.container().restart_count;
    ensure!(restarts == 1, "{restarts} restarts, not one");
    stage.until("it is back", HEALED, || {
        let back = stage.again(ill)?;
        ensure!(!back.metadata.annotations.contains_key(UNTIL), "it still has a deadline");
        behind(&[ill, other])
    })?;
    stage.untouched(other)?;
    Ok("out of the Service, restarted, and back; the other pod untouched".to_owned())
}

pub(super) fn quarantine(stage: &Stage<'_>) -> Result<String> {
    let wish = Some(("paramedic.dev/give-up", "quarantine"));
    let patient = PatientSpec { annotation: wish, ..hooked("quarantine") };
    let pods = admit(stage, &patient, &json!({}), &json!({}))?;
    let [ill, other] = two(&pods)?;
    stage.fall_ill(ill, "lie", CRITICAL)?;
    stage.event(ill, "Healing", "quarantine begins")?;
    let new = stage.until("another pod of the workload, ready", HEALED, || {
        let now = stage.pods_of(patient.name)?;
        ensure!(now.len() == 2 && now.iter().all(Pod::is_ready), "{} pods", now.len());
        ensure!(now.iter().all(|pod| pod.uid() != ill.uid()), "the ill pod is still one of them");
        let known = |pod: &&Pod| pods.iter().all(|old| old.uid() != pod.uid());
        now.iter().find(known).cloned().context("no new pod")
    })?;
    stage.event(ill, "Healed", "quarantine: healed")?;
    let kept = stage.again(ill)?;
    stage.untouched(&kept)?;
    ensure!(kept.owner().is_none(), "its ReplicaSet has not let it go");
    ensure!(!kept.metadata.labels.contains_key("app"), "it has its label");
    ensure!(kept.metadata.labels.contains_key("paramedic.dev/heal"), "its consent was taken");
    let record = kept.metadata.annotations.get(QUARANTINED).context("no record")?;
    stage.tell(&format!("{} is kept: {record}", ill.name()));
    let behind = endpoints(stage, patient.name)?;
    ensure!(!behind.iter().any(|name| name == ill.name()), "it is behind the Service: {behind:?}");
    let view = stage.explain(&kept)?;
    ensure!(view["ceiling"] == "observe", "it is not only observed: {view}");

    // The agent's account may not give labels: the fence must refuse just that.
    let agent = stage.agent_of(&kept)?;
    let name = format!("{NAMESPACE}/{}", ill.name());
    let refused = stage.paramedic(&agent, &["release", &name]);
    let said = format!("{:#}", refused.err().context("an agent could release a pod")?);
    ensure!(said.contains("denied request: paramedic: "), "{said}");
    release(stage, &kept, ill)?;
    let whole = stage.until("one pod too many is deleted", HEALED, || {
        let now = stage.pods_of(patient.name)?;
        let active: Vec<&Pod> = now.iter().filter(|pod| !pod.leaves()).collect();
        ensure!(active.len() == 2, "{} pods", active.len());
        Ok(active.iter().any(|pod| pod.uid() == ill.uid()))
    })?;
    stage.untouched(other)?;
    let fate = if whole { "stayed" } else { "was the one too many" };
    Ok(format!("kept, {} in its place; released, it {fate}", new.name()))
}

/// As `paramedic release` does it, with the user's own rights: the scenes use no other client.
fn release(stage: &Stage<'_>, kept: &Pod, before: &Pod) -> Result<()> {
    let record = kept.metadata.annotations.get(QUARANTINED).context("no record")?;
    let record: Value = serde_json::from_str(record).context("the record is no JSON")?;
    let labels: Vec<String> = record["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let taken =
        |label: &&String| label.starts_with("app=") || label.starts_with("pod-template-hash=");
    ensure!(labels.iter().filter(taken).count() == labels.len(), "also taken: {labels:?}");
    let pod = ["pod", kept.name(), "--namespace", NAMESPACE];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    stage.kubectl.text(&[&["label"], &pod[..], &labels].concat())?;
    let annotation = format!("{QUARANTINED}-");
    // It may be the one too many.
    let _ = stage.kubectl.text(&[&["annotate"], &pod[..], &[annotation.as_str()]].concat());
    if let Ok(now) = stage.again(kept) {
        ensure!(now.metadata.labels == before.metadata.labels, "{:?}", now.metadata.labels);
    }
    stage.tell("its labels are as before");
    Ok(())
}

fn two(pods: &[Pod]) -> Result<&[Pod; 2]> {
    pods.try_into().with_context(|| format!("{} pods, not two", pods.len()))
}
