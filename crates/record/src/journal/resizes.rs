//! Resizes in place: what a limit was, what it was to become, and how that ended.
//!
//! An intention is on disk before the act, as that of a remedy. The last row of a limit says whether
//! the agent has raised it, so that it takes back nothing that others have set; the first one says
//! what a container's limit was before the agent ever changed it.
use std::{fmt, time::Duration};

use paramedic_core::{
    boot_time::BootTime,
    resize::{Recalled, ResizeOutcome, Resource, Step},
    target::{Kind, Target, TargetId},
};
use rusqlite::{Params, Row, params};
use serde::{Deserialize, Serialize, de::value::StrDeserializer};

use super::{Journal, JournalError, row};
use crate::incident::{BootId, Clean, Utc};

/// Maximum number of resizes; the oldest go first.
const MAX_RESIZES: u32 = 2000;
/// Maximum length of a text, in bytes; a longer one is not an identity.
const MAX_TEXT: usize = 4096;

const COLUMNS: &str = "id, boot, scope, uid, instance, name, resource, before, after, base, \
     intended, wall_time, outcome, detail, concluded";

/// A resize about to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResizeIntent {
    /// What the limit belongs to and ends with: a container of one pod, or one of the engine.
    pub scope: String,
    /// The target and its instance.
    pub target: TargetId,
    /// Readable name of the target.
    pub name: String,
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Time of the intention, on the clock of its boot.
    pub intended: BootTime,
    /// The same in seconds since 1970 UTC, for display.
    pub wall_time: i64,
}

/// A [`ResizeIntent`] in the journal, with its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resize {
    /// Its number in this journal, never reused.
    pub id: i64,
    /// The boot of its moments.
    pub boot: BootId,
    /// What was intended.
    #[serde(flatten)]
    pub intent: ResizeIntent,
    /// The outcome; `None` until it is known.
    pub outcome: Option<ResizeOutcome>,
    /// Details of the outcome.
    pub detail: Option<String>,
    /// Time at which the outcome was known; `None` also if that was in another boot.
    pub concluded: Option<BootTime>,
}

/// What the limits of a target belong to and end with; `None` for a process, whose limits the agent
/// never changes.
#[must_use]
pub fn scope_of(target: &Target) -> Option<String> {
    match &target.kind {
        Kind::Pod(pod) => Some(pod.target_uid()),
        Kind::Container(container) => Some(container.id.clone()),
        Kind::Process => None,
    }
}

impl Resize {
    /// What the engine needs to know of it.
    #[must_use]
    pub const fn recalled(&self) -> Recalled {
        Recalled { id: self.id, step: self.intent.step, open: self.outcome.is_none() }
    }

    fn took(&self) -> Option<Duration> {
        self.concluded.map(|end| end.since(self.intent.intended))
    }
}

/// One line: number, time, target, step and outcome.
impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResizeIntent { name, step, wall_time, .. } = &self.intent;
        let own = step.resource.text(step.base);
        write!(
            f,
            "resize #{} {} {}: {step} (its owner's: {own}): ",
            self.id,
            Utc(*wall_time),
            Clean(name)
        )?;
        match self.outcome {
            None => f.write_str("no outcome recorded")?,
            Some(outcome) => f.write_str(outcome.name())?,
        }
        if let Some(took) = self.took() {
            write!(f, " after {:.1} s", took.as_secs_f64())?;
        }
        match &self.detail {
            Some(detail) => write!(f, " ({})", Clean(detail)),
            None => Ok(()),
        }
    }
}

impl Journal {
    /// Stores an intention, and returns its number once it is on disk. Do not act unless this
    /// succeeds. Then prunes.
    ///
    /// # Errors
    /// As [`Journal::intend`].
    pub fn intend_resize(&mut self, intent: &ResizeIntent) -> Result<i64, JournalError> {
        let boot = self.present_boot()?.as_str().to_owned();
        let invalid = |what| JournalError::Invalid { what };
        let ResizeIntent { scope, target, name, step, intended, wall_time } = intent;
        if [scope, &target.uid, &target.instance].into_iter().any(|text| text.len() > MAX_TEXT) {
            return Err(invalid("its identity is too long"));
        }
        let amount =
            |amount: u64| i64::try_from(amount).map_err(|_| invalid("a limit is absurdly large"));
        let (before, after, base) = (amount(step.from)?, amount(step.to)?, amount(step.base)?);
        let intended = row::nanoseconds(*intended).map_err(invalid)?;
        self.write(
            "INSERT INTO resizes (boot, scope, uid, instance, name, resource, before, after, base, \
             intended, wall_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                boot,
                scope,
                target.uid,
                target.instance,
                row::name(name),
                step.resource.name(),
                before,
                after,
                base,
                intended,
                wall_time
            ],
        )?;
        let id = self.db.last_insert_rowid();
        let pruned = self.write(
            "DELETE FROM resizes WHERE id <= ?1 - ?2 AND outcome IS NOT NULL",
            params![id, MAX_RESIZES],
        );
        if let Err(error) = pruned {
            tracing::warn!(%error, "cannot delete old resizes");
        }
        Ok(id)
    }

    /// Stores the outcome of an intention, once.
    ///
    /// # Errors
    /// As [`Journal::conclude`].
    pub fn conclude_resize(
        &mut self,
        id: i64,
        outcome: ResizeOutcome,
        detail: Option<&str>,
        now: BootTime,
    ) -> Result<(), JournalError> {
        self.close("resizes", id, outcome.name(), detail, now)
    }

    /// Concludes open intentions that a later one of the same limit supersedes: their effects cannot
    /// be told apart.
    ///
    /// # Errors
    /// As [`Journal::conclude`].
    pub fn close_superseded_resizes(&mut self) -> Result<usize, JournalError> {
        self.present_boot()?;
        self.write(
            "UPDATE resizes SET outcome = ?1, detail = 'superseded before its outcome was known' \
             WHERE outcome IS NULL \
             AND id NOT IN (SELECT max(id) FROM resizes GROUP BY scope, resource)",
            params![ResizeOutcome::Unverified.name()],
        )
    }

    /// The newest resizes, newest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Journal::recent`].
    pub fn recent_resizes(&self, limit: u32) -> Result<Vec<Resize>, JournalError> {
        self.resizes("ORDER BY id DESC LIMIT ?1", params![limit.min(MAX_RESIZES)])
    }

    /// The last resize of each limit that was not refused, oldest first.
    ///
    /// # Errors
    /// As [`Journal::recent`].
    pub fn last_resizes(&self) -> Result<Vec<Resize>, JournalError> {
        self.resizes(
            "WHERE id IN (SELECT max(id) FROM resizes WHERE outcome IS NULL OR outcome <> ?1 \
             GROUP BY scope, resource) ORDER BY id",
            params![ResizeOutcome::Refused.name()],
        )
    }

    /// The owner's own limit, as it was when the agent first wanted to change it; `None` if it never
    /// did.
    ///
    /// # Errors
    /// As [`Journal::recent`].
    pub fn first_limit(
        &self,
        scope: &str,
        resource: Resource,
    ) -> Result<Option<u64>, JournalError> {
        let first = self.resizes(
            "WHERE scope = ?1 AND resource = ?2 ORDER BY id LIMIT 1",
            params![scope, resource.name()],
        )?;
        Ok(first.first().map(|resize| resize.intent.step.base))
    }

    fn resizes(&self, which: &str, params: impl Params) -> Result<Vec<Resize>, JournalError> {
        if !self.knows_resizes {
            return Ok(Vec::new());
        }
        let error = |error| self.error(error);
        let sql = format!("SELECT {COLUMNS} FROM resizes {which}");
        let mut query = self.db.prepare_cached(&sql).map_err(error)?;
        let mut rows = query.query(params).map_err(error)?;
        let mut resizes = Vec::new();
        while let Some(row) = rows.next().map_err(error)? {
            let resize = read(row)
                .map_err(|what| JournalError::corrupt(&self.path, format!("a resize: {what}")))?;
            resizes.push(resize);
        }
        Ok(resizes)
    }
}

/// Parses a row, or says what is wrong with it: another program may have written it.
fn read(row: &Row<'_>) -> Result<Resize, String> {
    let text = |column: usize| -> Result<String, String> {
        let text: String = row.get(column).map_err(|error| error.to_string())?;
        if text.len() > MAX_TEXT { Err(format!("column {column} is too long")) } else { Ok(text) }
    };
    let number = |column: usize| -> Result<u64, String> {
        let number: i64 = row.get(column).map_err(|error| error.to_string())?;
        u64::try_from(number).map_err(|_| format!("column {column} is negative"))
    };
    let integer = |column: usize| row.get::<_, i64>(column).map_err(|error| error.to_string());
    let optional = |column: usize| -> Result<Option<String>, String> {
        let is_null =
            row.get_ref(column).is_ok_and(|value| value == rusqlite::types::ValueRef::Null);
        if is_null { Ok(None) } else { text(column).map(Some) }
    };
    let concluded: Option<i64> = row.get(14).map_err(|error| error.to_string())?;
    let concluded = concluded.map(|at| u64::try_from(at).map(BootTime::from_nanos)).transpose();
    Ok(Resize {
        id: integer(0)?,
        boot: BootId::parse(&text(1)?).ok_or("boot is not a boot id")?,
        intent: ResizeIntent {
            scope: text(2)?,
            target: TargetId { uid: text(3)?, instance: text(4)? },
            name: text(5)?,
            step: Step {
                resource: word(&text(6)?)?,
                from: number(7)?,
                to: number(8)?,
                base: number(9)?,
            },
            intended: BootTime::from_nanos(number(10)?),
            wall_time: integer(11)?,
        },
        outcome: optional(12)?.map(|outcome| word(&outcome)).transpose()?,
        detail: optional(13)?,
        concluded: concluded.map_err(|_| "concluded is negative")?,
    })
}

/// An enum value, by its name.
fn word<'a, T: Deserialize<'a>>(name: &'a str) -> Result<T, String> {
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(name))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::StateLock;

    fn intent(scope: &str, resource: Resource, from: u64, to: u64) -> ResizeIntent {
        ResizeIntent {
            scope: scope.to_owned(),
            target: TargetId { uid: scope.to_owned(), instance: "1".to_owned() },
            name: "default/shop-0".to_owned(),
            step: Step { resource, from, to, base: 500 },
            intended: BootTime::from_nanos(5_000_000_000),
            wall_time: 1_767_323_045,
        }
    }

    fn boot(n: u8) -> BootId {
        BootId::parse(&format!("6f1c2a3b-0000-4000-8000-123456789ab{n}")).unwrap()
    }

    fn journal(directory: &std::path::Path) -> (StateLock, Journal) {
        let lock = StateLock::acquire(directory).unwrap();
        let journal = Journal::open(&lock, boot(1)).unwrap();
        (lock, journal)
    }

    #[test]
    fn a_resize_is_read_as_it_was_written_by_this_agent_and_by_a_reader() {
        let directory = tempfile::tempdir().unwrap();
        let (_lock, mut journal) = journal(directory.path());
        let wanted = intent("pod/app", Resource::Cpu, 500, 750);
        let id = journal.intend_resize(&wanted).unwrap();
        let open = journal.last_resizes().unwrap().remove(0);
        assert_eq!((open.id, &open.intent, open.outcome), (id, &wanted, None));
        assert_eq!(open.recalled(), Recalled { id, step: wanted.step, open: true });
        let now = BootTime::from_nanos(20_000_000_000);
        let detail = Some("it is still throttled");
        journal.conclude_resize(id, ResizeOutcome::NotHealed, detail, now).unwrap();
        let again = journal.conclude_resize(id, ResizeOutcome::Healed, None, now);
        assert!(matches!(again, Err(JournalError::NotOpen { .. })), "{again:?}");
        let reader = Journal::read_only(directory.path()).unwrap();
        assert_eq!(
            reader.recent_resizes(5).unwrap()[0].to_string(),
            "resize #1 2026-01-02T03:04:05Z default/shop-0: cpu 500m → 750m (its owner's: 500m): \
             not_healed after 15.0 s (it is still throttled)"
        );
    }

    #[test]
    fn the_last_of_each_limit_counts_and_a_refused_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let (_lock, mut journal) = journal(directory.path());
        let now = BootTime::from_nanos(9_000_000_000);
        let mut resize = |scope: &str, resource, from, to, outcome: Option<ResizeOutcome>| {
            let id = journal.intend_resize(&intent(scope, resource, from, to)).unwrap();
            if let Some(outcome) = outcome {
                journal.conclude_resize(id, outcome, None, now).unwrap();
            }
        };
        let healed = Some(ResizeOutcome::Healed);
        resize("a", Resource::Cpu, 500, 750, healed);
        resize("a", Resource::Cpu, 750, 1000, Some(ResizeOutcome::Refused));
        resize("a", Resource::Memory, 1, 2, healed);
        resize("b", Resource::Cpu, 1, 2, None);
        resize("b", Resource::Cpu, 2, 3, None);
        let last = |journal: &Journal| -> Vec<(String, u64, bool)> {
            let all = journal.last_resizes().unwrap();
            let told = |r: &Resize| (r.intent.scope.clone(), r.intent.step.to, r.outcome.is_none());
            all.iter().map(told).collect()
        };
        let expected =
            [("a".to_owned(), 750, false), ("a".to_owned(), 2, false), ("b".to_owned(), 3, true)];
        assert_eq!(last(&journal), expected);
        assert_eq!(journal.close_superseded_resizes().unwrap(), 1);
        assert_eq!(last(&journal), expected);
        assert_eq!(journal.first_limit("a", Resource::Cpu).unwrap(), Some(500));
        assert_eq!(journal.first_limit("c", Resource::Cpu).unwrap(), None);
    }

    #[test]
    fn what_no_agent_writes_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (_lock, mut journal) = journal(directory.path());
        let huge = intent("a", Resource::Memory, 1, u64::MAX);
        assert!(matches!(journal.intend_resize(&huge), Err(JournalError::Invalid { .. })));
        journal.intend_resize(&intent("a", Resource::Cpu, 1, 2)).unwrap();
        journal.db.execute("UPDATE resizes SET resource = 'gpu'", []).unwrap();
        assert!(matches!(journal.recent_resizes(1), Err(JournalError::Corrupt { .. })));
    }
}
