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
    guard::{Treatment, memory},
    verify::Outcome,
};
use paramedic_host::clock::{Clock, unix_seconds};
use parking_lot::{Mutex, MutexGuard};

use super::{BootId, Incident, Intent, Journal, JournalError, StateLock};

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
/// Maximum number of incidents to read back. The node's budget permits fewer within [`RECENT`].
const RECENT_MOST: u32 = 1000;
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
        let mut past = journal.recent(RECENT_MOST)?;
        past.retain(|incident| {
            let recent = now.since(incident.intent.intended) < RECENT;
            incident.boot == boot && (recent || incident.outcome.is_none())
        });
        past.reverse();
        let failed_at = Arc::new(AtomicU64::new(0));
        Ok((Self { journal: Arc::new(Mutex::new(journal)), failed_at, clock, boot }, past))
    }

    /// The concluded treatments of the last day by workload, oldest first. Their times are on this
    /// boot's clock; those of an earlier boot are converted by wall-clock time.
    ///
    /// # Errors
    /// See [`Journal::recent`].
    pub fn remembered(&self) -> Result<Vec<(String, Treatment)>, JournalError> {
        let (now, wall) = (self.clock.now(), i64::try_from(unix_seconds()).unwrap_or(i64::MAX));
        let day = i64::try_from(memory::REMEMBERED.as_secs()).unwrap_or(i64::MAX);
        let recent = self.journal().recent(RECENT_MOST)?;
        let treatment = |incident: Incident| {
            let Intent { remedy, symptom, workload, wall_time, .. } = incident.intent;
            let age = wall.saturating_sub(wall_time).max(0);
            let known = !workload.is_empty() && age < day;
            let at =
                incident.concluded.filter(|_| incident.boot == self.boot).unwrap_or_else(|| {
                    let age = Duration::from_secs(age.unsigned_abs());
                    BootTime::from(Duration::from_nanos(now.as_nanos()).saturating_sub(age))
                });
            let outcome = incident.outcome.filter(|_| known)?;
            Some((workload, Treatment { remedy, symptom, outcome, at }))
        };
        Ok(recent.into_iter().rev().filter_map(treatment).collect())
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
