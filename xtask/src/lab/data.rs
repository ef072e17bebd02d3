//! Puts the batches of a run together into what training reads, with its provenance.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use jiff::Timestamp;

use super::{kind::Remedy, record::Measured, rows};

/// Writes `rows.csv.gz`, `episodes.jsonl` and `README.md`.
pub(crate) fn put_together(folders: &[PathBuf], into: &Path, how: &str) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut episodes: Vec<Measured> = Vec::new();
    let mut lines = vec![rows::head()];
    let (mut count, mut labelled) = (0_usize, BTreeMap::<String, usize>::new());
    for folder in folders {
        let text = fs::read_to_string(folder.join("episodes.json"))?;
        let batch: Vec<Measured> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not of this lab: delete it", folder.display()))?;
        episodes.extend(batch);
        let mut text = String::new();
        GzDecoder::new(File::open(folder.join("rows.csv.gz"))?).read_to_string(&mut text)?;
        for line in text.lines() {
            let label = line.split(',').nth(4).unwrap_or_default();
            *labelled.entry(label.to_owned()).or_default() += 1;
            count += 1;
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
    let about = about(&episodes, count, &labelled, how);
    fs::write(into.join("README.md"), &about)?;
    println!("{about}\nWritten to {}", into.display());
    Ok(())
}

fn about(
    episodes: &[Measured],
    rows: usize,
    labelled: &BTreeMap<String, usize>,
    how: &str,
) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let mut kinds: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for m in episodes {
        let counts = kinds.entry(m.episode.kind.name()).or_default();
        counts[m.label as usize] += 1;
        counts[3] += usize::from(m.suffered);
    }
    // What was recorded by different programs is told apart: it need not be alike.
    let mut builds: BTreeMap<&str, usize> = BTreeMap::new();
    for m in episodes {
        *builds.entry(m.build.as_str()).or_default() += 1;
    }
    let builds = builds.iter().map(|(build, n)| format!("`{build}` {n}")).collect::<Vec<_>>();
    let of = |label: &str| labelled.get(label).copied().unwrap_or(0);
    let mut text = format!(
        "# Recorded episodes\n\n\
         Written by `cargo xtask lab {how}`; do not \
         edit. The same command records others of the same kind: the plan repeats, the machine's \
         moods do not.\n\n\
         - put together {date} on {} cores, kernel {}\n\
         - episodes by the build of agent and patient (SHA-256): {}\n\
         - {} episodes: {} faults, each in paired patients, and {} of being well\n\
         - {rows} rows: {} labelled `no_action`, {} `reset_errors`, {} `restart_service`, {} \
         without a label\n\n\
         `rows.csv.gz` holds one row per look of the agent, made by its own code (`paramedic watch \
         --record`, `paramedic replay --rows`). `label` is the mildest remedy after which the \
         clients of a paired patient were served again; it is empty where the fault could not yet \
         be seen (fewer than six bad requests), and in the window after a remedy that helped. \
         `episodes.jsonl` holds what was planned and measured of each episode.\n\n\
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
    );
    for (kind, [none, reset, restart, suffered]) in kinds {
        let all = none + reset + restart;
        text += &format!("| {kind} | {all} | {none} | {reset} | {restart} | {suffered} |\n");
    }
    text
}
