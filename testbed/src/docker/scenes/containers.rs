//! All containers of the machine that consent by their labels.
use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::watch::{VERIFY, fall_ill, life, traffic};
use crate::{
    docker::stage::{SOON, Stage},
    stage::{
        agent::{Agent, Line},
        http,
    },
};

pub(super) fn labels(stage: &mut Stage<'_>) -> Result<String> {
    let ill = stage.patient("consents", 5001, &heal("soft"))?;
    let stranger = stage.patient("stranger", 5002, &[])?;
    let observed = stage.patient("observed", 5003, &heal("observe"))?;
    let state = tempfile::tempdir()?;
    let agent = agent(stage, state.path())?;
    watches(stage, &agent, &[("consents", "soft"), ("observed", "observe")])?;
    let newcomer = stage.patient("newcomer", 5004, &heal("restart"))?;
    let all = [("consents", "soft"), ("newcomer", "restart"), ("observed", "observe")];
    watches(stage, &agent, &all)?;
    stage.tell("one that came is watched");
    let before = [life(stage, &stranger)?, life(stage, &observed)?];
    for patient in [&stranger, &observed] {
        fall_ill(patient)?;
    }
    let _traffic = [traffic(&stranger), traffic(&observed)];
    stage.errors(&ill, 8, Duration::from_secs(1))?;
    stage.healed(&agent, "consents", "soft")?;
    // Ten seconds have passed, enough for an agent that wanted to act.
    let touched = |line: &Line| line.message() == "healing" && line.text("target") != "consents";
    let touched = agent.lines().into_iter().find(touched);
    ensure!(touched.is_none(), "another container was touched: {touched:?}");
    ensure!([life(stage, &stranger)?, life(stage, &observed)?] == before, "restarted");
    stage.docker.remove(&[newcomer.name])?;
    watches(stage, &agent, &[("consents", "soft"), ("observed", "observe")])?;
    Ok("followed as they came and went; the stranger and the observed untouched".to_owned())
}

pub(super) fn engine_restart(stage: &mut Stage<'_>) -> Result<String> {
    let options = [&heal("restart")[..], &["--restart", "unless-stopped"]].concat();
    let patient = stage.patient("patient-app", 5000, &options)?;
    let state = tempfile::tempdir()?;
    let agent = agent(stage, state.path())?;
    watches(stage, &agent, &[("patient-app", "restart")])?;
    stage.stop_engine()?;
    let told = "Docker engine lost: the known containers stay watched until it is back";
    stage.wait_for_line(&agent, told, |line| line.message() == told)?;
    stage.tell("the engine is gone, and the agent reports it");
    stage.start_engine()?;
    stage.answers(&patient)?;
    stage.until("its next life is watched", SOON, || {
        let target = target(&agent, patient.name)?;
        ensure!(target["absent"] == false, "it is absent");
        let pid = stage.pid(patient.name)?.to_string();
        let instance = target["id"]["instance"].as_str().unwrap_or_default();
        ensure!(instance.split(|c: char| !c.is_ascii_digit()).any(|n| n == pid), "{instance}");
        Ok(())
    })?;
    let before = life(stage, &patient)?;
    fall_ill(&patient)?;
    let traffic = traffic(&patient);
    stage.healed(&agent, patient.name, "restart")?;
    drop(traffic);
    let after = life(stage, &patient)?;
    ensure!(after["StartedAt"] != before["StartedAt"], "the container was not restarted");
    Ok("outlived, and healed afterwards".to_owned())
}

fn heal(remedy: &str) -> [&str; 2] {
    let label = match remedy {
        "observe" => "paramedic.dev/heal=observe",
        "soft" => "paramedic.dev/heal=soft",
        _ => "paramedic.dev/heal=restart",
    };
    ["--label", label]
}

fn agent(stage: &Stage<'_>, state: &Path) -> Result<Agent> {
    stage.agent(state, &[&["agent", "--runtime", "docker"][..], &VERIFY].concat())
}

/// Waits until the agent watches exactly these, each with its ceiling.
fn watches(stage: &Stage<'_>, agent: &Agent, wanted: &[(&str, &str)]) -> Result<()> {
    let wanted: BTreeMap<_, _> =
        wanted.iter().map(|&(name, ceiling)| (name.to_owned(), ceiling.to_owned())).collect();
    stage.until(&format!("exactly {wanted:?} are watched"), SOON, || {
        let targets = http::get(&format!("{}/api/v1/targets", agent.url))?;
        let field =
            |target: &Value, field: &str| target[field].as_str().unwrap_or_default().to_owned();
        let found: BTreeMap<_, _> = targets
            .as_array()
            .context("no list of targets")?
            .iter()
            .map(|target| (field(target, "name"), field(target, "ceiling")))
            .collect();
        ensure!(found == wanted, "there are {found:?}");
        Ok(())
    })
}

fn target(agent: &Agent, name: &str) -> Result<Value> {
    http::get(&format!("{}/api/v1/targets/{name}", agent.url))
}
