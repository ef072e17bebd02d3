//! Plays one batch of episodes while an agent that only observes records, and labels its rows.
use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use xtask::process;

use super::{
    kind::{Kind, Remedy},
    plan::Episode,
    rows::{self, Row},
    subject::{self, Subject},
    truth,
};
use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Setup},
    boot_ns,
    patient::Patient,
};

/// Before the fault: longer than the agent's window.
pub(crate) const BEFORE: Duration = Duration::from_secs(12);
/// From the fault to the remedy: longer than the window too, so that the fault fills it.
pub(crate) const DURING: Duration = Duration::from_secs(12);
/// From the remedy to the end: the window has to empty, and then the service is judged.
const AFTER: Duration = Duration::from_secs(20);
/// The interval at which faults develop further.
const STEP: Duration = Duration::from_millis(50);

/// What a batch takes, about.
pub(crate) const TAKES: Duration = Duration::from_secs(50);

/// One episode, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    pub(crate) episode: Episode,
    /// Whether the service was well at the end, by remedy; a healthy target gets none.
    pub(crate) well: Vec<bool>,
    /// The mildest remedy after which it was.
    pub(crate) label: Remedy,
    /// Whether its clients suffered while the fault lasted.
    pub(crate) suffered: bool,
    /// Seconds from the fault until enough requests had gone wrong.
    pub(crate) evident_s: Option<f64>,
    /// Nanoseconds since boot of the fault and of the remedy, on the subject that got no remedy.
    pub(crate) fault_ns: u64,
    pub(crate) treated_ns: u64,
    /// The build of agent and patient-app, as in [`Programs::build`]; empty in older recordings.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) build: String,
}

/// A subject, and the times of its fault and its remedy.
struct Arm {
    subject: Subject,
    remedy: Remedy,
    fault: u64,
    treated: u64,
}

/// An episode that is being played: one arm for each remedy.
struct Trial {
    episode: Episode,
    arms: Vec<Arm>,
    upstream: Option<Patient>,
}

/// Plays the batch. Its trace and its labelled rows are left in `folder`.
pub(crate) fn play(
    programs: &Programs,
    batch: &[Episode],
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Measured>> {
    let mut stage = Vec::new();
    for episode in batch {
        interrupt.check()?;
        stage.push(prepare(programs, episode)?);
    }
    let state = tempfile::tempdir()?;
    let trace = folder.join("trace");
    if trace.exists() {
        fs::remove_dir_all(&trace).context("an old trace")?;
    }
    let arguments = ["--max-remedy", "observe", "--record"].map(str::to_owned);
    let setup = Setup {
        urls: stage.iter().flat_map(|s| &s.arms).map(|a| a.subject.patient.url.clone()).collect(),
        state_dir: state.path().to_path_buf(),
        arguments: arguments.into_iter().chain([trace.display().to_string()]).collect(),
    };
    let agent = Agent::start(programs, &setup, |_| ())?;
    stage.iter_mut().flat_map(|s| &mut s.arms).for_each(|arm| arm.subject.open());
    wait(BEFORE, interrupt)?;
    for trial in &mut stage {
        for arm in &mut trial.arms {
            arm.fault = boot_ns();
            arm.subject.inject()?;
        }
        if let Some(upstream) = &trial.upstream {
            fail_upstream(upstream, &trial.episode)?;
        }
    }
    let fault = Instant::now();
    go_on(&mut stage, fault, Duration::ZERO, DURING, interrupt)?;
    for arm in stage.iter_mut().flat_map(|s| &mut s.arms) {
        arm.treated = boot_ns();
        arm.subject.treat(arm.remedy)?;
    }
    go_on(&mut stage, fault, DURING, DURING + AFTER, interrupt)?;
    let end = boot_ns();
    drop(agent);
    let build = programs.build()?;
    let measured: Vec<_> = stage.iter().map(|trial| measure(trial, end, &build)).collect();
    let rows = label(&stage, &measured, end, &replayed(programs, &trace)?)?;
    rows::write(&folder.join("rows.csv.gz"), &rows)?;
    Ok(measured)
}

fn prepare(programs: &Programs, episode: &Episode) -> Result<Trial> {
    let name = format!("lab-{}", episode.id);
    let upstream = subject::upstream(programs, episode, &name)?;
    let remedies = if episode.kind.is_healthy() { &Remedy::ALL[..1] } else { &Remedy::ALL[..] };
    let arm = |remedy: &Remedy| {
        let name = format!("{name}-{}", remedy.name());
        let subject = Subject::prepare(programs, episode, &name, upstream.as_ref())?;
        Ok(Arm { subject, remedy: *remedy, fault: 0, treated: 0 })
    };
    let arms = remedies.iter().map(arm).collect::<Result<_>>()?;
    Ok(Trial { episode: episode.clone(), arms, upstream })
}

/// Makes the upstream answer 5xx, or nothing, from now on.
pub(crate) fn fail_upstream(upstream: &Patient, episode: &Episode) -> Result<()> {
    let ratio = 0.5 + 0.5 * episode.intensity;
    let illness = if episode.kind == Kind::UpstreamSilent { "hang" } else { "errors" };
    upstream.fall_ill(illness, &serde_json::json!({ "ratio": ratio }))
}

pub(crate) fn wait(length: Duration, interrupt: &Interrupt) -> Result<()> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        interrupt.check()?;
        thread::sleep(STEP);
    }
    Ok(())
}

/// Lets faults develop, from one time after their beginning to another.
fn go_on(
    stage: &mut [Trial],
    fault: Instant,
    from: Duration,
    to: Duration,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut before = from;
    while before < to {
        interrupt.check()?;
        thread::sleep(STEP);
        let since = fault.elapsed().min(to);
        for arm in stage.iter_mut().flat_map(|s| &mut s.arms) {
            arm.subject.develop(before, since)?;
        }
        before = since;
    }
    Ok(())
}

fn measure(trial: &Trial, end: u64, build: &str) -> Measured {
    let well: Vec<bool> = trial
        .arms
        .iter()
        .map(|arm| {
            let from = end.saturating_sub(truth::JUDGED_NS);
            truth::is_well(&arm.subject.clients.requests(), from, end)
        })
        .collect();
    let label = match well[..] {
        [a, b, c] => truth::mildest([a, b, c]),
        _ => Remedy::NoAction,
    };
    let untreated = &trial.arms[0];
    let requests = untreated.subject.clients.requests();
    let evident = truth::evident_at(&requests, untreated.fault);
    Measured {
        episode: trial.episode.clone(),
        well,
        label,
        suffered: !truth::is_well(&requests, untreated.fault, untreated.treated),
        evident_s: evident.map(|at| at.saturating_sub(untreated.fault) as f64 / 1e9),
        fault_ns: untreated.fault,
        treated_ns: untreated.treated,
        build: build.to_owned(),
    }
}

/// The rows that the agent's own code makes of the trace.
fn replayed(programs: &Programs, trace: &Path) -> Result<String> {
    let mut parts: Vec<_> =
        fs::read_dir(trace)?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    parts.sort();
    ensure!(!parts.is_empty(), "the agent recorded nothing");
    let mut command = Command::new(&programs.agent);
    process::capture(command.args(["replay", "--rows"]).args(parts))
}

/// How long after a remedy that helped the window still holds samples from before it.
const WINDOW_NS: u64 = 11_000_000_000;

fn label(stage: &[Trial], measured: &[Measured], end: u64, csv: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let arms = stage.iter().zip(measured).flat_map(|(trial, measured)| {
        let evident = |arm: &Arm| truth::evident_at(&arm.subject.clients.requests(), arm.fault);
        trial.arms.iter().zip(&measured.well).map(move |(arm, well)| {
            (arm.subject.patient.url.clone(), (arm, measured, *well, evident(arm)))
        })
    });
    let arms: std::collections::HashMap<_, _> = arms.collect();
    for seen in rows::parse(csv)? {
        let Some((arm, measured, well, evident)) = arms.get(seen.target.as_str()) else { continue };
        if seen.at > end {
            continue;
        }
        let none = Some(Remedy::NoAction);
        let phase = phase(seen.at, arm.fault, arm.treated);
        let is_evident = evident.is_some_and(|at| seen.at >= at);
        let label = match phase {
            _ if measured.episode.kind.is_healthy() => none.filter(|_| *well),
            "before" => none,
            _ if measured.label == Remedy::NoAction => none,
            "after" if *well => none.filter(|_| seen.at >= arm.treated + WINDOW_NS),
            _ => Some(measured.label).filter(|_| is_evident),
        };
        rows.push(Row {
            episode: measured.episode.id,
            kind: measured.episode.kind,
            arm: arm.remedy,
            phase,
            label,
            since_fault_s: (seen.at as f64 - arm.fault as f64) / 1e9,
            verdict: seen.verdict,
            features: seen.features,
        });
    }
    Ok(rows)
}

fn phase(at: u64, fault: u64, treated: u64) -> &'static str {
    match at {
        at if at < fault => "before",
        at if at < treated => "during",
        _ => "after",
    }
}
