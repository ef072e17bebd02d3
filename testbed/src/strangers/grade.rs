//! Plays the chosen episodes with a live agent each, and goes on where an earlier run was
//! interrupted.
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use xtask::workspace::write_if_changed;

use super::{
    crew::{self, Done},
    plan::Planned,
    play::{self, Cast, Played},
    verdict::Verdict,
};
use crate::stage::{judged_by, short};

/// How often an episode is tried if the test bed failed or clients were served badly: a machine may
/// be too busy once.
const TRIES: usize = 2;
/// The duration of an episode, estimated.
const TAKES: Duration = Duration::from_secs(36);

/// Plays those that an interrupted run of the same programs has not played.
pub(super) fn grade(
    cast: &Cast<'_>,
    planned: &[Planned],
    at_once: usize,
    root: &Path,
    seed: u64,
) -> Result<Vec<Played>> {
    let folder = root.join(format!("grade-{seed}-{}", short(judged_by(cast.programs)?)));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = |one: &Planned| folder.join(format!("{}.json", one.file_name()));
    let played = crew::play_all("strangers", planned, at_once, TAKES, |number| {
        let one = &planned[number];
        let (end, before) = match left(&file(one)) {
            Some(end) => (end, true),
            None => (again(cast, one, number, &file(one))?, false),
        };
        let note = format!("{}: {}, did {}", end.name, end.verdict.name(), end.did.name());
        Ok(Done { end, note, before })
    })?;
    // After a complete run, the next one plays every episode again.
    for one in planned {
        let _ = fs::remove_file(file(one));
    }
    let _ = fs::remove_dir(&folder);
    Ok(played)
}

/// What an interrupted run has left.
fn left(file: &PathBuf) -> Option<Played> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Plays one, and again if it proved nothing. What it proved is kept in a file.
fn again(cast: &Cast<'_>, planned: &Planned, number: usize, file: &Path) -> Result<Played> {
    let mut tries = 1;
    loop {
        let played = play::play(cast, planned, number)?;
        if !matches!(played.verdict, Verdict::Error | Verdict::Disturbed) {
            write_if_changed(file, &serde_json::to_vec_pretty(&played)?)?;
            return Ok(played);
        }
        if tries == TRIES {
            return Ok(played);
        }
        let verdict = played.verdict.name();
        eprintln!("\n{}: {verdict}, once more: {}", played.name, played.why);
        tries += 1;
    }
}
