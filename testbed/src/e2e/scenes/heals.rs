//! Each remedy, applied by the real agent under the real fence.
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::e2e::{
    objects::Pod,
    patient::PatientSpec,
    stage::{CRITICAL, HEALED, NAMESPACE, STUBBORN, Stage},
};

pub(super) fn soft(stage: &Stage<'_>) -> Result<String> {
    let pod = healed_softly(stage, "soft")?;
    let page = stage.kubectl.text(&["describe", "pod", pod.name(), "--namespace", NAMESPACE])?;
    for told in ["Healing", "reset_errors with confidence", "error_count", "Healed", "soft: healed"]
    {
        ensure!(page.contains(told), "kubectl describe pod does not say {told:?}:\n{page}");
    }
    Ok("healed, told by describe, same container".to_owned())
}

/// A pod that has been healed by a reset and nothing else.
pub(super) fn healed_softly(stage: &Stage<'_>, name: &'static str) -> Result<Pod> {
    let pod = one(stage, &PatientSpec::new(name, Some("soft")))?;
    stage.errors(&pod, 8);
    stage.event(&pod, "Healing", "soft begins")?;
    stage.event(&pod, "Healed", "soft: healed")?;
    stage.untouched(&pod)?;
    let now = stage.again(&pod)?;
    ensure!(now.container().id == pod.container().id, "it has another container");
    Ok(pod)
}

/// The only pod of a new workload.
pub(super) fn one(stage: &Stage<'_>, patient: &PatientSpec) -> Result<Pod> {
    stage.admit_workload(patient, 1)?.pop().context("no pod")
}

pub(super) fn restart(stage: &Stage<'_>) -> Result<String> {
    let pod = one(stage, &PatientSpec::new("restart", Some("restart")))?;
    stage.fall_ill(&pod, "errors", STUBBORN)?;
    let _traffic = stage.traffic(&pod);
    stage.event(&pod, "Healing", "restart begins")?;
    stage.event(&pod, "Healed", "restart: healed")?;
    let (before, after) = (pod.container(), stage.again(&pod)?.container());
    let restarts = after.restart_count.abs_diff(before.restart_count);
    ensure!(restarts == 1, "{restarts} restarts, not one");
    ensure!(after.id != before.id, "it has the same container as before");
    let end = after.last_end().unwrap_or_default();
    Ok(format!("same pod, another container (the old one: {end})"))
}

pub(super) fn approval(stage: &Stage<'_>) -> Result<String> {
    let asks = Some(("paramedic.dev/ask", "restart"));
    let patient = PatientSpec { annotation: asks, ..PatientSpec::new("approval", Some("restart")) };
    let pod = one(stage, &patient)?;
    stage.fall_ill(&pod, "errors", STUBBORN)?;
    let _traffic = stage.traffic(&pod);
    let event = stage.event(&pod, "HealRefused", "restart refused by gate approval")?;
    let (_, told) = event.note.split_once("wants to be asked: ").context("it asks nothing")?;
    let request = told.split(' ').next().unwrap_or_default();
    let approve = |request: &str| {
        let annotation = format!("paramedic.dev/approve={request}");
        let pod = ["annotate", "--overwrite", "pod", pod.name(), "--namespace", NAMESPACE];
        stage.kubectl.text(&[&pod[..], &[annotation.as_str()]].concat())
    };
    approve("restart-1")?;
    stage.stays(IN_PEACE, || stage.untouched(&pod))?;
    approve(request)?;
    stage.tell(&format!("{request} is approved"));
    stage.event(&pod, "Healing", "restart begins")?;
    stage.event(&pod, "Healed", "restart: healed")?;
    let (before, after) = (pod.container(), stage.again(&pod)?.container());
    let restarts = after.restart_count.abs_diff(before.restart_count);
    ensure!(restarts == 1, "{restarts} restarts, not one");
    Ok(format!("{request}: not before its approval, and not by another"))
}

pub(super) fn evict(stage: &Stage<'_>) -> Result<String> {
    let patient = hooked("evict");
    stage.kubectl.apply(&[patient.budget(stage.scene, 1)])?;
    let pods = stage.admit_workload(&patient, 2)?;
    let [ill, other] = pods.as_slice() else { bail!("{} pods, not two", pods.len()) };
    stage.fall_ill(ill, "lie", CRITICAL)?;
    let new = evicted(stage, &patient, &pods, ill)?;
    stage.untouched(other)?;
    Ok(format!("{} in its place, the other pod untouched", new.name()))
}

/// A pod that cannot be restarted in place: its hook would be skipped.
pub(super) const fn hooked(name: &'static str) -> PatientSpec {
    PatientSpec { has_hook: true, ..PatientSpec::new(name, Some("evict")) }
}

/// Waits until the ill pod has been evicted and its workload is whole again: the new pod.
pub(super) fn evicted(
    stage: &Stage<'_>,
    patient: &PatientSpec,
    before: &[Pod],
    ill: &Pod,
) -> Result<Pod> {
    stage.event(ill, "Healing", "evict begins")?;
    let new = stage.until("another pod of the same owner, ready", HEALED, || {
        let pods = stage.pods_of(patient.name)?;
        ensure!(pods.iter().all(|pod| pod.uid() != ill.uid()), "the ill pod is still there");
        let known = |pod: &&Pod| before.iter().all(|old| old.uid() != pod.uid());
        let new = pods.iter().find(known).context("no new pod")?;
        ensure!(new.owner() == ill.owner(), "{} has another owner", new.name());
        ensure!(new.is_ready(), "{}", new.trouble());
        Ok(new.clone())
    })?;
    stage.tell(&format!("{} is ready on {}", new.name(), new.node()));
    stage.event(ill, "Healed", "evict: healed")?;
    Ok(new)
}

/// Long enough for the agent to act if it wanted to: evidence takes a second, and after a refusal
/// of the cluster it asks again in 15 s.
pub(super) const IN_PEACE: Duration = Duration::from_secs(20);
