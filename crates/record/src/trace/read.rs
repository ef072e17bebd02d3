//! Reads a trace, which may be truncated, corrupt or hostile.
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use super::line::{Absurd, Header, Line, OLDEST, VERSION, What, moment};

/// Maximum length of a line. The longest line of an agent is a tenth of this.
const LINE_LIMIT: u64 = 64 * 1024;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The content is not gzip, or is damaged.
    #[error("{path} is damaged after line {line}: {source}")]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Number of the last good line.
        line: u64,
        /// What is wrong.
        source: io::Error,
    },
    /// The first line is not the header of a trace.
    #[error("{path} is not a Paramedic trace: {why}")]
    NoTrace {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the first line.
        why: String,
    },
    /// A line is invalid.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// Iterates over the lines of one part.
pub struct Reader<R = BufReader<File>> {
    path: PathBuf,
    text: io::Take<BufReader<MultiGzDecoder<R>>>,
    /// The first line.
    pub header: Header,
    buffer: Vec<u8>,
    line: u64,
    last: u64,
    ended: bool,
    truncated: bool,
}

impl Reader {
    /// Opens a file and reads its first line.
    ///
    /// # Errors
    /// If it cannot be read, is not a trace of this version, or its header is implausible.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path)
            .map_err(|source| TraceError::File { path: path.to_owned(), source })?;
        Self::new(path, BufReader::new(file))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line of a trace from any source. Errors name it by `path`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn new(path: &Path, bytes: R) -> Result<Self, TraceError> {
        let text = BufReader::new(MultiGzDecoder::new(bytes)).take(0);
        let mut reader = Self {
            path: path.to_owned(),
            text,
            header: NOTHING,
            buffer: Vec::new(),
            line: 0,
            last: 0,
            ended: false,
            truncated: false,
        };
        let no_trace = |why: String| TraceError::NoTrace { path: path.to_owned(), why };
        match reader.read_line() {
            Ok(true) => {}
            Ok(false) => return Err(no_trace("it is empty".to_owned())),
            Err(TraceError::Damaged { source, .. }) => return Err(no_trace(source.to_string())),
            Err(error) => return Err(error),
        }
        reader.header = serde_json::from_slice(&reader.buffer).map_err(|error| {
            no_trace(format!(
                "its first line is not a header of a version up to {VERSION} ({error})"
            ))
        })?;
        let version = reader.header.paramedic_trace;
        if !(OLDEST..=VERSION).contains(&version) {
            let known = format!("{OLDEST} to {VERSION}");
            let why = format!("its lines are of version {version}, and this reads {known}");
            return Err(no_trace(why));
        }
        reader.header.check().map_err(|absurd| reader.wrong(absurd))?;
        reader.last = reader.header.boot_ns;
        Ok(reader)
    }

    /// Whether the file ends without an end line: its agent was killed, or is still recording.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The number of the line that was read last.
    #[must_use]
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// The next line, or `None` at the end.
    ///
    /// # Errors
    /// If the line is invalid, or goes back in time. A line that the end of the file truncates ends
    /// the iteration.
    pub fn next_line(&mut self) -> Result<Option<Line>, TraceError> {
        if self.ended || !self.read_line()? {
            self.truncated |= !self.ended;
            return Ok(None);
        }
        let line: Line = serde_json::from_slice(&self.buffer).map_err(|e| self.wrong(e))?;
        if line.1 > 23 {
            return Err(self.wrong(Absurd::Hour));
        }
        moment(line.0).map_err(|absurd| self.wrong(absurd))?;
        if line.0 < self.last {
            return Err(self.wrong("it is older than the line before"));
        }
        self.last = line.0;
        self.ended = matches!(line.2, What::End);
        Ok(Some(line))
    }

    /// An error about the line that was read last.
    pub fn wrong(&self, why: impl ToString) -> TraceError {
        TraceError::Line { path: self.path.clone(), line: self.line, why: why.to_string() }
    }

    /// Reads one complete line into the buffer; false if there is none, or only a part of one.
    fn read_line(&mut self) -> Result<bool, TraceError> {
        self.buffer.clear();
        self.text.set_limit(LINE_LIMIT);
        match self.text.read_until(b'\n', &mut self.buffer) {
            Ok(_) if self.buffer.last() == Some(&b'\n') => {
                self.line += 1;
                Ok(true)
            }
            Ok(_) if self.text.limit() == 0 => {
                self.line += 1;
                Err(self.wrong(format!("longer than {} KiB", LINE_LIMIT / 1024)))
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => {
                Err(TraceError::Damaged { path: self.path.clone(), line: self.line, source })
            }
        }
    }
}

const NOTHING: Header = Header {
    paramedic_trace: 0,
    agent: String::new(),
    run: String::new(),
    part: 0,
    boot_ns: 0,
    unix_s: 0,
    max_remedy: paramedic_core::target::Remedy::Observe,
    dry_run: true,
    rules_may_restart: false,
    node_budget: 0,
    tick_ns: 0,
    patience_ns: None,
    warm_up_ns: None,
    verify_window_ns: 0,
    model: None,
};
