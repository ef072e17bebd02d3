//! People are told: an agent with a webhook reports what it healed.
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::heals::{healed_softly, one};
use crate::e2e::{
    patient::PatientSpec,
    stage::{HEALED, SYSTEM, Stage},
};

/// From other arguments of the agents to new ones that are ready.
const ROLLED_OUT: Duration = Duration::from_secs(120);

/// The receiver is a patient without a label: no agent asks it to heal, so that a `POST /heal` can only
/// be the notification.
pub(super) fn notification(stage: &Stage<'_>) -> Result<String> {
    let receiver = one(stage, &PatientSpec::new("receiver", None))?;
    ensure!(!receiver.ip().is_empty(), "the receiver has no address");
    let url = format!("webhook=http://{}:5000/heal", receiver.ip());
    arguments(stage, &["agent", "--notify", &url])?;
    stage.tell(&format!("the agents tell {url}"));
    let told = healed_softly(stage, "notification").and_then(|_| {
        stage.until("the receiver is told", HEALED, || {
            let clock: Value = serde_json::from_str(&stage.get(&receiver, "/clock")?)?;
            ensure!(!clock["last_heal_at_boot_ns"].is_null(), "it was told nothing");
            Ok(())
        })
    });
    // The other scenes have agents that tell nobody.
    arguments(stage, &["agent"])?;
    told?;
    stage.untouched(&receiver)?;
    Ok("a healed pod, and the webhook was called".to_owned())
}

/// Gives all agents these arguments, and waits until they run with them.
fn arguments(stage: &Stage<'_>, arguments: &[&str]) -> Result<()> {
    let path = "/spec/template/spec/containers/0/args";
    let patch = json!([{ "op": "replace", "path": path, "value": arguments }]).to_string();
    let agents = ["daemonset/paramedic-agent", "--namespace", SYSTEM];
    let patch = ["--type=json", "--patch", patch.as_str()];
    stage.kubectl.text(&[&["patch"][..], &agents, &patch].concat())?;
    stage.kubectl.text_within(ROLLED_OUT, &[&["rollout", "status"][..], &agents].concat())?;
    Ok(())
}
