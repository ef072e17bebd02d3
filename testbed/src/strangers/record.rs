//! Records episodes on paired copies while an agent that only observes watches them, and labels
//! what it saw by the remedy that helped, as the fault lab does.
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use xtask::workspace::write_if_changed;

use super::{
    copies,
    crew::{self, Done},
    data,
    plan::{Draw, Planned},
    play::Cast,
    verdict::Did,
};
use crate::lab::{kind::Remedy, label::Measure, rows};

/// What an episode takes, about.
const TAKES: Duration = Duration::from_secs(56);
/// How often an episode is tried if the test bed failed: a machine may be too busy once.
const TRIES: usize = 2;

/// One episode, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) service: String,
    pub(super) seed: u64,
    #[serde(flatten)]
    draw: Draw,
    /// What somebody who operates the service would do, as the table says.
    pub(super) operator: Vec<Did>,
    #[serde(flatten)]
    pub(super) measure: Measure,
    /// What the clients of the copy without a remedy were given from the fault on.
    given: String,
    /// The build of agent and patient-app.
    pub(super) build: String,
}

impl Recorded {
    /// Whether the remedy that helped is one that an operator would choose.
    pub(super) fn agrees(&self) -> bool {
        self.operator.contains(&match self.measure.label {
            Remedy::NoAction => Did::Nothing,
            Remedy::ResetErrors => Did::Soft,
            Remedy::RestartService => Did::Restart,
        })
    }
}

/// What all episodes of a run share.
pub(super) struct Run<'a> {
    pub(super) cast: &'a Cast<'a>,
    pub(super) seed: u64,
    pub(super) build: String,
}

/// Records those that are not there yet below `root`, and joins all of them in `into`.
pub(super) fn record(
    run: &Run<'_>,
    planned: &[Planned],
    at_once: usize,
    root: &Path,
    into: &Path,
) -> Result<()> {
    let root = root.join(format!("record-{}", run.seed));
    let folders = crew::play_all("record", planned, at_once, TAKES, |number| {
        let one = &planned[number];
        let folder = root.join(one.file_name());
        if left(&folder, one, &run.build) {
            return Ok(Done { end: Ok(folder), note: String::new(), before: true });
        }
        Ok(match again(run, one, number, &folder) {
            Ok(recorded) => {
                let label = recorded.measure.label.name();
                let differs = if recorded.agrees() { "" } else { ", unlike an operator" };
                let note = format!("{}: {label}{differs}", recorded.name);
                Done { end: Ok(folder), note, before: false }
            }
            Err(error) => {
                run.cast.interrupt.check()?;
                let note = format!("{}: failed: {error:#}", one.name());
                Done { end: Err(one.name()), note, before: false }
            }
        })
    })?;
    let (there, failed): (Vec<_>, Vec<_>) = folders.into_iter().partition(Result::is_ok);
    let there: Vec<PathBuf> = there.into_iter().flatten().collect();
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).collect();
    ensure!(!there.is_empty(), "no episode could be recorded: {}", failed.join(", "));
    data::put_together(&there, into, run.seed)?;
    if !failed.is_empty() {
        bail!("not recorded: {}; the same command tries them again", failed.join(", "));
    }
    Ok(())
}

/// Whether an earlier run has recorded this episode with the same agent, whose rows have the same
/// columns.
fn left(folder: &Path, planned: &Planned, build: &str) -> bool {
    let text = fs::read(folder.join("episodes.json")).ok();
    let before = text.and_then(|text| serde_json::from_slice::<Vec<Recorded>>(&text).ok());
    let key = (planned.id, planned.name(), planned.draw, build.to_owned());
    let of = |one: Recorded| (one.id, one.name, one.draw, one.build);
    before.is_some_and(|all| all.into_iter().map(of).eq([key]))
}

/// Records one, and again if the test bed itself failed.
fn again(run: &Run<'_>, planned: &Planned, number: usize, folder: &Path) -> Result<Recorded> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut tries = 1;
    let shown = loop {
        match copies::play(run.cast, planned, number, folder) {
            Err(error) if tries < TRIES && run.cast.interrupt.check().is_ok() => {
                eprintln!("\n{}: the test bed failed, once more: {error:#}", planned.name());
                tries += 1;
            }
            other => break other?,
        }
    };
    rows::write(&folder.join("rows.csv.gz"), &shown.rows)?;
    let recorded = Recorded {
        id: planned.id,
        name: planned.name(),
        kind: copies::kind(planned.fault),
        service: planned.service.name.to_owned(),
        seed: run.seed,
        draw: planned.draw,
        operator: planned.right.to_vec(),
        measure: shown.measure,
        given: shown.given,
        build: run.build.clone(),
    };
    // Written last: an episode without it is played again.
    let done = folder.join("episodes.json");
    write_if_changed(&done, &serde_json::to_vec_pretty(&[&recorded])?)?;
    Ok(recorded)
}
