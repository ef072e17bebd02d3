//! The journal, shared by the event loop and its tasks.
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use paramedic_core::{
    boot_time::BootTime,
    resize::{ResizeOutcome, Resource},
    verify::Outcome,
};
use paramedic_host::clock::Clock;
use parking_lot::{Mutex, MutexGuard};

use super::{
    BootId, Incident, Intent, Journal, JournalError, StateLock,
    journal::{Change, Problem, Resize, ResizeIntent, Unsent},
    outcomes::{Present, RECENT_MOST, Remembered, remembered},
};

/// A journal, and whether its last write succeeded. Its calls block on the disk: make them from a
/// blocking task.
#[derive(Clone, Debug)]
pub struct SharedJournal {
    journal: Arc<Mutex<Journal>>,
    /// Time of the last failed write, in nanoseconds since boot; 0 if the last write succeeded.
    failed_at: Arc<AtomicU64>,
    clock: Clock,
    boot: BootId,
}

/// Delay after a failed write before the next attempt.
const RETRY: Duration = Duration::from_secs(10);
/// How far back the incidents of an earlier agent process matter: the longest cooldown.
const RECENT: Duration = Duration::from_secs(600);

impl SharedJournal {
    /// Opens the journal of a locked state directory. Also returns the recent incidents of this
    /// boot, oldest first. At most one for each target has no outcome: if several were open, all
    /// but the newest are concluded as `unverified`, because their effects cannot be distinguished.
    /// The lock must outlive the journal.
    ///
    /// # Errors
    /// See [`Journal::open`].
    pub fn open(lock: &StateLock, clock: Clock) -> Result<(Self, Vec<Incident>), JournalError> {
        let boot = BootId::current()
            .map_err(|source| JournalError::StateDir { path: "/proc".into(), source })?;
        let mut journal = Journal::open(lock, boot.clone())?;
        journal.close_earlier_boots()?;
        let now = clock.now();
        close_superseded(&mut journal, &boot, now)?;
        journal.close_superseded_resizes()?;
        let mut past = journal.recent(RECENT_MOST)?;
        past.retain(|incident| {
            let recent = now.since(incident.intent.intended) < RECENT;
            incident.boot == boot && (recent || incident.outcome.is_none())
        });
        past.reverse();
        let failed_at = Arc::new(AtomicU64::new(0));
        Ok((Self { journal: Arc::new(Mutex::new(journal)), failed_at, clock, boot }, past))
    }

    /// The treatments that the agent remembers.
    ///
    /// # Errors
    /// See [`Journal::recent`].
    pub fn remembered(&self) -> Result<Vec<Remembered>, JournalError> {
        remembered(&self.journal(), &Present::of(self.boot.clone(), self.clock))
    }

    /// Whether the last write succeeded, or failed long enough ago to retry.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        match self.failed_at.load(Ordering::Relaxed) {
            0 => true,
            at => self.clock.now().since(BootTime::from_nanos(at)) >= RETRY,
        }
    }

    /// See [`Journal::intend`].
    ///
    /// # Errors
    /// As there.
    pub fn intend(&self, intent: &Intent) -> Result<i64, JournalError> {
        let intended = self.journal().intend(intent);
        self.note(intended.as_ref().err());
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
        let concluded = self.journal().conclude(incident, outcome, detail, self.clock.now());
        self.note(concluded.as_ref().err());
        concluded
    }

    /// See [`Journal::intend_resize`].
    ///
    /// # Errors
    /// As there.
    pub fn intend_resize(&self, intent: &ResizeIntent) -> Result<i64, JournalError> {
        let intended = self.journal().intend_resize(intent);
        self.note(intended.as_ref().err());
        intended
    }

    /// See [`Journal::conclude_resize`].
    ///
    /// # Errors
    /// As there.
    pub fn conclude_resize(
        &self,
        id: i64,
        outcome: ResizeOutcome,
        detail: Option<&str>,
    ) -> Result<(), JournalError> {
        let concluded = self.journal().conclude_resize(id, outcome, detail, self.clock.now());
        self.note(concluded.as_ref().err());
        concluded
    }

    /// See [`Journal::last_resizes`].
    ///
    /// # Errors
    /// As there.
    pub fn last_resizes(&self) -> Result<Vec<Resize>, JournalError> {
        self.journal().last_resizes()
    }

    /// See [`Journal::first_limit`].
    ///
    /// # Errors
    /// As there.
    pub fn first_limit(
        &self,
        scope: &str,
        resource: Resource,
    ) -> Result<Option<u64>, JournalError> {
        self.journal().first_limit(scope, resource)
    }

    /// See [`Journal::keep_notification`]. Whether remedies may be applied does not depend on it.
    ///
    /// # Errors
    /// As there.
    pub fn keep_notification(
        &self,
        channels: &[&str],
        made: i64,
        content: &str,
        change: &Change,
    ) -> Result<Vec<i64>, JournalError> {
        self.journal().keep_notification(channels, made, content, change)
    }

    /// See [`Journal::settle_notification`].
    ///
    /// # Errors
    /// As there.
    pub fn settle_notification(
        &self,
        id: i64,
        result: &'static str,
        at: i64,
    ) -> Result<(), JournalError> {
        self.journal().settle_notification(id, result, at)
    }

    /// See [`Journal::unsent_notifications`].
    ///
    /// # Errors
    /// As there.
    pub fn unsent_notifications(&self) -> Result<Vec<Unsent>, JournalError> {
        self.journal().unsent_notifications()
    }

    /// See [`Journal::problems`].
    ///
    /// # Errors
    /// As there.
    pub fn problems(&self) -> Result<Vec<Problem>, JournalError> {
        self.journal().problems()
    }

    fn note(&self, error: Option<&JournalError>) {
        let at = match error {
            // The request was invalid; the journal works.
            Some(JournalError::Invalid { .. } | JournalError::NotOpen { .. }) => return,
            Some(_) => self.clock.now().as_nanos().max(1),
            None => 0,
        };
        self.failed_at.store(at, Ordering::Relaxed);
    }

    /// If a writer panicked, SQLite has rolled its transaction back.
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock()
    }
}

/// Concludes all open intentions of a target but the newest.
fn close_superseded(
    journal: &mut Journal,
    boot: &BootId,
    now: BootTime,
) -> Result<(), JournalError> {
    let mut newest: HashMap<String, i64> = HashMap::new();
    for Incident { id, intent, .. } in journal.unfinished(boot)? {
        if let Some(older) = newest.insert(intent.target.uid, id) {
            let detail = Some("superseded before its outcome was known");
            journal.conclude(older, Outcome::Unverified, detail, now)?;
        }
    }
    Ok(())
}
