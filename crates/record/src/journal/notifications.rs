//! Notifications that wait for their delivery, and the problems that people were told of.
//!
//! They are in the journal so that a restart of the agent neither loses what is not delivered yet,
//! nor forgets what it must call ended. Their number is bounded: settled ones go first, then the
//! oldest. The journal does not interpret a notification.
use paramedic_core::target::ChannelNames;
use rusqlite::{Row, params, types::Type};

use super::{Journal, JournalError};

/// Maximum size of a notification, in bytes.
pub const MAX_CONTENT: usize = 16 * 1024;

/// Maximum number of open problems: as many as an agent has targets, and the node itself.
const MAX_PROBLEMS: u32 = 512;

/// Maximum length of the name of a channel, of a key and of a uid, in bytes.
const MAX_NAME: usize = 4096;

/// A notification that was neither delivered nor given up, for one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Its number in this journal, never reused.
    pub id: i64,
    /// The channel, by the name that it was stored under.
    pub channel: String,
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// The notification.
    pub content: String,
}

/// A problem that people were told of and that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its key, which all its notifications share.
    pub key: String,
    /// The target; empty for the node.
    pub uid: String,
    /// When it began, in seconds since 1970.
    pub since: i64,
    /// The named channels that were told of it, beside those that are told of all.
    pub channels: ChannelNames,
}

/// What a notification does to the open problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// It is the first, or a further one, of this problem.
    Opens(Problem),
    /// It is the last one of the problem with this key.
    Closes(String),
}

impl Journal {
    /// Stores a notification once for each channel, together with what it does to the open
    /// problems, and returns the numbers in the order of `channels`, once they are on disk. `made`
    /// is in seconds since 1970. Then prunes.
    ///
    /// # Errors
    /// [`JournalError::Full`], `ReadOnly`, `Busy`, `Corrupt` or `Sqlite` if it cannot be written.
    pub fn keep_notification(
        &mut self,
        channels: &[&str],
        made: i64,
        content: &str,
        change: &Change,
    ) -> Result<Vec<i64>, JournalError> {
        self.present_boot()?;
        let kept = self.keep(channels, made, content, change);
        kept.map_err(|error| self.error(error))
    }

    fn keep(
        &mut self,
        channels: &[&str],
        made: i64,
        content: &str,
        change: &Change,
    ) -> rusqlite::Result<Vec<i64>> {
        let most = self.limits.notifications;
        let transaction = self.db.transaction()?;
        let mut ids = Vec::with_capacity(channels.len());
        for channel in channels {
            transaction
                .prepare_cached(
                    "INSERT INTO notifications (channel, made, content) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![channel, made, content])?;
            ids.push(transaction.last_insert_rowid());
        }
        match change {
            Change::Nothing => {}
            Change::Opens(Problem { key, uid, since, channels }) => {
                transaction.execute(
                    "INSERT INTO problems (key, uid, since, channels) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT (key) DO UPDATE SET channels = excluded.channels",
                    params![key, uid, since, channels.to_string()],
                )?;
            }
            Change::Closes(key) => {
                transaction.execute("DELETE FROM problems WHERE key = ?1", params![key])?;
            }
        }
        transaction.execute(
            "DELETE FROM notifications WHERE id IN (SELECT id FROM notifications \
             ORDER BY settled IS NOT NULL, id DESC LIMIT -1 OFFSET ?1)",
            params![most],
        )?;
        transaction.execute(
            "DELETE FROM problems WHERE rowid IN \
             (SELECT rowid FROM problems ORDER BY rowid DESC LIMIT -1 OFFSET ?1)",
            params![MAX_PROBLEMS],
        )?;
        transaction.commit()?;
        Ok(ids)
    }

    /// Marks a notification as delivered or given up, once; `result` says which, and `at` is in
    /// seconds since 1970. One that was pruned is none any more.
    ///
    /// # Errors
    /// As [`Self::keep_notification`].
    pub fn settle_notification(
        &mut self,
        id: i64,
        result: &'static str,
        at: i64,
    ) -> Result<(), JournalError> {
        self.present_boot()?;
        self.write(
            "UPDATE notifications SET settled = ?2, result = ?3 WHERE id = ?1 AND settled IS NULL",
            params![id, at, result],
        )
        .map(drop)
    }

    /// The notifications that are not settled, oldest first.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] if a row is none; `Busy` or `Sqlite` if it cannot be read.
    pub fn unsent_notifications(&self) -> Result<Vec<Unsent>, JournalError> {
        let read = |row: &Row<'_>| {
            Ok(Unsent {
                id: row.get(0)?,
                channel: text(row, 1, MAX_NAME)?,
                made: row.get(2)?,
                content: text(row, 3, MAX_CONTENT)?,
            })
        };
        self.rows(
            "SELECT id, channel, made, content FROM notifications \
             WHERE settled IS NULL ORDER BY id LIMIT ?1",
            self.limits.notifications,
            read,
        )
    }

    /// The open problems, in the order of their beginning.
    ///
    /// # Errors
    /// As [`Self::unsent_notifications`].
    pub fn problems(&self) -> Result<Vec<Problem>, JournalError> {
        let read = |row: &Row<'_>| {
            Ok(Problem {
                key: text(row, 0, MAX_NAME)?,
                uid: text(row, 1, MAX_NAME)?,
                since: row.get(2)?,
                channels: channels(row, 3)?,
            })
        };
        self.rows(
            "SELECT key, uid, since, channels FROM problems ORDER BY since, key LIMIT ?1",
            MAX_PROBLEMS,
            read,
        )
    }

    fn rows<T>(
        &self,
        sql: &str,
        most: u32,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let all = || {
            let mut query = self.db.prepare_cached(sql)?;
            query.query_map(params![most], &read)?.collect::<rusqlite::Result<Vec<T>>>()
        };
        all().map_err(|error| self.error(error))
    }
}

/// The list of names in a column; the column is an empty text for an empty list.
fn channels(row: &Row<'_>, column: usize) -> rusqlite::Result<ChannelNames> {
    match text(row, column, MAX_NAME)?.as_str() {
        "" => Ok(ChannelNames::default()),
        names => ChannelNames::read(names).map_err(|_| invalid(row, column)),
    }
}

/// The text of a column, whose size is checked before it is copied: another program may have
/// written it.
fn text(row: &Row<'_>, column: usize, most: usize) -> rusqlite::Result<String> {
    let text = row.get_ref(column)?.as_str().map_err(|_| invalid(row, column))?;
    if text.len() > most { Err(invalid(row, column)) } else { Ok(text.to_owned()) }
}

fn invalid(row: &Row<'_>, column: usize) -> rusqlite::Error {
    let found = row.get_ref(column).map_or(Type::Null, |value| value.data_type());
    rusqlite::Error::InvalidColumnType(column, format!("column {column}"), found)
}

#[cfg(test)]
mod tests {
    use crate::{
        BootId, StateLock,
        journal::{LIMITS, Limits},
    };

    use super::*;

    fn boot() -> BootId {
        BootId::parse("6f1c2a3b-0000-4000-8000-123456789abc").unwrap()
    }

    fn problem(key: &str) -> Problem {
        let channels = ChannelNames::read("shop").unwrap();
        Problem { key: key.to_owned(), uid: "web".to_owned(), since: 5, channels }
    }

    #[test]
    fn one_that_is_settled_is_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let mut journal = Journal::open(&lock, boot()).unwrap();
        let change = Change::Opens(problem("a"));
        let ids = journal.keep_notification(&["slack-1", "webhook-2"], 6, "{}", &change).unwrap();
        assert_eq!(ids, [1, 2]);
        journal.settle_notification(1, "delivered", 7).unwrap();
        journal.settle_notification(9, "delivered", 7).unwrap();
        drop(journal);

        let mut journal = Journal::open(&lock, boot()).unwrap();
        let left = journal.unsent_notifications().unwrap();
        let unsent =
            Unsent { id: 2, channel: "webhook-2".to_owned(), made: 6, content: "{}".to_owned() };
        assert_eq!(left, [unsent]);
        assert_eq!(journal.problems().unwrap(), [problem("a")]);
        let channels = ChannelNames::read("on-call, shop").unwrap();
        let wider = Problem { channels, ..problem("a") };
        journal.keep_notification(&[], 8, "{}", &Change::Opens(wider.clone())).unwrap();
        assert_eq!(journal.problems().unwrap(), [wider]);
        journal.keep_notification(&[], 8, "{}", &Change::Closes("a".to_owned())).unwrap();
        assert_eq!(journal.problems().unwrap(), []);
    }

    #[test]
    fn their_number_is_bounded_and_settled_ones_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let limits = Limits { notifications: 5, ..LIMITS };
        let mut journal = Journal::open_within(&lock, boot(), limits).unwrap();
        for made in 0..20 {
            let ids = journal.keep_notification(&["slack-1"], made, "{}", &Change::Nothing);
            if made == 2 {
                journal.settle_notification(ids.unwrap()[0], "delivered", 7).unwrap();
            }
        }
        let left: Vec<_> = journal.unsent_notifications().unwrap().iter().map(|n| n.made).collect();
        assert_eq!(left, [15, 16, 17, 18, 19]);
        let rows = "SELECT count(*) FROM notifications";
        assert_eq!(journal.db.query_row(rows, [], |row| row.get::<_, i64>(0)).unwrap(), 5);
    }

    #[test]
    fn a_hostile_row_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let mut journal = Journal::open(&lock, boot()).unwrap();
        journal.keep_notification(&["slack-1"], 1, "{}", &Change::Opens(problem("a"))).unwrap();
        for hostile in ["cast(x'ff' AS TEXT)", "printf('%.*c', 17000, 'x')"] {
            journal
                .db
                .execute_batch(&format!(
                    "UPDATE notifications SET content = {hostile}; UPDATE problems SET uid = {hostile}"
                ))
                .unwrap();
            let error = journal.unsent_notifications().unwrap_err();
            assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
            assert!(matches!(journal.problems(), Err(JournalError::Corrupt { .. })));
        }
        journal.db.execute_batch("UPDATE problems SET uid = 'web', channels = 'No name'").unwrap();
        assert!(matches!(journal.problems(), Err(JournalError::Corrupt { .. })));
    }
}
