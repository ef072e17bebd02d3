//! The files of evidence below the state directory: one for each incident, readable by its owner
//! alone, written whole or not at all.
//!
//! A damaged file is reported and changes nothing; a file of another name is left alone. The oldest
//! files of evidence are removed beyond 64 MiB in all and seven days of age.
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::fcntl::OFlag;
use serde::Deserialize as _;
use tracing::warn;

use super::{Evidence, VERSION};
use crate::StateLock;

/// Name of the directory in the state directory.
pub const EVIDENCE_DIR: &str = "evidence";

/// Limits of all files together.
const LIMITS: Limits = Limits { bytes: 64 << 20, age: Duration::from_secs(7 * 24 * 3600) };
/// A larger file was not written by an agent.
const MAX_FILE: u64 = 2 << 20;

#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    age: Duration,
}

/// Why evidence cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// There is none.
    #[error(
        "there is no evidence of incident {incident} in {}: it is collected before a restart or an \
         eviction, unless --evidence is off, and kept for seven days or until newer evidence needs \
         the room", dir.display()
    )]
    Missing {
        /// The incident.
        incident: i64,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The file is damaged or was not written by an agent. It stays unchanged.
    #[error("{} is no evidence that can be read: {detail}; it was left untouched", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer agent wrote it.
    #[error("{} has the format {version}, which is newer than this program: update it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The system refused.
    #[error("cannot use {}: {source}; make it readable and writable for this user", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl EvidenceError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), detail: detail.into() }
    }
}

/// The directory of evidence, for its one writer. Its calls block on the disk.
#[derive(Clone, Debug)]
pub struct EvidenceStore {
    dir: PathBuf,
    limits: Limits,
}

/// A file of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    incident: i64,
    bytes: u64,
    modified: SystemTime,
}

impl EvidenceStore {
    /// Opens the directory in a locked state directory, and creates it if it is missing (mode 0700).
    /// Removes what an earlier process left half-written, and what is beyond the limits. Reports
    /// other files in it, and leaves them alone.
    ///
    /// # Errors
    /// If the directory cannot be created or listed.
    pub fn open(lock: &StateLock) -> Result<Self, EvidenceError> {
        Self::open_within(lock.dir(), LIMITS)
    }

    #[cfg(test)]
    pub(super) fn open_at(state_dir: &Path) -> Result<Self, EvidenceError> {
        Self::open_within(state_dir, LIMITS)
    }

    fn open_within(state_dir: &Path, limits: Limits) -> Result<Self, EvidenceError> {
        let dir = state_dir.join(EVIDENCE_DIR);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(EvidenceError::io(&dir)(error));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(&dir).map_err(EvidenceError::io(&dir))?;
        if !found.is_dir() {
            return Err(EvidenceError::damaged(&dir, "it is not a directory"));
        }
        let store = Self { dir, limits };
        store.tidy()?;
        store.make_room(0)?;
        Ok(store)
    }

    /// Writes one file, after it has removed the oldest beyond the limits. Returns its size in bytes.
    ///
    /// # Errors
    /// If it cannot be written. Then no part of it remains under its name.
    pub fn keep(&self, mut evidence: Evidence) -> Result<usize, EvidenceError> {
        let path = self.dir.join(file_name(evidence.incident));
        let damaged = |error: serde_json::Error| EvidenceError::damaged(&path, error.to_string());
        let json = evidence.seal().map_err(damaged)?;
        self.make_room(json.len() as u64)?;
        let begun = self.dir.join(begun_name(evidence.incident));
        let written = write_whole(&begun, &path, &json).map_err(EvidenceError::io(&path));
        if written.is_err() {
            // It would be removed at the next start.
            let _ = fs::remove_file(&begun);
        }
        written.map(|()| json.len())
    }

    /// Removes half-written files, and reports foreign ones.
    fn tidy(&self) -> Result<(), EvidenceError> {
        for entry in fs::read_dir(&self.dir).map_err(EvidenceError::io(&self.dir))?.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if is_begun(&name) {
                remove(&path);
            } else if incident_of(&name).is_none() {
                warn!(file = %path.display(), "a file among the evidence is not the agent's; it stays");
            }
        }
        Ok(())
    }

    fn make_room(&self, incoming: u64) -> Result<(), EvidenceError> {
        let kept = list(&self.dir).map_err(EvidenceError::io(&self.dir))?;
        for incident in surplus(kept, self.limits, incoming, SystemTime::now()) {
            remove(&self.dir.join(file_name(incident)));
        }
        Ok(())
    }
}

/// The incidents whose files to remove before `incoming` bytes are written: those beyond the age, then
/// the oldest until the others fit.
fn surplus(mut kept: Vec<Kept>, limits: Limits, incoming: u64, now: SystemTime) -> Vec<i64> {
    kept.sort_by_key(|file| (file.modified, file.incident));
    let mut total = kept.iter().fold(incoming, |sum, file| sum.saturating_add(file.bytes));
    let mut removed = Vec::new();
    for file in kept {
        // A file of the future is new: a clock was set back.
        let age = now.duration_since(file.modified).unwrap_or_default();
        if age > limits.age || total > limits.bytes {
            total = total.saturating_sub(file.bytes);
            removed.push(file.incident);
        }
    }
    removed
}

/// The files of evidence in a directory.
fn list(dir: &Path) -> io::Result<Vec<Kept>> {
    let kept = |entry: fs::DirEntry| {
        let incident = incident_of(&entry.file_name().to_string_lossy())?;
        // Of a link its own, not that of the file that it leads to.
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Kept { incident, bytes: metadata.len(), modified: metadata.modified().ok()? })
    };
    Ok(fs::read_dir(dir)?.flatten().filter_map(kept).collect())
}

pub(super) fn file_name(incident: i64) -> String {
    format!("{incident}.json")
}

fn begun_name(incident: i64) -> String {
    format!("{incident}.json.begun")
}

fn is_begun(name: &str) -> bool {
    name.strip_suffix(".begun").is_some_and(|name| incident_of(name).is_some())
}

/// The incident of a file of this name, exactly as [`file_name`] writes it.
fn incident_of(name: &str) -> Option<i64> {
    let incident = name.strip_suffix(".json")?.parse().ok().filter(|incident| *incident >= 0)?;
    (file_name(incident) == name).then_some(incident)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(file = %path.display(), %error, "cannot remove old evidence");
    }
}

/// Writes and syncs a file under another name, and renames it: under its own name it is whole or not
/// there.
fn write_whole(begun: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = fs::remove_file(begun)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(begun)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(begun, path)?;
    // So that the name survives a power failure too.
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Reads the evidence of one incident, whether an agent runs or not.
///
/// # Errors
/// See [`EvidenceError`].
pub fn read(state_dir: &Path, incident: i64) -> Result<Evidence, EvidenceError> {
    let dir = state_dir.join(EVIDENCE_DIR);
    let path = dir.join(file_name(incident));
    let evidence = match text_of(&path) {
        Err(EvidenceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(EvidenceError::Missing { incident, dir });
        }
        text => parse(&path, &text?)?,
    };
    if evidence.incident == incident {
        return Ok(evidence);
    }
    Err(EvidenceError::damaged(&path, format!("it is of incident {}", evidence.incident)))
}

/// The text of a regular file of a plausible size. A link is not followed.
fn text_of(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(EvidenceError::io(path))?;
    let metadata = file.metadata().map_err(EvidenceError::io(path))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(EvidenceError::damaged(path, "it is not a file of at most 2 MiB"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(EvidenceError::io(path))?;
    Ok(bytes)
}

fn parse(path: &Path, text: &[u8]) -> Result<Evidence, EvidenceError> {
    let damaged = |error: serde_json::Error| EvidenceError::damaged(path, error.to_string());
    let value: serde_json::Value = serde_json::from_slice(text).map_err(damaged)?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version > u64::from(VERSION) => {
            Err(EvidenceError::Newer { path: path.to_owned(), version })
        }
        _ => Evidence::deserialize(value).map_err(damaged),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::evidence::tests::evidence;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn kept(incident: i64, bytes: u64, seconds: u64) -> Kept {
        Kept { incident, bytes, modified: at(seconds) }
    }

    fn store(dir: &Path) -> EvidenceStore {
        EvidenceStore::open_within(dir, LIMITS).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join(EVIDENCE_DIR)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_files_go_first_until_the_rest_fits() {
        let limits = Limits { bytes: 100, age: Duration::from_secs(1000) };
        let files = vec![kept(3, 40, 30), kept(1, 40, 10), kept(2, 40, 20)];
        assert_eq!(surplus(files.clone(), limits, 0, at(40)), [1]);
        assert_eq!(surplus(files.clone(), limits, 30, at(40)), [1, 2]);
        assert_eq!(surplus(files.clone(), limits, 101, at(40)), [1, 2, 3]);
        let roomy = Limits { bytes: 1000, ..limits };
        assert_eq!(surplus(files.clone(), roomy, 0, at(40)), [0_i64; 0]);
        assert_eq!(surplus(files.clone(), roomy, 0, at(1015)), [1], "one is too old");
        assert_eq!(surplus(files, roomy, 0, at(0)), [0_i64; 0], "all are of the future");
    }

    #[test]
    fn only_exact_names_are_evidence() {
        assert_eq!(incident_of("12.json"), Some(12));
        for name in ["012.json", "-1.json", "+1.json", "12.json.begun", ".json", "12", "a.json"] {
            assert_eq!(incident_of(name), None, "{name}");
        }
        assert!(is_begun("12.json.begun") && !is_begun("x.begun") && !is_begun("12.json"));
    }

    #[test]
    fn a_file_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = store(dir.path()).keep(evidence(12)).unwrap();
        let path = dir.path().join("evidence/12.json");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.len()), (0o600, bytes as u64));
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let back = read(dir.path(), 12).unwrap();
        assert_eq!((back.incident, back.found), (12, evidence(12).found));
        assert_eq!(names(dir.path()), ["12.json"]);
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_at_the_start_and_never_read() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path()).keep(evidence(1)).unwrap();
        fs::write(dir.path().join("evidence/2.json.begun"), "{\"version\":1,\"inc").unwrap();
        assert!(matches!(read(dir.path(), 2), Err(EvidenceError::Missing { .. })));
        let again = store(dir.path());
        assert_eq!(names(dir.path()), ["1.json"]);
        fs::write(dir.path().join("evidence/3.json.begun"), "left by a failed write").unwrap();
        again.keep(evidence(3)).unwrap();
        assert_eq!(names(dir.path()), ["1.json", "3.json"]);
    }

    #[test]
    fn quota_and_age_hold_at_the_start_and_before_each_write() {
        let dir = tempfile::tempdir().unwrap();
        let first = store(dir.path());
        let bytes = first.keep(evidence(1)).unwrap() as u64;
        first.keep(evidence(2)).unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        let touch = |name: &str, time| {
            File::options()
                .write(true)
                .open(dir.path().join("evidence").join(name))
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        touch("1.json", old);
        let small = Limits { bytes: 2 * bytes + bytes / 2, ..LIMITS };
        EvidenceStore::open_within(dir.path(), small).unwrap().keep(evidence(3)).unwrap();
        assert_eq!(names(dir.path()), ["2.json", "3.json"]);
        touch("2.json", SystemTime::now() - LIMITS.age - Duration::from_secs(60));
        store(dir.path());
        assert_eq!(names(dir.path()), ["3.json"]);
    }

    #[test]
    fn damaged_newer_and_foreign_files_are_reported_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("evidence");
        fs::create_dir(&folder).unwrap();
        let foreign = ["notes.txt", "7.json.old"];
        foreign.iter().for_each(|name| fs::write(folder.join(name), "mine").unwrap());
        fs::write(folder.join("1.json"), "{\"version\":1").unwrap();
        fs::write(folder.join("2.json"), "{\"version\":99}").unwrap();
        fs::write(folder.join("3.json"), serde_json::to_vec(&evidence(4)).unwrap()).unwrap();
        fs::write(folder.join("5.json"), vec![b' '; 3 << 20]).unwrap();
        symlink("/etc/hostname", folder.join("6.json")).unwrap();
        fs::create_dir(folder.join("8.json")).unwrap();
        store(dir.path()).keep(evidence(9)).unwrap();
        let error = |incident| read(dir.path(), incident).unwrap_err();
        assert!(matches!(error(1), EvidenceError::Damaged { .. }));
        assert!(matches!(error(2), EvidenceError::Newer { version: 99, .. }));
        assert!(error(3).to_string().contains("it is of incident 4"));
        assert!(matches!(error(5), EvidenceError::Damaged { .. }));
        assert!(matches!(error(6), EvidenceError::Io { .. }));
        assert!(matches!(error(8), EvidenceError::Damaged { .. }));
        assert!(matches!(error(10), EvidenceError::Missing { incident: 10, .. }));
        assert_eq!(fs::read_to_string(folder.join("notes.txt")).unwrap(), "mine");
        assert_eq!(names(dir.path()).len(), 9);
    }

    #[test]
    fn a_directory_that_is_a_file_or_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(EVIDENCE_DIR), "").unwrap();
        let refused = EvidenceStore::open_within(dir.path(), LIMITS);
        assert!(matches!(refused, Err(EvidenceError::Damaged { .. })), "{refused:?}");
        let (other, linked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(other.path(), linked.path().join(EVIDENCE_DIR)).unwrap();
        assert!(EvidenceStore::open_within(linked.path(), LIMITS).is_err());
    }
}
