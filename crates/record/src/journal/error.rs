//! Errors of the journal, and what to do about them.
use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

/// Why the journal cannot be opened, written or read. An agent with such an error applies no hard
/// remedies: a restart that was not recorded may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another running agent holds the state directory; this one may only observe.
    #[error(
        "the state directory {} is in use by another agent{}; this one only observes; \
         stop the other one, or choose another directory with --state-dir",
        dir.display(),
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The state directory.
        dir: PathBuf,
        /// Process id of the holder, if its lock file names it; in the holder's own PID namespace.
        pid: Option<i32>,
    },
    /// The state directory or a file in it cannot be created or accessed.
    #[error(
        "cannot use {}: {source}; make the directory writable for this user, \
         or choose another with --state-dir",
        path.display()
    )]
    StateDir {
        /// The directory or file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is no journal to read.
    #[error(
        "there is no journal at {}: no agent has run with this --state-dir, \
         or none has recorded a remedy yet",
        path.display()
    )]
    Missing {
        /// Its expected path.
        path: PathBuf,
    },
    /// The file is damaged or is not a journal of Paramedic. It stays unchanged.
    #[error(
        "the journal {} cannot be trusted: {detail}; it was left untouched; \
         move it and its -wal and -shm files away to start a new one",
        path.display()
    )]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer version of Paramedic wrote the file. It stays unchanged.
    #[error(
        "the journal {} has format {found}, this version knows up to {known}; it was left \
         untouched; use the newer version, or choose another --state-dir",
        path.display()
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Format of the file.
        found: i64,
        /// The newest format that this version reads.
        known: i64,
    },
    /// The file system or the file is read-only.
    #[error(
        "the journal {} is read-only; remount its file system writable, \
         or choose another directory with --state-dir",
        path.display()
    )]
    ReadOnly {
        /// The journal.
        path: PathBuf,
    },
    /// The disk is full, or incidents without an outcome have used up the journal's size.
    #[error(
        "no room to write to the journal {}: free some space on its file system; \
         if there is enough, move the journal away to start a new one",
        path.display()
    )]
    Full {
        /// The journal.
        path: PathBuf,
    },
    /// Another program holds the journal's write lock.
    #[error(
        "the journal {} is locked by another program; close whatever writes to it",
        path.display()
    )]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// An invalid intention, which must not be acted on.
    #[error("refused to record an intention whose {what}; this is a bug, please report it")]
    Invalid {
        /// The invalid part.
        what: &'static str,
    },
    /// There is no such open intention: it never existed, was pruned, or already has an outcome.
    #[error("incident {id} has no open intention; the first outcome stands")]
    NotOpen {
        /// Number of the incident.
        id: i64,
    },
    /// Any other error of SQLite.
    #[error(
        "the journal {} cannot be used: {source}; check the disk and the permissions of its \
         directory, or choose another with --state-dir",
        path.display()
    )]
    Sqlite {
        /// The journal.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
}

impl JournalError {
    /// The error's name, for metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "locked",
            Self::StateDir { .. } => "state_dir",
            Self::Missing { .. } => "missing",
            Self::Corrupt { .. } => "corrupt",
            Self::Newer { .. } => "newer",
            Self::ReadOnly { .. } => "read_only",
            Self::Full { .. } => "full",
            Self::Busy { .. } => "busy",
            Self::Invalid { .. } => "invalid",
            Self::NotOpen { .. } => "not_open",
            Self::Sqlite { .. } => "sqlite",
        }
    }

    pub(super) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), detail: detail.into() }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            Self::ReadOnly { path: path.to_owned() }
        } else {
            Self::StateDir { path: path.to_owned(), source }
        }
    }

    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
        };
        let path = path.to_owned();
        if let InvalidColumnType(..)
        | FromSqlConversionFailure(..)
        | IntegralValueOutOfRange(..)
        | Utf8Error(..) = source
        {
            return Self::Corrupt { path, detail: source.to_string() };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, detail: source.to_string() }
            }
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Sqlite { path, source },
        }
    }
}
