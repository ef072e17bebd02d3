//! `cargo xtask lab`: injects real faults into real processes on the real kernel, records them with
//! the agent's own code, and labels them by the remedy that helped. It also grades the whole live
//! agent on new episodes.
pub(crate) mod card;
pub(crate) mod client;
pub(crate) mod data;
mod external;
mod grade;
pub(crate) mod kind;
pub(crate) mod label;
mod overload;
mod plan;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod rows;
mod soak;
mod subject;
mod truth;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use card::Card;
use grade::Graded;
use plan::{Batch, Episode, Shape};
use progress::Progress;
use record::Measured;
use sha2::Digest as _;
use xtask::{
    process,
    workspace::{Workspace, write_if_changed},
};

use crate::{
    demo,
    stage::{Interrupt, Programs, judged_by, short},
};

/// The fault lab: inject faults into patient-app, record what the agent sees, measure what helps.
///
/// Each episode is one fault in three targets at once, each in a cgroup of its own with clients of
/// its own: one gets no remedy, one is reset, one is restarted. The mildest remedy after which its
/// clients are served again is the label of what the agent saw. Healthy targets run beside them.
///
/// With --grade each episode is one target with a live agent of its own (guard, heal and verify
/// on), on seeds and intensities that no training saw; the recorded episodes in model/data show
/// which remedy is right. With --soak many healthy targets run for a long time, and --grade
/// replays their traces as if restarts were permitted.
///
/// With --external the metrics of public recordings (such as Cloud-OpsBench) are replayed as if
/// restarts were permitted, and every remedy is printed. The folder is yours and is only read.
///
/// Needs root, except with --external, and leaves only files below target/lab. An interrupted run
/// continues where it stopped.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Faults to inject [default: 60; 150 with --grade, 45 with --quick].
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Which episodes: the same seed is the same plan.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Faults that are played at once [default: 6; 10 with --grade].
    #[arg(long, value_name = "N", value_parser = 1..=30_i64)]
    at_once: Option<i64>,
    /// Healthy targets beside them [default: 30; 4 with --grade].
    #[arg(long, value_name = "N", value_parser = 0..=200_i64)]
    healthy: Option<i64>,
    /// The folder for the labelled rows [default: target/lab/SEED/data].
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Grade the live agent instead.
    #[arg(long, group = "judges", conflicts_with_all = ["into", "soak"])]
    grade: bool,
    /// Judge the recordings below this folder instead: CSV files whose columns are known.
    #[arg(long, value_name = "DIR", group = "judges", conflicts_with_all = ["into", "soak"])]
    external: Option<PathBuf>,
    /// Grade in less than ten minutes.
    #[arg(long, requires = "grade")]
    quick: bool,
    /// Grade or judge by this model instead of the one built in.
    #[arg(long, value_name = "FILE", requires = "judges")]
    model: Option<PathBuf>,
    /// Print one JSON object last, for machines.
    #[arg(long, requires = "judges")]
    json: bool,
    /// Record only healthy targets, for this many minutes.
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u64>,
    /// How many of them.
    #[arg(long, value_name = "N", default_value_t = 150, requires = "soak")]
    patients: usize,
    /// Use agent and patient-app from this folder instead of building them.
    #[arg(long, hide = true, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

impl Args {
    fn shape(&self, faults: i64, healthy: i64) -> Shape {
        // Bounded by their parsers.
        let count = |given: Option<i64>, default| given.unwrap_or(default) as usize;
        Shape { faults: count(self.at_once, faults), healthy: count(self.healthy, healthy) }
    }
}

/// A seed of a grading is never that of a recording.
const GRADE: u64 = 0x6772_6164_6500_0000;
/// How often a batch is tried: a machine may be too busy once.
const TRIES: usize = 3;

/// Plays the wanted batches that are not there yet.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder),
        None => Programs::as_tested(workspace)?,
    };
    if let Some(folder) = &args.external {
        return external::judge(&programs, folder, &model_of(args), args.json);
    }
    demo::check_rights(&programs)?;
    let interrupt = Interrupt::catch()?;
    let root = workspace.target.join("lab");
    if let Some(minutes) = args.soak {
        let root = root.join("soak");
        soak::record(&programs, &root, args.seed, minutes, args.patients, &interrupt)
    } else if args.grade {
        grade_all(workspace, &programs, &root, args, &interrupt)
    } else {
        record_all(&programs, &root, args, &interrupt)
    }
}

/// The arguments of an agent that decides by the chosen model.
fn model_of(args: &Args) -> Vec<String> {
    let model = args.model.iter().map(|file| file.display().to_string());
    model.flat_map(|file| ["--model".to_owned(), file]).collect()
}

fn record_all(programs: &Programs, root: &Path, args: &Args, interrupt: &Interrupt) -> Result<()> {
    let (shape, faults) = (args.shape(6, 30), args.episodes.unwrap_or(60));
    let root = root.join(args.seed.to_string());
    let batches = plan::plan(args.seed, faults, shape);
    let mut progress = Progress::new("lab", batches.len(), record::TAKES);
    let mut folders = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let folder = root.join(format!("{number:04}-{}-{}", shape.faults, shape.healthy));
        let done = folder.join("episodes.json");
        folders.push(folder.clone());
        let before = fs::read(&done).ok();
        let before = before.and_then(|text| serde_json::from_slice::<Vec<Measured>>(&text).ok());
        if before.is_some_and(|before| is_of(batch, before.iter().map(|m| &m.episode))) {
            progress.skip();
            continue;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        progress.tell("playing");
        let measured = again(interrupt, || record::play(programs, batch, &folder, interrupt))?;
        // Written last: a batch without it is played again.
        write_if_changed(&done, &serde_json::to_vec_pretty(&measured)?)?;
        progress.step(&note(&measured));
    }
    let into = args.into.clone().unwrap_or_else(|| root.join("data"));
    data::put_together(
        &folders,
        &into,
        &format!(
            "--episodes {faults} --seed {} --at-once {} --healthy {}",
            args.seed, shape.faults, shape.healthy
        ),
    )
}

/// Whether the played batch is this one: the last batch of a shorter run holds less.
fn is_of<'a>(batch: &Batch, played: impl Iterator<Item = &'a Episode>) -> bool {
    let key = |episode: &Episode| (episode.id, episode.kind, episode.seed);
    batch.iter().map(key).eq(played.map(key))
}

/// Plays a batch again if the test bed itself failed.
fn again<T>(interrupt: &Interrupt, play: impl Fn() -> Result<T>) -> Result<T> {
    let mut tries = 1;
    loop {
        match play() {
            Err(error) if tries < TRIES && interrupt.check().is_ok() => {
                eprintln!("\nthe test bed failed, trying again: {error:#}");
                tries += 1;
            }
            other => return other,
        }
    }
}

/// The kinds of a batch with their labels.
fn note(measured: &[Measured]) -> String {
    let faults = measured.iter().filter(|m| !m.episode.kind.is_healthy());
    let word = |m: &Measured| format!("{} {}", m.episode.kind.name(), m.measure.label.name());
    faults.map(word).collect::<Vec<_>>().join(", ")
}

fn grade_all(
    workspace: &Workspace,
    programs: &Programs,
    root: &Path,
    args: &Args,
    interrupt: &Interrupt,
) -> Result<()> {
    let expected = grade::expected(&workspace.root.join("model"))?;
    let shape = args.shape(10, 4);
    let faults = args.episodes.unwrap_or(if args.quick { 45 } else { 150 });
    let batches = plan::plan(GRADE.wrapping_add(args.seed), faults, shape);
    let arguments = model_of(args);
    let mut graded_by = judged_by(programs)?;
    if let Some(model) = &args.model {
        let bytes = fs::read(model)
            .with_context(|| format!("cannot read the model {}", model.display()))?;
        graded_by.update(bytes);
    }
    // A changed agent, patient-app, lab or model is graded again.
    let root_of_grade = root.join(format!("grade-{}-{}", args.seed, short(graded_by)));
    let play = |batch: &Batch| grade::play(programs, batch, &expected, &arguments, interrupt);
    let mut progress = Progress::new("grade", batches.len(), grade::TAKES);
    let mut all: Vec<Graded> = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let done =
            root_of_grade.join(format!("{number:04}-{}-{}.json", shape.faults, shape.healthy));
        if let Ok(text) = fs::read(&done) {
            let before: Vec<Graded> = serde_json::from_slice(&text)
                .with_context(|| format!("{} is not of this lab: delete it", done.display()))?;
            if is_of(batch, before.iter().map(|graded| &graded.episode)) {
                progress.skip();
                all.extend(before);
                continue;
            }
        }
        progress.tell("playing");
        let graded = again(interrupt, || play(batch))?;
        write_if_changed(&done, &serde_json::to_vec_pretty(&graded)?)?;
        let wrong = graded.iter().filter(|g| g.verdict != grade::Verdict::Right);
        let word = |g: &Graded| format!("{} {:?}", g.episode.kind.name(), g.verdict);
        let notes: Vec<_> = wrong.map(word).collect();
        progress.step(&if notes.is_empty() { "all right".to_owned() } else { notes.join(", ") });
        all.extend(graded);
    }
    process::announce("overload: all patients of one agent at once");
    let drowned = again(interrupt, || overload::play(programs, args.seed, &arguments, interrupt))?;
    let soaked = soak::replay(programs, &root.join("soak"), &arguments)?;
    let card = Card::of(&all, drowned, soaked);
    println!("\n{}", card.table());
    if args.json {
        println!("{}", card.json());
    }
    if all.is_empty() {
        bail!("nothing was graded: --episodes must be 1 or more");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shorter_run_left_is_not_taken_for_a_whole_batch() {
        let shape = Shape { faults: 10, healthy: 4 };
        let (short, long) = (plan::plan(1, 45, shape), plan::plan(1, 150, shape));
        assert!(is_of(&long[3], short[3].iter()));
        assert!(!is_of(&long[4], short[4].iter()), "five faults of ten");
    }
}
