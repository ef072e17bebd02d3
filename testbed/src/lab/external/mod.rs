//! Replays the metrics of public recordings as if restarts were permitted, to count what the agent
//! would have done to third-party services.
//!
//! A recording becomes a trace, as if an agent had written it, and `paramedic replay` judges it
//! with the whole engine. What a recording lacks is neutral. The data stay where they are.
mod trace;
mod wide;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use wide::Recording;

use super::{progress::Progress, soak};
use crate::stage::Programs;

/// What the replay of one file takes, about.
const TAKES: Duration = Duration::from_secs(2);
/// Maximum size of a file.
const LARGEST: u64 = 256 << 20;
/// Folders within folders that are searched.
const DEEPEST: u32 = 16;

/// The layouts that are recognised, by their columns.
const LAYOUTS: &str = "a column `time` and, of each service, `SERVICE-rps` and \
                       `SERVICE-success_rate` (Cloud-OpsBench)";

/// What the agent would have done to the services of all files.
#[derive(Debug, Default, Serialize)]
struct Judged {
    files: usize,
    services: u64,
    service_minutes: f64,
    /// Remedies that the agent would have applied; a soft one that changes nothing comes again.
    soft: u64,
    hard: u64,
    services_treated: usize,
    soft_per_10000_minutes: f64,
    hard_per_10000_minutes: f64,
    acts: Vec<Act>,
}

/// One of these remedies.
#[derive(Debug, PartialEq, Serialize)]
struct Act {
    file: String,
    service: String,
    remedy: String,
    why: String,
}

/// Judges every recording below `folder`; `arguments` name another model.
pub(super) fn judge(
    programs: &Programs,
    folder: &Path,
    arguments: &[String],
    json: bool,
) -> Result<()> {
    let files = files(folder)?;
    let mut judged = Judged { files: files.len(), ..Judged::default() };
    let mut progress = Progress::new("external", files.len(), TAKES);
    let mut unused = BTreeSet::new();
    for file in &files {
        let recording = read(file)?;
        unused.extend(recording.unused.iter().cloned());
        let traces = tempfile::tempdir()?;
        super::rows::write_lines(&traces.path().join("0.trace.gz"), trace::lines(&recording))?;
        let replayed = soak::replay_one(programs, traces.path(), arguments)?;
        let name = file.strip_prefix(folder).unwrap_or(file).display().to_string();
        progress.step(&format!("{name}: {} remedies", replayed.remedies.len()));
        judged.add(&name, &replayed);
    }
    judged.rate();
    if !unused.is_empty() {
        let list = unused.into_iter().collect::<Vec<_>>().join(", ");
        eprintln!("warning: not used, the agent measures no such thing of a service: {list}");
    }
    print!("{}", judged.told());
    if json {
        println!("{}", serde_json::to_string(&judged)?);
    }
    Ok(())
}

/// The recordings below a folder, sorted. Files of other layouts are passed over with a warning.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut known, mut others) = (Vec::new(), Vec::new());
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let unread = || format!("cannot read the folder {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(unread)? {
            let entry = entry.with_context(unread)?;
            let (path, kind) = (entry.path(), entry.file_type().with_context(unread)?);
            if kind.is_dir() && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if kind.is_file() && path.extension().is_some_and(|ext| ext == "csv") {
                let text = text(&path)?;
                let head = text.lines().next().unwrap_or_default();
                if wide::is_this(head) { known.push(path) } else { others.push(path) }
            }
        }
    }
    known.sort();
    others.sort();
    match (known.is_empty(), others.first()) {
        (true, Some(other)) => bail!(
            "{} and {} more have no layout that is known here: {LAYOUTS}",
            other.display(),
            others.len() - 1
        ),
        (true, None) => bail!("no .csv below {}; known are files with {LAYOUTS}", folder.display()),
        (false, _) => {}
    }
    for other in others {
        eprintln!("warning: {} is passed over; known are files with {LAYOUTS}", other.display());
    }
    Ok(known)
}

fn text(file: &Path) -> Result<String> {
    let unread = || format!("cannot read {}", file.display());
    let size = fs::metadata(file).with_context(unread)?.len();
    ensure!(size <= LARGEST, "{} has {size} bytes, more than {LARGEST}", file.display());
    fs::read_to_string(file).with_context(unread)
}

fn read(file: &Path) -> Result<Recording> {
    let text = text(file)?;
    Recording::read(&text).with_context(|| format!("{} cannot be used", file.display()))
}

impl Judged {
    fn add(&mut self, file: &str, replayed: &soak::Replayed) {
        let counts = replayed.counts();
        self.services += counts.pods;
        self.service_minutes += counts.pod_minutes;
        self.soft += counts.soft;
        self.hard += counts.hard;
        self.services_treated += replayed.treated();
        self.acts.extend(replayed.remedies.iter().map(|remedy| Act {
            file: file.to_owned(),
            service: remedy.target.clone(),
            remedy: remedy.remedy.clone(),
            why: remedy.why.clone(),
        }));
    }

    fn rate(&mut self) {
        let rate = |count: u64| count as f64 / self.service_minutes.max(f64::MIN_POSITIVE) * 1e4;
        (self.soft_per_10000_minutes, self.hard_per_10000_minutes) =
            (rate(self.soft), rate(self.hard));
    }

    fn told(&self) -> String {
        let mut lines = Vec::new();
        for Act { file, service, remedy, why } in &self.acts {
            lines.push(format!("{file}: {service}: {remedy}: {why}"));
        }
        lines.push(format!(
            "{} service-minutes of {} services in {} files, restarts permitted: {} restarts and \
             {} soft remedies, for {} services",
            self.service_minutes.round(),
            self.services,
            self.files,
            self.hard,
            self.soft,
            self.services_treated
        ));
        lines.push(format!(
            "per 10,000 service-minutes: {:.2} restarts, {:.2} soft remedies",
            self.hard_per_10000_minutes, self.soft_per_10000_minutes
        ));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "time,web-rps,web-success_rate\n2026-01-02 00:00:00,1,1\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn recordings_are_found_in_order_in_any_folder() {
        let folder = folder(&[
            ("b/raw/metrics.csv", KNOWN),
            ("a/metrics.csv", KNOWN),
            ("a/other.csv", "id,value\n"),
            ("a/notes.txt", KNOWN),
        ]);
        let found = files(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|f| f.strip_prefix(&folder).unwrap()).collect();
        assert_eq!(names, [Path::new("a/metrics.csv"), Path::new("b/raw/metrics.csv")]);
    }

    #[test]
    fn a_folder_of_unknown_layouts_is_refused_with_the_known_ones() {
        for found in [&[("x.csv", "id,value\n")][..], &[]] {
            let error = files(folder(found).path()).unwrap_err().to_string();
            assert!(error.contains("SERVICE-success_rate"), "{error}");
        }
        let missing = files(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere"), "{missing}");
    }

    #[test]
    fn acts_are_told_with_their_rate() {
        let mut judged = Judged {
            files: 1,
            services: 4,
            service_minutes: 5000.0,
            soft: 1,
            services_treated: 1,
            acts: vec![Act {
                file: "a.csv".to_owned(),
                service: "web".to_owned(),
                remedy: "soft".to_owned(),
                why: "http_5xx_ratio = 0.5".to_owned(),
            }],
            ..Judged::default()
        };
        judged.rate();
        let told = judged.told();
        assert!(told.starts_with("a.csv: web: soft: http_5xx_ratio = 0.5\n5000 service-minutes"));
        assert!(told.ends_with("minutes: 0.00 restarts, 2.00 soft remedies\n"), "{told}");
    }
}
