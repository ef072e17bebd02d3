//! Refusals: each appears as an Event on the pod, and ends when its reason ends.
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::heals::{IN_PEACE, evicted, hooked, one};
use crate::e2e::{
    kubectl::Kubectl,
    objects::Pod,
    patient::PatientSpec,
    stage::{CRITICAL, HEALED, NAMESPACE, SYSTEM, Stage},
};

pub(super) fn budget(stage: &Stage<'_>) -> Result<String> {
    let evict = hooked("spent-evict");
    let restart = PatientSpec::new("spent-restart", Some("restart"));
    let mut all = Vec::new();
    for patient in [&evict, &restart] {
        stage.kubectl.apply(&[patient.budget(stage.scene, 2)])?;
        all.push(stage.admit_workload(patient, 2)?);
    }
    let [evictable, restartable] = all.as_slice() else { bail!("not two workloads") };
    let ill: Vec<&Pod> = all.iter().filter_map(|pods| pods.first()).collect();
    for pod in &ill {
        stage.fall_ill(pod, "lie", CRITICAL)?;
    }
    for (pod, (remedy, budget)) in
        ill.iter().zip([("evict", evict.name), ("restart", restart.name)])
    {
        let refused = format!("{remedy} refused by gate disruption_budget");
        let event = stage.event(pod, "HealRefused", &refused)?;
        ensure!(event.note.contains(budget), "the Event does not name the budget {budget}");
    }
    stage.tell(&format!("{} s in which nothing may happen", IN_PEACE.as_secs()));
    stage.stays(IN_PEACE, || {
        evictable.iter().chain(restartable).try_for_each(|p| stage.untouched(p))
    })?;
    stage.tell("the budget of one is raised: one pod may be missing");
    stage.kubectl.apply(&[evict.budget(stage.scene, 1)])?;
    if let Some(pod) = ill.first() {
        evicted(stage, &evict, evictable, pod)?;
    }
    restartable.iter().try_for_each(|pod| stage.untouched(pod))?;
    Ok("refused, the budget named; healed once it permitted it".to_owned())
}

const PAUSED: &str = "paramedic.dev/paused";

pub(super) fn pause(stage: &Stage<'_>) -> Result<String> {
    let pod = one(stage, &PatientSpec::new("pause", Some("soft")))?;
    stage.kubectl.text(&["annotate", "namespace", SYSTEM, &format!("{PAUSED}=true")])?;
    stage.tell(&format!("namespace {SYSTEM} is annotated {PAUSED}=true"));
    let told = refused_while_paused(stage, &pod);
    unpause(stage.kubectl)?;
    told?;
    stage.tell("and no longer");
    stage.event(&pod, "Healed", "soft: healed")?;
    stage.untouched(&pod)?;
    Ok("refused while paused, healed after".to_owned())
}

fn refused_while_paused(stage: &Stage<'_>, pod: &Pod) -> Result<()> {
    // It is obeyed within five seconds.
    stage.stays(Duration::from_secs(5), || Ok(()))?;
    stage.errors(pod, 8);
    stage.event(pod, "HealRefused", "soft refused by gate paused")?;
    stage.stays(Duration::from_secs(10), || stage.not_asked_to_heal(pod))
}

/// Removes the annotation again.
fn unpause(kubectl: &Kubectl) -> Result<()> {
    kubectl.text(&["annotate", "namespace", SYSTEM, &format!("{PAUSED}-")])?;
    Ok(())
}

pub(super) fn bad_setting(stage: &Stage<'_>) -> Result<String> {
    const KEY: &str = "paramedic.dev/min-confidence";
    let patient = PatientSpec {
        annotation: Some((KEY, "high")),
        ..PatientSpec::new("bad-setting", Some("soft"))
    };
    let pods = stage.admit(&[patient])?;
    let [pod] = pods.as_slice() else { bail!("{} pods, not one", pods.len()) };
    let event = stage.event(pod, "BadSetting", KEY)?;
    ensure!(event.r#type == "Warning", "the Event is no Warning");
    let view = stage.watched(pod)?;
    ensure!(view["ceiling"] == "observe", "its ceiling is {}, not observe", view["ceiling"]);
    let corrected = format!("{KEY}=0.9");
    let annotate = ["annotate", "--overwrite", "pod", pod.name(), "--namespace", NAMESPACE];
    stage.kubectl.text(&[&annotate[..], &[corrected.as_str()]].concat())?;
    stage.until("its ceiling is soft, once corrected", HEALED, || {
        let view = stage.explain(pod)?;
        ensure!(view["ceiling"] == "soft", "its ceiling is {}", view["ceiling"]);
        Ok(())
    })?;
    Ok("Warning Event; observe until corrected".to_owned())
}

/// The worst illness, as an argument of the app.
const FROM_THE_START: &str = r#"lie={"as":"critical"}"#;

/// The pods that are there all the time and must stay untouched: healthy, ill without consent, ill
/// and only observed.
const BYSTANDERS: [PatientSpec; 3] = [
    PatientSpec::new("healthy", Some("evict")),
    PatientSpec { illness: Some(FROM_THE_START), ..PatientSpec::new("unlabelled", None) },
    PatientSpec { illness: Some(FROM_THE_START), ..PatientSpec::new("observed", Some("observe")) },
];

/// Creates them.
pub(in crate::e2e) fn bystanders(stage: &Stage<'_>) -> Result<()> {
    stage.admit(&BYSTANDERS).map(|_| ())
}

pub(super) fn untouched(stage: &Stage<'_>) -> Result<String> {
    let mut pods = Vec::new();
    for patient in &BYSTANDERS {
        pods.extend(stage.pods_of(patient.name)?);
    }
    let [healthy, unlabelled, observed] = pods.as_slice() else {
        bail!("only {} of {} are still there", pods.len(), BYSTANDERS.len())
    };
    for pod in &pods {
        stage.untouched(pod)?;
        stage.not_asked_to_heal(pod)?;
    }
    for pod in [healthy, unlabelled] {
        if let Some(event) = stage.events(pod)?.first() {
            bail!("an Event on pod {}: {event}", pod.name());
        }
    }
    let not_watched = match stage.explain(unlabelled) {
        Ok(_) => bail!("the agent watches a pod without the label"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(not_watched.contains("not watched by this agent"), "explain says: {not_watched}");
    stage.event(observed, "HealRefused", "refused by gate mode: its ceiling is observe")?;
    let view = stage.explain(observed)?;
    let action = &view["decision"]["action"];
    ensure!(action == "restart_service", "the verdict on {} is {action}", observed.name());
    let view = stage.watched(healthy)?;
    let action = &view["decision"]["action"];
    ensure!(action == "no_action", "the verdict on {} is {action}", healthy.name());
    Ok("three pods in their first life, none was asked to heal".to_owned())
}
