//! Reads the journal while there are listeners.
use std::path::Path;

use paramedic_record::{Incident, Journal};

/// An open journal, and the version that was read last. A version belongs to this connection: the
/// next connection starts with the same number, so both are stored together.
pub(super) struct Reader {
    journal: Journal,
    read: Option<i64>,
}

impl Reader {
    /// `None` if there is no readable journal.
    pub(super) fn open(state_dir: &Path) -> Option<Self> {
        let journal = Journal::read_only(state_dir).ok()?;
        Some(Self { journal, read: None })
    }

    /// The newest incidents, if the journal changed since they were last read.
    pub(super) fn newer(&mut self, limit: u32) -> Option<Vec<Incident>> {
        // Before the incidents: a write in between causes another read.
        let version = self.journal.version().ok()?;
        if self.read == Some(version) {
            return None;
        }
        let incidents = self.journal.recent(limit).ok()?;
        self.read = Some(version);
        Some(incidents)
    }
}
