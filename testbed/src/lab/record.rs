//! Plays one batch of episodes while an agent that only observes records, and labels its rows.
use std::{
    collections::HashMap,
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
    label::{Measure, Tried},
    plan::Episode,
    rows::{self, Row},
    subject::{self, Subject},
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
    #[serde(flatten)]
    pub(crate) measure: Measure,
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
    let urls = stage.iter().flat_map(|s| &s.arms).map(|a| a.subject.patient.url.clone());
    let agent = observer(programs, urls.collect(), state.path(), &trace, &[])?;
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
    let tried: Vec<_> = stage.iter().map(|trial| tried(trial, end)).collect();
    let measured = stage.iter().zip(&tried).map(|(trial, tried)| {
        let (untreated, others) = tried.split_first().context("an episode without a subject")?;
        Ok(Measured {
            episode: trial.episode.clone(),
            measure: Measure::of(untreated, others),
            build: build.clone(),
        })
    });
    let measured = measured.collect::<Result<Vec<_>>>()?;
    let rows = label(&stage, &tried, &measured, end, &replayed(programs, &trace)?)?;
    rows::write(&folder.join("rows.csv.gz"), &rows)?;
    Ok(measured)
}

/// An agent that watches, records into `trace` and applies no remedy. An older trace is removed.
pub(crate) fn observer(
    programs: &Programs,
    urls: Vec<String>,
    state: &Path,
    trace: &Path,
    options: &[&str],
) -> Result<Agent> {
    if trace.exists() {
        fs::remove_dir_all(trace).context("an old trace")?;
    }
    let trace = trace.display().to_string();
    let arguments = ["--max-remedy", "observe", "--record", &trace];
    let setup = Setup {
        urls,
        state_dir: state.to_owned(),
        arguments: arguments.iter().chain(options).map(|word| (*word).to_owned()).collect(),
    };
    Agent::start(programs, &setup, |_| ())
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

/// How the copies of an episode fared, the one without a remedy first.
fn tried(trial: &Trial, end: u64) -> Vec<Tried> {
    let of = |arm: &Arm| {
        let requests = arm.subject.clients.requests();
        Tried::of(arm.remedy, (arm.fault, arm.treated, end), &requests)
    };
    trial.arms.iter().map(of).collect()
}

/// The rows that the agent's own code makes of the trace.
pub(crate) fn replayed(programs: &Programs, trace: &Path) -> Result<String> {
    let mut parts: Vec<_> =
        fs::read_dir(trace)?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    parts.sort();
    ensure!(!parts.is_empty(), "the agent recorded nothing");
    let mut command = Command::new(&programs.agent);
    process::capture(command.args(["replay", "--rows"]).args(parts))
}

fn label(
    stage: &[Trial],
    tried: &[Vec<Tried>],
    measured: &[Measured],
    end: u64,
    csv: &str,
) -> Result<Vec<Row>> {
    let arms = stage.iter().zip(tried).zip(measured).flat_map(|((trial, tried), measured)| {
        let url = |arm: &Arm| arm.subject.patient.url.clone();
        trial.arms.iter().zip(tried).map(move |(arm, tried)| (url(arm), (tried, measured)))
    });
    let arms: HashMap<_, _> = arms.collect();
    let mut rows = Vec::new();
    for seen in rows::parse(csv)?.into_iter().filter(|seen| seen.at <= end) {
        let Some((tried, measured)) = arms.get(seen.target.as_str()) else { continue };
        let Episode { id, kind, .. } = measured.episode;
        let right = (!kind.is_healthy()).then_some(measured.measure.label);
        rows.push(Row::of(id, kind.name().to_owned(), None, tried, right, seen));
    }
    Ok(rows)
}
