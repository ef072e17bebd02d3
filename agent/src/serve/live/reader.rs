//! Reads the journal while there are listeners.
use std::path::Path;

use paramedic_record::{Incident, Journal};

/// An open journal, and which of its versions was read. A version is this connection's alone: the
/// next one begins with the same number, so neither outlives the other.
pub(super) struct Reader {
    journal: Journal,
    read: Option<i64>,
}

impl Reader {
    /// `None` if there is none that can be read.
    pub(super) fn open(state_dir: &Path) -> Option<Self> {
        let journal = Journal::read_only(state_dir).ok()?;
        Some(Self { journal, read: None })
    }

    /// The newest incidents, if the journal was written to since they were read.
    pub(super) fn newer(&mut self, limit: u32) -> Option<Vec<Incident>> {
        // Before the incidents: what is written in between is read again.
        let version = self.journal.version().ok()?;
        if self.read == Some(version) {
            return None;
        }
        let incidents = self.journal.recent(limit).ok()?;
        self.read = Some(version);
        Some(incidents)
    }
}
