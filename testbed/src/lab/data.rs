//! Joins the batches of a run into the files that training reads, with their provenance.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    kind::{Kind, Remedy},
    label::Measure,
    record::Measured,
    rows,
};

/// Writes `rows.csv.gz`, `episodes.jsonl` and `README.md`.
pub(crate) fn put_together(folders: &[PathBuf], into: &Path, how: &str) -> Result<()> {
    let is_healthy = |kind: &str| Kind::HEALTHY.iter().any(|healthy| healthy.name() == kind);
    join(folders, into, &rows::head(), is_healthy, |episodes: &[Measured], counted| {
        about(episodes, counted, how)
    })
}

/// Joins what was recorded in these folders, with a text about it. `head` names the columns, and
/// `is_healthy` tells which kinds are of targets that were well throughout.
pub(crate) fn join<M: Serialize + DeserializeOwned>(
    folders: &[PathBuf],
    into: &Path,
    head: &str,
    is_healthy: impl Fn(&str) -> bool,
    about: impl FnOnce(&[M], &Counted) -> String,
) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut episodes: Vec<M> = Vec::new();
    let mut lines = vec![head.to_owned()];
    let mut counted = Counted::default();
    for folder in folders {
        let text = fs::read_to_string(folder.join("episodes.json"))?;
        let batch: Vec<M> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not of this lab: delete it", folder.display()))?;
        episodes.extend(batch);
        let mut text = String::new();
        GzDecoder::new(File::open(folder.join("rows.csv.gz"))?).read_to_string(&mut text)?;
        for line in text.lines() {
            counted.add(head, line, &is_healthy);
            lines.push(line.to_owned());
        }
    }
    rows::write_lines(&into.join("rows.csv.gz"), lines.into_iter())?;
    let mut lines = String::new();
    for episode in &episodes {
        lines += &serde_json::to_string(episode)?;
        lines += "\n";
    }
    fs::write(into.join("episodes.jsonl"), lines)?;
    let about = about(&episodes, &counted);
    fs::write(into.join("README.md"), &about)?;
    println!("{about}\nWritten to {}", into.display());
    Ok(())
}

/// Counts of rows, by label and by whether the target was healthy.
#[derive(Default)]
pub(crate) struct Counted {
    rows: usize,
    labelled: BTreeMap<String, usize>,
    /// Rows of targets that were well throughout, and of other targets before their fault.
    well: usize,
    before: usize,
}

impl Counted {
    /// A line below this head.
    fn add(&mut self, head: &str, line: &str, is_healthy: &impl Fn(&str) -> bool) {
        let fields: BTreeMap<_, _> = head.split(',').zip(line.split(',')).collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        self.rows += 1;
        *self.labelled.entry(field("label").to_owned()).or_default() += 1;
        if is_healthy(field("kind")) {
            self.well += 1;
        } else if field("phase") == "before" {
            self.before += 1;
        }
    }

    /// The items of a list.
    pub(crate) fn told(&self) -> String {
        let Self { rows, labelled, well, before } = self;
        let percent = |part: usize| 100 * part / (*rows).max(1);
        let of = |label: &str| labelled.get(label).copied().unwrap_or(0);
        format!(
            "- {rows} rows: {} labelled `no_action`, {} `reset_errors`, {} `restart_service`, {} \
             without a label\n\
             - {well} of the rows ({} %) are of targets that were well throughout; with the {before} \
             rows of other targets from before their fault, {} % are of healthy targets\n",
            of(Remedy::NoAction.name()),
            of(Remedy::ResetErrors.name()),
            of(Remedy::RestartService.name()),
            of(""),
            percent(*well),
            percent(well + before),
        )
    }
}

/// When and where, and by which builds of agent and patient-app.
pub(crate) fn provenance<'a>(builds: impl Iterator<Item = &'a str>) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Recordings of different builds need not be alike, so they are counted separately.
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    builds.for_each(|build| *count.entry(build).or_default() += 1);
    let builds = count.iter().map(|(build, n)| format!("`{build}` {n}")).collect::<Vec<_>>();
    format!(
        "- recorded {} on {} cores, kernel {}\n\
         - episodes by the build of agent and `patient-app` (SHA-256): {}\n",
        Timestamp::now().strftime("%Y-%m-%d"),
        std::thread::available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        builds.join(", "),
    )
}

/// A table of the labels of each kind.
pub(crate) fn kinds<'a>(episodes: impl Iterator<Item = (&'a str, &'a Measure)>) -> String {
    let mut kinds: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for (kind, measure) in episodes {
        let counts = kinds.entry(kind).or_default();
        counts[measure.label as usize] += 1;
        counts[3] += usize::from(measure.suffered);
    }
    let mut text = "\
        | kind | episodes | no_action | reset_errors | restart_service | clients suffered |\n\
        | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (kind, [none, reset, restart, suffered]) in kinds {
        let all = none + reset + restart;
        text += &format!("| {kind} | {all} | {none} | {reset} | {restart} | {suffered} |\n");
    }
    text
}

fn about(episodes: &[Measured], counted: &Counted, how: &str) -> String {
    format!(
        "# Recorded episodes\n\n\
         `cargo xtask lab {how}` wrote these files. Do not edit them. The same command records \
         episodes of the same kinds: the plan repeats, the behaviour of the machine does not.\n\n\
         {}\
         - {} episodes: {} faults, each in paired targets, and {} without a fault\n\
         {}\n\
         `rows.csv.gz` holds one row per sample of the agent, made by its own code (`paramedic watch \
         --record`, `paramedic replay --rows`). `label` is the mildest remedy after which the \
         clients of a paired target were served again. It is empty while the fault is not yet \
         evident (fewer than six bad requests), and in the window after a remedy that helped. \
         `episodes.jsonl` holds the plan and the measurements of each episode.\n\n{}",
        provenance(episodes.iter().map(|m| m.build.as_str())),
        episodes.len(),
        episodes.iter().filter(|m| !m.episode.kind.is_healthy()).count(),
        episodes.iter().filter(|m| m.episode.kind.is_healthy()).count(),
        counted.told(),
        kinds(episodes.iter().map(|m| (m.episode.kind.name(), &m.measure))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_healthy_targets_are_counted() {
        let mut counted = Counted::default();
        for line in [
            "0,healthy_idle,no_action,during,no_action,1.0,no_action,0",
            "1,stuck,no_action,before,no_action,-1.0,no_action,0",
            "1,stuck,no_action,during,,1.0,no_action,0",
        ] {
            counted.add(&rows::head(), line, &|kind| kind == "healthy_idle");
        }
        assert_eq!((counted.rows, counted.well, counted.before), (3, 1, 1));
        assert_eq!((counted.labelled["no_action"], counted.labelled[""]), (2, 1));
    }
}
