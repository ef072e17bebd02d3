//! One container, named on the command line.
use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    docker::stage::{PatientContainer, Stage},
    stage::{http, traffic::Traffic},
};

/// Every request fails, and a reset does not help.
fn stubborn() -> Value {
    json!({ "ratio": 1, "cleared_by": "restart" })
}

/// The window in which a remedy is verified: shorter than by default, which is for slower things.
pub(super) const VERIFY: [&str; 2] = ["--verify-window", "5"];

pub(super) fn soft(stage: &mut Stage<'_>) -> Result<String> {
    resets(stage, &[])?;
    Ok("healed by a reset, the container untouched".to_owned())
}

pub(super) fn signal(stage: &mut Stage<'_>) -> Result<String> {
    resets(stage, &["--soft", "signal HUP"])?;
    Ok("healed by SIGHUP, the container untouched".to_owned())
}

fn resets(stage: &mut Stage<'_>, soft: &[&str]) -> Result<()> {
    let patient = stage.patient("patient-app", 5000, &[])?;
    let before = life(stage, &patient)?;
    let state = tempfile::tempdir()?;
    let watch = [&["watch", "http://localhost:5000", "patient-app"], soft].concat();
    let agent = stage.agent(state.path(), &[&watch[..], &VERIFY].concat())?;
    stage.errors(&patient, 8, Duration::from_secs(1))?;
    stage.healed(&agent, patient.name, "soft")?;
    ensure!(life(stage, &patient)? == before, "the container was restarted");
    let incident = only_incident(&agent.url)?;
    ensure!(incident["outcome"] == "healed", "the incident says {incident}");
    Ok(())
}

pub(super) fn restart(stage: &mut Stage<'_>) -> Result<String> {
    // The engine restarts it on request: the container needs no restart policy.
    let patient = stage.patient("patient-app", 5000, &[])?;
    let before = life(stage, &patient)?;
    let state = tempfile::tempdir()?;
    let watch = ["watch", "http://localhost:5000", "patient-app", "--max-remedy", "restart"];
    let agent = stage.agent(state.path(), &[&watch[..], &VERIFY].concat())?;
    fall_ill(&patient)?;
    let traffic = traffic(&patient);
    stage.healed(&agent, patient.name, "restart")?;
    drop(traffic);
    stage.answers(&patient)?;
    let after = life(stage, &patient)?;
    ensure!(after["Id"] == before["Id"], "it is another container");
    ensure!(after["StartedAt"] != before["StartedAt"], "the container was not restarted");
    ensure!(
        Path::new(&format!("/proc/{}", stage.pid(patient.name)?)).exists(),
        "it has no process"
    );
    let incidents = http::get(&format!("{}/api/v1/incidents", agent.url))?;
    let of_restart = |incident: &&Value| incident["remedy"] == "restart";
    let incident = incidents.as_array().and_then(|all| all.iter().find(of_restart));
    ensure!(incident.is_some_and(|it| it["evidence"].is_string()), "no evidence in {incidents}");
    Ok("evidence kept, restarted by the engine, healed".to_owned())
}

/// Injects an illness that only a restart ends.
pub(super) fn fall_ill(patient: &PatientContainer) -> Result<()> {
    let answer = http::post(&format!("{}/illness/errors", patient.url), &stubborn())?;
    ensure!(answer.get("error").is_none(), "the patient refuses its illness: {answer}");
    Ok(())
}

/// Sends requests, so that failing responses become visible.
pub(super) fn traffic(patient: &PatientContainer) -> Traffic {
    let url = format!("{}/data", patient.url);
    Traffic::start(Duration::from_millis(100), move || {
        // A container that is being restarted does not answer.
        let _ = http::get(&url);
    })
}

/// The container's id and start time.
pub(super) fn life(stage: &Stage<'_>, patient: &PatientContainer) -> Result<Value> {
    let seen = stage.docker.inspect(patient.name)?;
    Ok(json!({
        "Id": seen["Id"], "StartedAt": seen["State"]["StartedAt"], "RestartCount": seen["RestartCount"],
    }))
}

fn only_incident(agent: &str) -> Result<Value> {
    let incidents = http::get(&format!("{agent}/api/v1/incidents"))?;
    let list = incidents.as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(list.len() == 1, "{} incidents, not one: {incidents}", list.len());
    Ok(list[0].clone())
}
