//! `cargo xtask lab`: real faults in real processes on the real kernel, recorded by the agent's own
//! sensing, labelled by what helped.
mod client;
mod data;
mod kind;
mod plan;
mod progress;
mod record;
mod rows;
mod truth;
mod ward;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use plan::Shape;
use progress::Progress;
use record::Measured;

use crate::{
    demo,
    stage::{Interrupt, Programs},
    workspace::{Workspace, write_if_changed},
};

/// The fault lab: inject faults into real patients, record what the agent sees, measure what helps.
///
/// Each episode is one fault in up to three patients at once, each in a cgroup of its own with
/// clients of its own: one is left alone, one is reset, one is restarted. The mildest remedy after
/// which its clients are served again is the label of what the agent saw. Healthy patients run
/// beside them. Needs root; leaves nothing behind but its files.
///
/// Files are kept below target/lab/SEED; an interrupted run goes on where it stopped. `--into
/// model/data` makes them the data that `cargo xtask train` learns from.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Faults to inject, each in paired patients.
    #[arg(long, default_value_t = 60, value_name = "N")]
    episodes: usize,
    /// Which episodes: the same seed is the same plan.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Faults that are played at once.
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = 1..=30_i64)]
    at_once: i64,
    /// Healthy patients beside them.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = 0..=200_i64)]
    healthy: i64,
    /// Where the labelled rows are put together [default: target/lab/SEED/data].
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Agent and patient are in this folder, and are not built.
    #[arg(long, hide = true, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Plays what is not there yet, then puts all together.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder),
        None => demo::build(workspace)?,
    };
    demo::check_rights(&programs)?;
    let interrupt = Interrupt::catch()?;
    let shape = Shape { faults: args.at_once as usize, healthy: args.healthy as usize };
    let batches = plan::plan(args.seed, args.episodes, shape);
    let root = workspace.target.join("lab").join(args.seed.to_string());
    let mut progress = Progress::new("lab", batches.len(), record::TAKES);
    let mut folders = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let folder = root.join(format!("{number:04}-{}-{}", shape.faults, shape.healthy));
        let done = folder.join("episodes.json");
        folders.push(folder.clone());
        if done.exists() {
            progress.skip();
            continue;
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        progress.tell("playing");
        let measured = record::play(&programs, batch, &folder, &interrupt)?;
        // Written last: a batch without it is played again.
        write_if_changed(&done, &serde_json::to_vec_pretty(&measured)?)?;
        progress.step(&note(&measured));
    }
    let into = args.into.clone().unwrap_or_else(|| root.join("data"));
    data::put_together(&folders, &into, args)
}

/// The kinds of a batch with their labels.
fn note(measured: &[Measured]) -> String {
    let faults = measured.iter().filter(|m| !m.episode.kind.is_healthy());
    let word = |m: &Measured| format!("{} {}", m.episode.kind.name(), m.label.name());
    faults.map(word).collect::<Vec<_>>().join(", ")
}
