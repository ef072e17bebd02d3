//! The journal as the loop and its tasks share it.
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{BootId, Incident, Intent, Journal, JournalError, StateLock};
use crate::{moment::Moment, verify::Outcome};

/// A journal, and whether it took the last thing that it was told. Its calls block on the disk:
/// make them from a blocking task.
#[derive(Clone, Debug)]
pub struct SharedJournal {
    journal: Arc<Mutex<Journal>>,
    writable: Arc<AtomicBool>,
}

impl SharedJournal {
    /// Opens the journal of a locked state directory; also returns what a former life of the
    /// agent intended in this boot and never concluded. The lock has to outlive the journal.
    ///
    /// # Errors
    /// See [`Journal::open`].
    pub fn open(lock: &StateLock) -> Result<(Self, Vec<Incident>), JournalError> {
        let boot = BootId::current()
            .map_err(|source| JournalError::StateDir { path: "/proc".into(), source })?;
        let mut journal = Journal::open(lock, boot.clone())?;
        journal.close_earlier_boots()?;
        let unfinished = journal.unfinished(&boot)?;
        let shared = Self {
            journal: Arc::new(Mutex::new(journal)),
            writable: Arc::new(AtomicBool::new(true)),
        };
        Ok((shared, unfinished))
    }

    /// Whether the last write succeeded.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// See [`Journal::intend`].
    ///
    /// # Errors
    /// As there.
    pub fn intend(&self, intent: &Intent) -> Result<i64, JournalError> {
        let intended = self.journal().intend(intent);
        self.note(intended.is_ok());
        intended
    }

    /// See [`Journal::conclude`].
    ///
    /// # Errors
    /// As there.
    pub fn conclude(
        &self,
        incident: i64,
        outcome: Outcome,
        detail: Option<&str>,
    ) -> Result<(), JournalError> {
        let concluded = self.journal().conclude(incident, outcome, detail, Moment::now());
        self.note(concluded.is_ok());
        concluded
    }

    fn note(&self, written: bool) {
        self.writable.store(written, Ordering::Relaxed);
    }

    /// A writer that panicked left the database to SQLite's own rollback.
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
