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

use super::{
    kind::{Kind, Remedy},
    record::Measured,
    rows,
};

/// Writes `rows.csv.gz`, `episodes.jsonl` and `README.md`.
pub(crate) fn put_together(folders: &[PathBuf], into: &Path, how: &str) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut episodes: Vec<Measured> = Vec::new();
    let mut lines = vec![rows::head()];
    let mut counted = Counted::default();
    for folder in folders {
        let text = fs::read_to_string(folder.join("episodes.json"))?;
        let batch: Vec<Measured> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not of this lab: delete it", folder.display()))?;
        episodes.extend(batch);
        let mut text = String::new();
        GzDecoder::new(File::open(folder.join("rows.csv.gz"))?).read_to_string(&mut text)?;
        for line in text.lines() {
            counted.add(line);
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
    let about = about(&episodes, &counted, how);
    fs::write(into.join("README.md"), &about)?;
    println!("{about}\nWritten to {}", into.display());
    Ok(())
}

/// Counts of rows, by label and by whether the target was healthy.
#[derive(Default)]
struct Counted {
    rows: usize,
    labelled: BTreeMap<String, usize>,
    /// Rows of targets that were well throughout, and of other targets before their fault.
    well: usize,
    before: usize,
}

impl Counted {
    /// A line without its head, in the order of [`rows::head`].
    fn add(&mut self, line: &str) {
        let mut fields = line.split(',').skip(1);
        let (kind, _arm) = (fields.next().unwrap_or_default(), fields.next());
        let (phase, label) = (fields.next(), fields.next().unwrap_or_default());
        self.rows += 1;
        *self.labelled.entry(label.to_owned()).or_default() += 1;
        if Kind::HEALTHY.iter().any(|healthy| healthy.name() == kind) {
            self.well += 1;
        } else if phase == Some("before") {
            self.before += 1;
        }
    }
}

fn about(episodes: &[Measured], counted: &Counted, how: &str) -> String {
    let Counted { rows, labelled, well, before } = counted;
    let percent = |part: usize| 100 * part / (*rows).max(1);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let mut kinds: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for m in episodes {
        let counts = kinds.entry(m.episode.kind.name()).or_default();
        counts[m.label as usize] += 1;
        counts[3] += usize::from(m.suffered);
    }
    // Recordings of different builds need not be alike, so they are counted separately.
    let mut builds: BTreeMap<&str, usize> = BTreeMap::new();
    for m in episodes {
        *builds.entry(m.build.as_str()).or_default() += 1;
    }
    let builds = builds.iter().map(|(build, n)| format!("`{build}` {n}")).collect::<Vec<_>>();
    let of = |label: &str| labelled.get(label).copied().unwrap_or(0);
    let mut text = format!(
        "# Recorded episodes\n\n\
         `cargo xtask lab {how}` wrote these files. Do not edit them. The same command records \
         episodes of the same kinds: the plan repeats, the behaviour of the machine does not.\n\n\
         - recorded {date} on {} cores, kernel {}\n\
         - episodes by the build of agent and `patient-app` (SHA-256): {}\n\
         - {} episodes: {} faults, each in paired targets, and {} without a fault\n\
         - {rows} rows: {} labelled `no_action`, {} `reset_errors`, {} `restart_service`, {} \
         without a label\n\
         - {well} of the rows ({} %) are of targets that were well throughout; with the {before} \
         rows of other targets from before their fault, {} % are of healthy targets\n\n\
         `rows.csv.gz` holds one row per sample of the agent, made by its own code (`paramedic watch \
         --record`, `paramedic replay --rows`). `label` is the mildest remedy after which the \
         clients of a paired target were served again. It is empty while the fault is not yet \
         evident (fewer than six bad requests), and in the window after a remedy that helped. \
         `episodes.jsonl` holds the plan and the measurements of each episode.\n\n\
         | kind | episodes | no_action | reset_errors | restart_service | clients suffered |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        std::thread::available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        builds.join(", "),
        episodes.len(),
        episodes.iter().filter(|m| !m.episode.kind.is_healthy()).count(),
        episodes.iter().filter(|m| m.episode.kind.is_healthy()).count(),
        of(Remedy::NoAction.name()),
        of(Remedy::ResetErrors.name()),
        of(Remedy::RestartService.name()),
        of(""),
        percent(*well),
        percent(well + before),
    );
    for (kind, [none, reset, restart, suffered]) in kinds {
        let all = none + reset + restart;
        text += &format!("| {kind} | {all} | {none} | {reset} | {restart} | {suffered} |\n");
    }
    text
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
            counted.add(line);
        }
        assert_eq!((counted.rows, counted.well, counted.before), (3, 1, 1));
        assert_eq!((counted.labelled["no_action"], counted.labelled[""]), (2, 1));
    }
}
