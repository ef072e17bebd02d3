//! The journal as the loop and its tasks share it.
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use paramedic_core::{
    guard::{Treatment, memory},
    moment::Moment,
    verify::Outcome,
};
use paramedic_host::clock::{Clock, unix_seconds};
use parking_lot::{Mutex, MutexGuard};

use super::{BootId, Incident, Intent, Journal, JournalError, StateLock};

/// A journal, and whether it took the last thing that it was told. Its calls block on the disk:
/// make them from a blocking task.
#[derive(Clone, Debug)]
pub struct SharedJournal {
    journal: Arc<Mutex<Journal>>,
    /// When the last write failed, in nanoseconds since boot; 0 if it did not.
    failed_at: Arc<AtomicU64>,
    clock: Clock,
    boot: BootId,
}

/// After a write that failed, the journal is tried again this much later.
const RETRY: Duration = Duration::from_secs(10);
/// More incidents than this are not read back: the node's budget permits fewer within [`RECENT`].
const RECENT_MOST: u32 = 1000;
/// How far back a former life's incidents matter: the longest cooldown.
const RECENT: Duration = Duration::from_secs(600);

impl SharedJournal {
    /// Opens the journal of a locked state directory; also returns the recent incidents of this
    /// boot, oldest first, of which at most one for each target has no outcome: where several
    /// were left open, the older ones can no longer be told apart and end `unverified`. The lock
    /// has to outlive the journal.
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

    /// The treatments of the last day whose end is known, by workload, oldest first. `now` tells
    /// their instants on this boot's clock; of an earlier boot they are as old as the wall clock
    /// says.
    ///
    /// # Errors
    /// See [`Journal::recent`].
    pub fn remembered(&self) -> Result<Vec<(String, Treatment)>, JournalError> {
        let (now, wall) = (self.clock.now(), i64::try_from(unix_seconds()).unwrap_or(i64::MAX));
        let day = i64::try_from(memory::REMEMBERED.as_secs()).unwrap_or(i64::MAX);
        let recent = self.journal().recent(RECENT_MOST)?;
        let treatment = |incident: Incident| {
            let Intent { rung, symptom, workload, wall_time, .. } = incident.intent;
            let age = wall.saturating_sub(wall_time).max(0);
            let known = !workload.is_empty() && age < day;
            let at =
                incident.concluded.filter(|_| incident.boot == self.boot).unwrap_or_else(|| {
                    let age = Duration::from_secs(age.unsigned_abs());
                    Moment::from(Duration::from_nanos(now.as_nanos()).saturating_sub(age))
                });
            let outcome = incident.outcome.filter(|_| known)?;
            Some((workload, Treatment { rung, symptom, outcome, at }))
        };
        Ok(recent.into_iter().rev().filter_map(treatment).collect())
    }

    /// Whether the last write succeeded, or failed long enough ago to try again.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        match self.failed_at.load(Ordering::Relaxed) {
            0 => true,
            at => self.clock.now().since(Moment::from_nanos(at)) >= RETRY,
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
            // What was asked made no sense; the journal is none the worse for it.
            Some(JournalError::Invalid { .. } | JournalError::NotOpen { .. }) => return,
            Some(_) => self.clock.now().as_nanos().max(1),
            None => 0,
        };
        self.failed_at.store(at, Ordering::Relaxed);
    }

    /// A writer that panicked left the database to SQLite's own rollback.
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock()
    }
}

/// Of several open intentions for one target all but the newest.
fn close_superseded(journal: &mut Journal, boot: &BootId, now: Moment) -> Result<(), JournalError> {
    let mut newest: HashMap<String, i64> = HashMap::new();
    for Incident { id, intent, .. } in journal.unfinished(boot)? {
        if let Some(older) = newest.insert(intent.target.uid, id) {
            let detail = Some("superseded before its outcome was known");
            journal.conclude(older, Outcome::Unverified, detail, now)?;
        }
    }
    Ok(())
}
