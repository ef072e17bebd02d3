//! The journal's tables, and how to tell that a file has exactly these.
//!
//! A file is adopted only if every object in it is what this version would have made: a table of
//! another shape, a trigger or a view is somebody else's, or an attack.
use std::path::Path;

use rusqlite::{Connection, config::DbConfig};

use super::JournalError;

/// Format of the file (`user_version`); one that is newer is refused and left as it is.
pub(super) const VERSION: i64 = 2;

/// Marks the file as Paramedic's (`application_id`): "PMED".
pub(super) const APPLICATION: i64 = 0x504d_4544;

/// `AUTOINCREMENT`, so that the number of a pruned incident is never given again. The text is
/// compared with what a file holds: a change of it, be it a blank, is a new [`VERSION`].
pub(super) const TABLES: &str = "
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL,
    uid TEXT NOT NULL,
    instance TEXT NOT NULL,
    name TEXT NOT NULL,
    rung TEXT NOT NULL,
    action TEXT NOT NULL,
    confidence REAL NOT NULL,
    source TEXT NOT NULL,
    reasons TEXT NOT NULL,
    intended INTEGER NOT NULL,
    wall_time INTEGER NOT NULL,
    climbed_from INTEGER,
    outcome TEXT,
    detail TEXT,
    concluded INTEGER
) STRICT;
CREATE INDEX incidents_by_target ON incidents (boot, uid, intended);
CREATE INDEX incidents_open ON incidents (boot) WHERE outcome IS NULL;
";

/// What version 2 has beyond version 1: what the incident was about. Added to the tables of a new
/// file, too, so that a file that was brought up to date is the same as a new one.
const ADDED: &str = "
ALTER TABLE incidents ADD COLUMN workload TEXT;
ALTER TABLE incidents ADD COLUMN symptom TEXT;
ALTER TABLE incidents ADD COLUMN health TEXT;
";

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet.
    Empty,
    /// A journal of version 1.
    Older,
    /// A journal of this version.
    Current,
}

/// Takes from a file's schema every power to run something, and keeps what is pending out of the
/// main file until the file is known to be ours.
pub(super) fn harden(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Looks at a file without writing to it.
pub(super) fn examine(db: &Connection, path: &Path) -> Result<Found, JournalError> {
    let sqlite = |error| JournalError::sqlite(path, error);
    let application = db.pragma_query_one::<i64>(None, "application_id").map_err(sqlite)?;
    let version = db.pragma_query_one::<i64>(None, "user_version").map_err(sqlite)?;
    let objects = objects(db).map_err(sqlite)?;
    if (application, version) == (0, 0) && objects.is_empty() {
        return Ok(Found::Empty);
    }
    if application != APPLICATION {
        return Err(JournalError::corrupt(path, "it is a database of another program"));
    }
    if version > VERSION {
        return Err(JournalError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    let expected = |statements: &str| {
        let fresh = Connection::open_in_memory()?;
        fresh.execute_batch(statements)?;
        self::objects(&fresh)
    };
    let (statements, found) = match version {
        1 => (TABLES.to_owned(), Found::Older),
        _ => (format!("{TABLES}{ADDED}"), Found::Current),
    };
    if version < 1 || objects != expected(&statements).map_err(sqlite)? {
        return Err(JournalError::corrupt(path, "its tables are not the journal's"));
    }
    Ok(found)
}

/// Brings a file of version 1 up to date, or leaves it as it is.
pub(super) fn update(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(ADDED)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Makes the tables in an empty file, all of them or none.
pub(super) fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(ADDED)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Every object in a file: type, name and the statement that made it.
fn objects(db: &Connection) -> rusqlite::Result<Vec<[Option<String>; 3]>> {
    let mut query = db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name, type")?;
    let rows = query.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    rows.collect()
}
