//! From fault to heal: the whole agent with all gates on. Each trial has a target that had no fault
//! before: a fresh one, or another one among many.
use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::load::{self, SETTLE, Watched};
use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Line, Setup},
    http,
    patient::Patient,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Milliseconds from the moment the deciding error left the patient until the remedy reached it,
/// both by the patient's own clock.
pub(super) fn trials(
    programs: &Programs,
    interrupt: &Interrupt,
    n: usize,
    errors: usize,
    remedy: &str,
) -> Result<Value> {
    let mut times = Vec::with_capacity(n);
    for trial in 0..n {
        times.push(one(programs, interrupt, trial, errors, remedy)?);
        eprint!("\r  {} of {n}", trial + 1);
    }
    eprintln!();
    Ok(summary(times))
}

/// The same for a soft remedy, with one agent and this many targets, on which polls are rarer than
/// samples.
pub(super) fn trials_among(
    programs: &Programs,
    interrupt: &Interrupt,
    targets: usize,
    n: usize,
    errors: usize,
) -> Result<Value> {
    let Watched { agent, patients, .. } = &load::watched(programs, interrupt, targets)?;
    load::pause(SETTLE, interrupt)?;
    let mut times = Vec::with_capacity(n);
    for (trial, patient) in patients.iter().take(n).enumerate() {
        let apart = Duration::from_millis(1000 + trial as u64 * 37 % 2000);
        load::pause(apart, interrupt)?;
        let fault = fault(patient, errors)?;
        times.push(healed(agent, patient, interrupt, fault, "soft")?);
        eprint!("\r  {} of {n}", trial + 1);
    }
    eprintln!();
    Ok(summary(times))
}

fn summary(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let n = times.len();
    json!({ "n": n, "p50": round(at(0.5)), "p95": round(at(0.95)), "max": round(at(1.0)) })
}

/// Makes errors, and returns when the last of them left, by the patient's clock.
fn fault(patient: &Patient, errors: usize) -> Result<u64> {
    patient.errors(errors)?;
    http::number(&format!("{}/clock", patient.url), "last_error_at_boot_ns")
}

fn one(
    programs: &Programs,
    interrupt: &Interrupt,
    trial: usize,
    errors: usize,
    remedy: &str,
) -> Result<f64> {
    let patient = Patient::start(programs, "bench", &[])?;
    let state = tempfile::tempdir()?;
    let setup = Setup {
        urls: vec![patient.url.clone()],
        state_dir: state.path().to_path_buf(),
        arguments: ["--max-remedy", "restart"].map(String::from).into(),
    };
    let agent = Agent::start(programs, &setup, |_| ())?;
    // Faults know nothing of the agent's ticks: spread them over one.
    thread::sleep(Duration::from_millis(trial as u64 * 37 % 2000));
    let fault = fault(&patient, errors)?;
    healed(&agent, &patient, interrupt, fault, remedy)
}

/// Milliseconds from the fault until the remedy reached the patient.
fn healed(
    agent: &Agent,
    patient: &Patient,
    interrupt: &Interrupt,
    fault: u64,
    remedy: &str,
) -> Result<f64> {
    let is_it = |line: &Line| {
        line.message() == "healing"
            && line.text("remedy") == remedy
            && line.text("target") == patient.url
    };
    agent
        .wait_for(LIMIT, interrupt, is_it)?
        .with_context(|| format!("no {remedy} within {} s", LIMIT.as_secs()))?;
    let healed = if remedy == "soft" {
        let clock = format!("{}/clock", patient.url);
        wait_until(interrupt, || Ok(http::get(&clock)?["last_heal_at_boot_ns"].as_u64()))?
    } else {
        wait_until(interrupt, || Ok(patient.sigterms().first().copied()))?
    };
    ensure!(healed > fault, "healed before the fault");
    Ok((healed - fault) as f64 / 1e6)
}

fn wait_until(
    interrupt: &Interrupt,
    mut ready: impl FnMut() -> Result<Option<u64>>,
) -> Result<u64> {
    for _ in 0..2000 {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        interrupt.check()?;
        thread::sleep(Duration::from_millis(5));
    }
    anyhow::bail!("the remedy never reached the patient")
}

fn round(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}
