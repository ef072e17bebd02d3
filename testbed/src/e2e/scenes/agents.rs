//! The agent itself is deleted and replaced.
use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::heals::healed_softly;
use crate::e2e::{
    objects::Pod,
    stage::{SYSTEM, Stage},
};

/// From the end of an agent to a successor that is ready.
const BACK: Duration = Duration::from_secs(120);

pub(super) fn restart(stage: &Stage<'_>) -> Result<String> {
    let pod = healed_softly(stage, "new-agent")?;
    let agent = stage.agent_of(&pod)?;
    stage.until("nothing is under way", BACK, || {
        let targets: Value = serde_json::from_str(&stage.page(&agent, "/api/v1/targets")?)?;
        let busy = targets.as_array().into_iter().flatten().find(|t| t["state"] != "watching");
        busy.map_or(Ok(()), |target| bail!("{} is {}", target["name"], target["state"]))
    })?;
    let before = incidents(stage, &agent)?;
    ensure!(!before.is_empty(), "the journal tells of nothing, and a pod was healed");
    stage.kubectl.text(&["delete", "pod", agent.name(), "--namespace", SYSTEM])?;
    stage.tell(&format!("{} is deleted", agent.name()));
    let successor = stage.until("another agent, ready", BACK, || {
        let next = stage.agent_of(&pod)?;
        ensure!(next.uid() != agent.uid(), "it is the old one");
        ensure!(stage.page(&next, "/readyz")?.trim() == "ok", "/readyz");
        Ok(next)
    })?;
    stage.tell(&format!("{} is ready", successor.name()));
    let view = stage.watched(&pod)?;
    let action = &view["decision"]["action"];
    ensure!(action == "no_action", "its verdict on a healthy pod is {action}");
    let after = incidents(stage, &successor)?;
    ensure!(after == before, "the journal knows incidents {after:?}, and knew {before:?}");
    stage.untouched(&pod)?;
    Ok(format!("ready again, {} incidents kept, none added", before.len()))
}

/// The numbers of those in the journal.
fn incidents(stage: &Stage<'_>, agent: &Pod) -> Result<BTreeSet<u64>> {
    let list = stage.paramedic(agent, &["incidents", "--json", "--limit", "1000"])?;
    let list: Vec<Value> = serde_json::from_str(&list).context("paramedic incidents --json")?;
    list.iter().map(|incident| incident["id"].as_u64().context("an incident without id")).collect()
}
