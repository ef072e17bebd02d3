//! Incidents together with what their evidence shows, for lists and pages.
use std::{collections::HashMap, fs, path::PathBuf, time::SystemTime};

use serde::Serialize;

use super::store::{EVIDENCE_DIR, file_name, read};
use crate::{Incident, incident::Clean};

/// Maximum number of summaries to remember.
const MAX_KNOWN: usize = 1000;

/// An incident, and what its evidence shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// The incident.
    #[serde(flatten)]
    pub incident: Incident,
    /// What its evidence shows, in one line, or why it cannot be read; `None` if there is none.
    pub evidence: Option<String>,
}

impl Told {
    /// All details on several lines; see [`Incident::story`].
    #[must_use]
    pub fn story(&self) -> String {
        let story = self.incident.story();
        match &self.evidence {
            None => story,
            Some(summary) => format!(
                "{story}\n  evidence {}\n           paramedic incidents --evidence {}",
                Clean(summary),
                self.incident.id
            ),
        }
    }
}

/// The version of a file: it is read again if this has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    bytes: u64,
    modified: SystemTime,
}

/// The summaries of evidence, each read once while its file does not change.
#[derive(Debug)]
pub struct Summaries {
    state_dir: PathBuf,
    known: HashMap<i64, Summary>,
}

#[derive(Clone, Debug)]
struct Summary {
    file: FileVersion,
    /// The boot and uid of its incident: after the journal was deleted, numbers begin again.
    of: Option<(String, String)>,
    text: String,
}

impl Summaries {
    /// Of a state directory.
    #[must_use]
    pub fn of(state_dir: PathBuf) -> Self {
        Self { state_dir, known: HashMap::new() }
    }

    /// Adds to each incident what its evidence shows. Blocks while it reads new files.
    pub fn tell(&mut self, incidents: Vec<Incident>) -> Vec<Told> {
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let tell = |incident: Incident| Told { evidence: self.find(&incident), incident };
        incidents.into_iter().map(tell).collect()
    }

    fn find(&mut self, incident: &Incident) -> Option<String> {
        let id = incident.id;
        let found = fs::symlink_metadata(self.state_dir.join(EVIDENCE_DIR).join(file_name(id)));
        let file = found.ok().and_then(|file| {
            Some(FileVersion { bytes: file.len(), modified: file.modified().ok()? })
        });
        let Some(file) = file else {
            self.known.remove(&id);
            return None;
        };
        if self.known.get(&id).is_none_or(|known| known.file != file) {
            let summary = self.read(id, file);
            self.known.insert(id, summary);
        }
        let known = self.known.get(&id)?;
        let ours = known.of.as_ref().is_none_or(|(boot, uid)| {
            *boot == incident.boot.as_str() && *uid == incident.intent.target.uid
        });
        ours.then(|| known.text.clone())
    }

    fn read(&self, incident: i64, file: FileVersion) -> Summary {
        match read(&self.state_dir, incident) {
            Ok(evidence) => Summary {
                file,
                of: Some((evidence.boot, evidence.target.uid)),
                text: evidence.summary,
            },
            Err(error) => Summary { file, of: None, text: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        evidence::{EvidenceStore, tests::evidence},
        incident::tests::incident,
    };

    fn numbered(id: i64) -> Incident {
        Incident { id, ..incident() }
    }

    fn tell(summaries: &mut Summaries, id: i64) -> Option<String> {
        summaries.tell(vec![numbered(id)]).remove(0).evidence
    }

    fn path(dir: &Path, name: &str) -> PathBuf {
        dir.join(EVIDENCE_DIR).join(name)
    }

    #[test]
    fn an_incident_with_evidence_tells_what_it_shows_and_how_to_read_it() {
        let dir = tempfile::tempdir().unwrap();
        EvidenceStore::open_at(dir.path()).unwrap().keep(evidence(12)).unwrap();
        let mut summaries = Summaries::of(dir.path().to_owned());
        let told = summaries.tell(vec![numbered(12), numbered(13)]);
        assert!(told[0].evidence.as_ref().is_some_and(|text| text.starts_with("40 threads")));
        assert_eq!(told[1].evidence, None);
        assert_eq!(told[1].story(), numbered(13).story());
        let story = told[0].story();
        assert!(story.ends_with("paramedic incidents --evidence 12"), "{story}");
        assert!(story.contains("\n  evidence 40 threads: 38 S in futex_wait_queue"), "{story}");
        assert_eq!(serde_json::to_value(&told[1]).unwrap()["evidence"], serde_json::Value::Null);
    }

    #[test]
    fn a_file_that_changes_or_goes_is_noticed_and_a_damaged_one_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let store = EvidenceStore::open_at(dir.path()).unwrap();
        store.keep(evidence(12)).unwrap();
        let mut summaries = Summaries::of(dir.path().to_owned());
        assert!(tell(&mut summaries, 12).is_some());
        fs::write(path(dir.path(), "12.json"), "{").unwrap();
        assert!(tell(&mut summaries, 12).is_some_and(|text| text.contains("left untouched")));
        fs::remove_file(path(dir.path(), "12.json")).unwrap();
        assert_eq!(tell(&mut summaries, 12), None);
        assert_eq!(summaries.known.len(), 0);
    }

    #[test]
    fn evidence_of_an_earlier_journal_belongs_to_no_incident() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = evidence(12);
        other.target.uid = "http://localhost:6000".to_owned();
        EvidenceStore::open_at(dir.path()).unwrap().keep(other).unwrap();
        assert_eq!(tell(&mut Summaries::of(dir.path().to_owned()), 12), None);
    }
}
