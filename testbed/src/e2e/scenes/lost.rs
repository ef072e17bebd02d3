//! A node that is lost while its agent has a pod out of its Services and holds the workload's lock.
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{
    across::{placed, two_nodes},
    aside::{SERVING, UNTIL},
    heals::IN_PEACE,
};
use crate::{
    cluster,
    e2e::{
        objects::Pod,
        patient::PatientSpec,
        stage::{HEALED, STUBBORN, Stage},
    },
};

pub(super) const NAME: &str = "node-lost";

/// Pods of the node that stays. With that of the other node they have two shares, so that the second
/// restart waits for the lock alone.
const STAY: u32 = 19;
/// From a node's start to pods that are back: kubelet, containers, the agent, and the deadline of
/// the drain, which is at most 100 s after its begin.
const BACK: Duration = Duration::from_secs(180);

pub(super) fn lost(stage: &Stage<'_>) -> Result<String> {
    let cluster = cluster::of_kubeconfig()?.context("this cluster cannot stop a node")?;
    let [stays, goes] = two_nodes(stage)?.map(|agent| agent.node().to_owned());
    let drain = Some(("paramedic.dev/drain", "30s"));
    let patient = PatientSpec { annotation: drain, ..PatientSpec::new("lost", Some("restart")) };
    let mut service = patient.service(stage.scene);
    service["spec"]["selector"][SERVING] = json!("true");
    let mut deployment = patient.deployment(stage.scene, STAY + 1);
    deployment["spec"]["template"]["metadata"]["labels"][SERVING] = json!("true");
    stage.kubectl.apply(&[service])?;
    let pods = placed(stage, patient.name, deployment, &[(&stays, STAY), (&goes, 1)])?;
    let on = |node: &str| pods.iter().find(|pod| pod.node() == node).context("no pod on a node");
    let (here, there) = (on(&stays)?, on(&goes)?);
    for pod in [here, there] {
        stage.watched(pod)?;
    }
    drained(stage, there)?;
    cluster::stop_node(&cluster, &goes)?;
    stage.tell(&format!("{goes} is lost, with the lock and a drained pod"));
    let outlived = outlived(stage, here, there);
    // Whatever happened, the next scene has all nodes.
    cluster::start_node(&cluster, &goes, stage.interrupt)?;
    stage.tell(&format!("{goes} is there again"));
    outlived?;
    back(stage, there)?;
    // Restarts of its own would come now.
    stage.stays(IN_PEACE, || treated_once(stage, there))?;
    for pod in pods.iter().filter(|pod| pod.uid() != here.uid() && pod.uid() != there.uid()) {
        stage.untouched(pod)?;
    }
    Ok("the lock expired, the other node healed, nothing twice, and the drained pod is back".into())
}

/// Waits until the agent of the pod's node has taken it out of its Services, before a restart.
fn drained(stage: &Stage<'_>, pod: &Pod) -> Result<()> {
    stage.fall_ill(pod, "errors", STUBBORN)?;
    let _traffic = stage.traffic(pod);
    stage.event(pod, "Healing", "restart begins")?;
    let until = stage.until("it is drained", HEALED, || {
        let now = stage.again(pod)?;
        ensure!(now.metadata.labels.get(SERVING).is_some_and(|v| v == "false"), "it serves");
        ensure!(now.container().restart_count == 0, "it was restarted already");
        now.metadata.annotations.get(UNTIL).cloned().context("it has no deadline")
    })?;
    stage.tell(&format!("{} is drained until {until}, and not restarted yet", pod.name()));
    Ok(())
}

/// On the node that stays, another pod falls ill: its agent waits for the lock of the lost one, and
/// heals when that has expired.
fn outlived(stage: &Stage<'_>, here: &Pod, there: &Pod) -> Result<()> {
    stage.fall_ill(here, "errors", STUBBORN)?;
    let _traffic = stage.traffic(here);
    stage.event(here, "HealRefused", "refused by gate workload_lock")?;
    ensure!(stage.again(here)?.container().restart_count == 0, "it was restarted under the lock");
    stage.event(here, "Healing", "restart begins")?;
    stage.event(here, "Healed", "restart: healed")?;
    let restarts = stage.again(here)?.container().restart_count;
    ensure!(restarts == 1, "{}: {restarts} restarts, not one", here.name());
    let left = stage.again(there)?;
    ensure!(
        left.metadata.annotations.contains_key(UNTIL),
        "somebody has put {} back, and its node is lost",
        there.name()
    );
    Ok(())
}

/// Waits until the pod serves again, after its node came back.
fn back(stage: &Stage<'_>, pod: &Pod) -> Result<()> {
    stage.until("the drained pod is back in its Services", BACK, || {
        let now = stage.again(pod)?;
        ensure!(now.is_ready(), "{}", now.trouble());
        ensure!(!now.metadata.annotations.contains_key(UNTIL), "it still has a deadline");
        ensure!(now.metadata.labels.get(SERVING).is_some_and(|v| v == "true"), "it is drained");
        Ok(())
    })?;
    stage.tell(&format!("{} serves again", pod.name()));
    Ok(())
}

/// Its container ended once, with the node, and its agent began one restart.
fn treated_once(stage: &Stage<'_>, pod: &Pod) -> Result<()> {
    let restarts = stage.again(pod)?.container().restart_count;
    ensure!(restarts == 1, "{restarts} restarts: it ended once, with its node");
    let events = stage.events(pod)?;
    let begun =
        events.iter().filter(|e| e.reason == "Healing" && e.note.contains("restart begins"));
    match begun.count() {
        1 => Ok(()),
        count => bail!("its agent began {count} restarts"),
    }
}
