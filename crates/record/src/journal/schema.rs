//! The tables of the journal, and the check that a file has exactly these.
//!
//! A file is accepted only if every object in it is one that this version would have created: a
//! different table, a trigger or a view comes from another program, or from an attack.
use std::path::Path;

use rusqlite::{Connection, config::DbConfig};

use super::JournalError;

/// Format of the file (`user_version`): the number of [`STEPS`]. A newer file is refused and stays
/// unchanged.
pub(super) const VERSION: i64 = 5;

/// What each version added, from the first on. A new file gets them by the same statements, so that a
/// migrated file equals a new one. The text is compared with the schema in the file: any change of it,
/// even a blank, needs a further step.
pub(super) const STEPS: [&str; 5] = [TABLES, ADDED, NOTIFICATIONS, MEANS_AND_RESIZES, CHANNELS];

/// Identifies the file as Paramedic's (`application_id`): "PMED".
pub(super) const APPLICATION: i64 = 0x504d_4544;

/// `AUTOINCREMENT`, so that the number of a pruned incident is never reused.
const TABLES: &str = "
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

/// What the incident was about.
const ADDED: &str = "
ALTER TABLE incidents ADD COLUMN workload TEXT;
ALTER TABLE incidents ADD COLUMN symptom TEXT;
ALTER TABLE incidents ADD COLUMN health TEXT;
";

/// The notifications of each channel, and the problems that people were told of and that have not ended.
const NOTIFICATIONS: &str = "
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    made INTEGER NOT NULL,
    content TEXT NOT NULL,
    settled INTEGER,
    result TEXT
) STRICT;
CREATE TABLE problems (
    key TEXT PRIMARY KEY,
    uid TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;
";

/// How a remedy was applied, and changes of limits.
const MEANS_AND_RESIZES: &str = "
ALTER TABLE incidents ADD COLUMN means TEXT;
CREATE TABLE resizes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL,
    scope TEXT NOT NULL,
    uid TEXT NOT NULL,
    instance TEXT NOT NULL,
    name TEXT NOT NULL,
    resource TEXT NOT NULL,
    before INTEGER NOT NULL,
    after INTEGER NOT NULL,
    base INTEGER NOT NULL,
    intended INTEGER NOT NULL,
    wall_time INTEGER NOT NULL,
    outcome TEXT,
    detail TEXT,
    concluded INTEGER
) STRICT;
CREATE INDEX resizes_by_limit ON resizes (scope, resource, id);
";

/// The named channels that were told of a problem, beside those that are told of all.
const CHANNELS: &str = "
ALTER TABLE problems ADD COLUMN channels TEXT NOT NULL DEFAULT '';
";

/// The state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No tables yet.
    Empty,
    /// A journal of this older version.
    Older(usize),
    /// A journal of the current version.
    Current,
}

/// Disables everything in a file's schema that could run code, and keeps pending data out of the
/// main file until the file is recognised.
pub(super) fn harden(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Checks a file without writing to it.
pub(super) fn examine(db: &Connection, path: &Path) -> Result<Found, JournalError> {
    let sqlite = |error| JournalError::sqlite(path, error);
    let application = db.pragma_query_one::<i64>(None, "application_id").map_err(sqlite)?;
    let version = db.pragma_query_one::<i64>(None, "user_version").map_err(sqlite)?;
    let objects = objects(db).map_err(sqlite)?;
    if (application, version) == (0, 0) && objects.is_empty() {
        return Ok(Found::Empty);
    }
    if application != APPLICATION {
        return Err(JournalError::corrupt(path, "it belongs to another program"));
    }
    if version > VERSION {
        return Err(JournalError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    let steps = usize::try_from(version).unwrap_or(0);
    let expected = || {
        let fresh = Connection::open_in_memory()?;
        fresh.execute_batch(&STEPS[..steps].concat())?;
        self::objects(&fresh)
    };
    if steps < 1 || objects != expected().map_err(sqlite)? {
        return Err(JournalError::corrupt(path, "its tables are not the journal's"));
    }
    Ok(if steps < STEPS.len() { Found::Older(steps) } else { Found::Current })
}

/// Migrates a file of the older version `from`, or leaves it unchanged.
pub(super) fn update(db: &mut Connection, from: usize) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    add_steps(&transaction, from)?;
    transaction.commit()
}

/// Creates the tables in an empty file, all or none.
pub(super) fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    add_steps(&transaction, 0)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.commit()
}

fn add_steps(db: &Connection, from: usize) -> rusqlite::Result<()> {
    for step in &STEPS[from..] {
        db.execute_batch(step)?;
    }
    db.pragma_update(None, "user_version", VERSION)
}

/// Every object in a file: type, name and the statement that created it.
fn objects(db: &Connection) -> rusqlite::Result<Vec<[Option<String>; 3]>> {
    let mut query = db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name, type")?;
    let rows = query.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    rows.collect()
}
