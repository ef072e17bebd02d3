//! From fault to heal: the whole agent with all gates on, a fresh target for each trial.
use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Setup},
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
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    Ok(json!({ "n": n, "p50": round(at(0.5)), "p95": round(at(0.95)), "max": round(at(1.0)) }))
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
    patient.errors(errors)?;
    let fault = http::number(&format!("{}/clock", patient.url), "last_error_at_boot_ns")?;
    agent
        .wait_for(LIMIT, interrupt, |l| l.message() == "healing" && l.text("remedy") == remedy)?
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
