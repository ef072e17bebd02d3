//! More memory before the OOM killer acts, through the real `pods/resize`.
use std::time::Duration;

use anyhow::{Result, ensure};

use super::heals::one;
use crate::e2e::{
    objects::Pod,
    patient::PatientSpec,
    stage::{NAMESPACE, Stage},
};

/// The pod's limit is 128 MiB: it would be exceeded some ten seconds after nine tenths of it.
const LEAK: &str = r#"{"mib_per_second":1,"max_mib":125}"#;
/// Until the leak has filled nine tenths of the limit, and the limit has grown.
const GROWN: Duration = Duration::from_secs(240);
/// By a quarter, which is within the ceiling of 192 MiB.
const RAISED: &str = "160Mi";

pub(super) fn resize(stage: &Stage<'_>) -> Result<String> {
    let permits = Some(("paramedic.dev/resize", "memory=1.5x"));
    let patient = PatientSpec { annotation: permits, ..PatientSpec::new("resize", Some("soft")) };
    let pod = one(stage, &patient)?;
    let before = pod.container();
    let limit = |stage: &Stage<'_>, pod: &Pod| {
        let path = "--output=jsonpath={.status.containerStatuses[0].resources.limits.memory}";
        stage.kubectl.text(&["get", "pod", pod.name(), "--namespace", NAMESPACE, path])
    };
    ensure!(limit(stage, &pod)?.trim() == "128Mi", "its limit is {}", limit(stage, &pod)?);
    stage.fall_ill(&pod, "leak", LEAK)?;
    stage.until("a limit of 160Mi", GROWN, || {
        stage.untouched(&pod)?;
        let now = limit(stage, &pod)?;
        ensure!(now.trim() == RAISED, "its limit is {now}");
        Ok(())
    })?;
    stage.tell("the kubelet reports 160Mi");
    let told = stage.event(&pod, "Healed", "resize: healed")?;
    let advice = format!("put `memory: {RAISED}` into the limits of container patient");
    ensure!(told.note.contains(&advice), "the Event does not say {advice:?}: {}", told.note);
    stage.untouched(&pod)?;
    ensure!(stage.again(&pod)?.container().id == before.id, "it has another container");
    let agent = stage.agent_of(&pod)?;
    let list = stage.paramedic(&agent, &["incidents", "--resizes"])?;
    ensure!(list.contains("memory 128Mi → 160Mi (its owner's: 128Mi): healed"), "{list}");
    let template = "--output=jsonpath={.spec.template.spec.containers[0].resources.limits.memory}";
    let own =
        stage.kubectl.text(&["get", "deployment", "resize", "--namespace", NAMESPACE, template])?;
    ensure!(own.trim() == "128Mi", "the template says {own}");
    Ok("128Mi became 160Mi before the OOM killer acted: same container, template untouched"
        .to_owned())
}
