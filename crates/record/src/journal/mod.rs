//! Stores intentions and outcomes on disk: SQLite in WAL mode, synced on every commit.
//!
//! An intention is durable before the act. So an agent that dies in between finds it again
//! ([`Journal::unfinished`]) and treats the remedy as applied. This is the purpose of the journal.
//! It prunes old incidents to stay small, but never an open one of the current boot. If it cannot
//! store an intention, it returns an error, and the caller must not apply a hard remedy.
//!
//! It never deletes or overwrites a file that it does not fully understand. All calls block, and
//! writing calls wait for the disk: call them from a thread that may block.
mod error;
mod lock;
mod notifications;
mod resizes;
mod row;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Params, config::DbConfig, params};

pub use error::JournalError;
pub use lock::{LOCK_FILE, StateLock};
pub use notifications::{Change, MAX_CONTENT, Problem, Unsent};
pub use resizes::{Resize, ResizeIntent, scope_of};

use super::incident::{BootId, Incident, Intent};
use paramedic_core::{boot_time::BootTime, verify::Outcome};

/// Name of the journal in the state directory.
pub const JOURNAL_FILE: &str = "journal.sqlite3";

/// Maximum number of incidents and of notifications, and maximum size of the file.
const LIMITS: Limits = Limits { incidents: 10_000, notifications: 300, bytes: 16 << 20 };

/// A larger file (with its write-ahead log) was not written by an agent.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// How long to wait for another program's lock on the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// Incidents that may be pruned: all but the open ones of the current boot.
const PRUNABLE: &str = "(outcome IS NOT NULL OR boot <> ?1)";

#[derive(Clone, Copy, Debug)]
struct Limits {
    incidents: u32,
    notifications: u32,
    bytes: i64,
}

/// An open journal: one writer, or any number of readers.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
    limits: Limits,
    /// The current boot; readers have none.
    boot: Option<BootId>,
    /// The columns to select, in the order in which rows are parsed.
    columns: &'static str,
    /// Whether the file has the table of resizes; an older one lacks it.
    knows_resizes: bool,
}

/// The columns of an older file; it lacks the newer ones.
const fn columns(found: schema::Found) -> &'static str {
    match found {
        schema::Found::Older(1) => row::COLUMNS_1,
        schema::Found::Older(2 | 3) => row::COLUMNS_2,
        _ => row::COLUMNS,
    }
}

impl Journal {
    /// Opens or creates the journal in a locked state directory, for writing. Keep the lock while
    /// the agent acts, even if this fails.
    ///
    /// # Errors
    /// Every [`JournalError`] except `Locked`, `Missing`, `Invalid` and `NotOpen`.
    pub fn open(lock: &StateLock, boot: BootId) -> Result<Self, JournalError> {
        Self::open_within(lock, boot, LIMITS)
    }

    /// Opens the journal of a state directory for reading, whether an agent runs or not.
    ///
    /// # Errors
    /// [`JournalError::Missing`] if it does not exist; `Corrupt`, `Newer`, `StateDir` or `Sqlite`
    /// as for [`Self::open`].
    pub fn read_only(state_dir: &Path) -> Result<Self, JournalError> {
        let missing = |path| JournalError::Missing { path };
        let dir = match fs::canonicalize(state_dir) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(missing(state_dir.join(JOURNAL_FILE)));
            }
            Err(error) => return Err(JournalError::io(state_dir, error)),
        };
        let path = dir.join(JOURNAL_FILE);
        if !inspect(&path)? {
            return Err(missing(path));
        }
        let (db, found) = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        match found {
            schema::Found::Empty => Err(missing(path)),
            found => Ok(Self {
                db,
                path,
                limits: LIMITS,
                boot: None,
                columns: columns(found),
                knows_resizes: !matches!(found, schema::Found::Older(..4)),
            }),
        }
    }

    fn open_within(lock: &StateLock, boot: BootId, limits: Limits) -> Result<Self, JournalError> {
        let path = lock.dir().join(JOURNAL_FILE);
        if !inspect(&path)? {
            make_private_file(&path).map_err(|error| JournalError::io(&path, error))?;
        }
        let (db, found) = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let columns = columns(schema::Found::Current);
        let (boot, knows_resizes) = (Some(boot), true);
        let mut journal = Self { db, path, limits, boot, columns, knows_resizes };
        if found != schema::Found::Empty {
            journal.check_integrity()?;
        }
        journal.prepare(found).map_err(|error| journal.error(error))?;
        Ok(journal)
    }

    /// Reads every page of the file, which takes some 20 ms at the maximum size.
    fn check_integrity(&self) -> Result<(), JournalError> {
        let verdict = self
            .db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
            .map_err(|error| self.error(error))?;
        if verdict == "ok" { Ok(()) } else { Err(JournalError::corrupt(&self.path, verdict)) }
    }

    fn prepare(&mut self, found: schema::Found) -> rusqlite::Result<()> {
        let db = &mut self.db;
        // A file system without shared memory refuses WAL. The guarantees hold without it; readers
        // and the writer then block each other.
        let mode = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let mode = db.pragma_update_and_check(None, "journal_mode", "wal", mode)?;
        tracing::debug!(mode, "journal opened");
        db.pragma_update(None, "synchronous", "full")?;
        // Keeps the log small: writes it back every 256 pages and truncates it to 1 MiB.
        db.pragma_update_and_check(None, "wal_autocheckpoint", 256, |_| Ok(()))?;
        db.pragma_update_and_check(None, "journal_size_limit", 1 << 20, |_| Ok(()))?;
        let page = db.pragma_query_one::<i64>(None, "page_size")?.max(512);
        let pages = self.limits.bytes / page;
        db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        match found {
            schema::Found::Empty => schema::create(db)?,
            schema::Found::Older(from) => schema::update(db, from)?,
            schema::Found::Current => {}
        }
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(())
    }

    /// Stores an intention, and returns its number once it is on disk. Do not act unless this
    /// succeeds.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] for an invalid intention (a confidence that is not a number, a
    /// remedy that is not a remedy); `Full`, `ReadOnly`, `Busy`, `Corrupt` or `Sqlite` if it cannot
    /// be written.
    pub fn intend(&mut self, intent: &Intent) -> Result<i64, JournalError> {
        let boot = self.present_boot()?;
        let values = row::values(intent, boot).map_err(|what| JournalError::Invalid { what })?;
        self.write(
            "INSERT INTO incidents (boot, uid, instance, name, rung, action, confidence, source, \
             reasons, intended, wall_time, climbed_from, workload, symptom, health, means) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            rusqlite::params_from_iter(&values),
        )?;
        Ok(self.db.last_insert_rowid())
    }

    /// Stores the outcome of an intention, once; then prunes old incidents. Cuts `detail` at 512
    /// characters. Does not store `now` if the intention is of an earlier boot, because the clocks
    /// cannot be compared.
    ///
    /// # Errors
    /// [`JournalError::NotOpen`] if no intention of that number is open; `Full`, `ReadOnly`,
    /// `Busy`, `Corrupt` or `Sqlite` if it cannot be written.
    pub fn conclude(
        &mut self,
        id: i64,
        outcome: Outcome,
        detail: Option<&str>,
        now: BootTime,
    ) -> Result<(), JournalError> {
        self.close("incidents", id, outcome.name(), detail, now)?;
        if let Err(error) = self.prune() {
            tracing::warn!(%error, "cannot delete old incidents");
        }
        Ok(())
    }

    /// Stores the outcome of an open row of a table.
    fn close(
        &self,
        table: &'static str,
        id: i64,
        outcome: &str,
        detail: Option<&str>,
        now: BootTime,
    ) -> Result<(), JournalError> {
        let boot = self.present_boot()?.as_str();
        let now = row::nanoseconds(now).map_err(|what| JournalError::Invalid { what })?;
        let changed = self.write(
            &format!(
                "UPDATE {table} SET outcome = ?3, detail = ?4, \
                 concluded = CASE WHEN boot = ?1 THEN max(?5, intended) END \
                 WHERE id = ?2 AND outcome IS NULL"
            ),
            params![boot, id, outcome, row::detail(detail), now],
        )?;
        if changed == 0 { Err(JournalError::NotOpen { id }) } else { Ok(()) }
    }

    /// Concludes the open intentions of earlier boots as `unverified`: the node went down with the
    /// remedy, and its outcome cannot be known. Returns their number.
    ///
    /// # Errors
    /// As [`Self::conclude`].
    pub fn close_earlier_boots(&mut self) -> Result<usize, JournalError> {
        self.write(
            "UPDATE incidents SET outcome = ?2, detail = 'the node restarted before it was known' \
             WHERE outcome IS NULL AND boot <> ?1",
            params![self.present_boot()?.as_str(), Outcome::Unverified.name()],
        )
    }

    /// The intentions of one boot without an outcome, oldest first.
    ///
    /// # Errors
    /// `Corrupt` if a row is not an incident; `Busy` or `Sqlite` if it cannot be read. The same
    /// holds for every reading call.
    pub fn unfinished(&self, boot: &BootId) -> Result<Vec<Incident>, JournalError> {
        self.select("WHERE outcome IS NULL AND boot = ?1 ORDER BY id", params![boot.as_str()])
    }

    /// The newest incidents, newest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Self::unfinished`].
    pub fn recent(&self, limit: u32) -> Result<Vec<Incident>, JournalError> {
        self.select("ORDER BY id DESC LIMIT ?1", params![limit.min(self.limits.incidents)])
    }

    /// Changes after every write by another connection, and so shows whether to read again.
    ///
    /// # Errors
    /// As [`Self::unfinished`].
    pub fn version(&self) -> Result<i64, JournalError> {
        self.db.pragma_query_one(None, "data_version").map_err(|error| self.error(error))
    }

    /// The incidents of one target in one boot that were intended at `since` or later, oldest
    /// first.
    ///
    /// # Errors
    /// As [`Self::unfinished`].
    pub fn for_target(
        &self,
        uid: &str,
        boot: &BootId,
        since: BootTime,
    ) -> Result<Vec<Incident>, JournalError> {
        // A moment beyond the column's range is later than every incident.
        let since = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        self.select(
            "WHERE boot = ?1 AND uid = ?2 AND intended >= ?3 ORDER BY id",
            params![boot.as_str(), uid, since],
        )
    }

    fn select(&self, which: &str, params: impl Params) -> Result<Vec<Incident>, JournalError> {
        let error = |error| self.error(error);
        let sql = format!("SELECT {} FROM incidents {which}", self.columns);
        let mut query = self.db.prepare_cached(&sql).map_err(error)?;
        let mut rows = query.query(params).map_err(error)?;
        let mut incidents = Vec::new();
        while let Some(row) = rows.next().map_err(error)? {
            let incident = row::read(row).map_err(|what| {
                let id = row.get::<_, i64>(0).unwrap_or_default();
                JournalError::corrupt(&self.path, format!("incident {id}: {what}"))
            })?;
            incidents.push(incident);
        }
        Ok(incidents)
    }

    /// Runs and commits one statement. If there is no room, prunes old incidents and retries once.
    fn write(&self, sql: &str, params: impl Params + Clone) -> Result<usize, JournalError> {
        let run = || self.db.prepare_cached(sql)?.execute(params.clone());
        let result = match run() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                self.prune().and_then(|()| run())
            }
            result => result,
        };
        result.map_err(|error| self.error(error))
    }

    /// Deletes the oldest incidents beyond the limits of number and size.
    fn prune(&self) -> rusqlite::Result<()> {
        let Some(boot) = self.boot.as_ref().map(BootId::as_str) else { return Ok(()) };
        let Limits { incidents, bytes, .. } = self.limits;
        let too_many = format!(
            "DELETE FROM incidents WHERE id <= (SELECT max(id) FROM incidents) - ?2 AND {PRUNABLE}"
        );
        self.db.prepare_cached(&too_many)?.execute(params![boot, incidents])?;
        let oldest = format!(
            "DELETE FROM incidents WHERE id IN \
             (SELECT id FROM incidents WHERE {PRUNABLE} ORDER BY id LIMIT ?2)"
        );
        let batch = (incidents / 64).max(1);
        // An eighth of the space stays free, so that an intention always finds room.
        while self.used_bytes()? > bytes / 8 * 7 {
            if self.db.prepare_cached(&oldest)?.execute(params![boot, batch])? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn used_bytes(&self) -> rusqlite::Result<i64> {
        let pragma = |name| self.db.pragma_query_one::<i64>(None, name);
        let used = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
        Ok(used.saturating_mul(pragma("page_size")?))
    }

    fn present_boot(&self) -> Result<&BootId, JournalError> {
        self.boot.as_ref().ok_or_else(|| JournalError::ReadOnly { path: self.path.clone() })
    }

    fn error(&self, error: rusqlite::Error) -> JournalError {
        JournalError::sqlite(&self.path, error)
    }
}

/// Whether there is a file to open; an error if it cannot be a journal. Never opens the file:
/// closing a second descriptor would release the locks that SQLite holds on it in this process.
fn inspect(path: &Path) -> Result<bool, JournalError> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(JournalError::io(path, error)),
    };
    if !file.is_file() {
        return Err(JournalError::corrupt(path, "it is not a regular file"));
    }
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let wal = fs::metadata(wal).map_or(0, |wal| wal.len());
    if file.len() == 0 && wal > 0 {
        // SQLite would delete the log of an empty file, with data that is only there.
        return Err(JournalError::corrupt(path, "it is empty but its write-ahead log is not"));
    }
    if file.len().saturating_add(wal) > MAX_FILE_BYTES {
        return Err(JournalError::corrupt(path, "it is larger than an agent lets it grow"));
    }
    Ok(true)
}

/// Creates an empty file for SQLite, readable only by its owner. SQLite gives the files beside it
/// the same mode.
fn make_private_file(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Opens a file and checks its format, without writing to it.
fn connect(path: &Path, access: OpenFlags) -> Result<(Connection, schema::Found), JournalError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path, flags)
        .and_then(|db| {
            db.busy_timeout(PATIENCE)?;
            schema::harden(&db)?;
            Ok(db)
        })
        .map_err(|error| JournalError::sqlite(path, error))?;
    let found = schema::examine(&db, path)?;
    Ok((db, found))
}
