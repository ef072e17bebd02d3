//! Traces: recordings of all events that the engine received, for replay.
//!
//! A trace holds what `signal` delivered (cumulative counts, polls and cgroup readings, with their
//! times), the targets, and the results of remedies. It holds no rates, rows or verdicts for the
//! replay to use: `features` and `decide` compute them again, under the model and policy of the
//! replay. The verdicts, remedies and outcomes of the recorded agent are stored as well, for
//! comparison and as the truth for training.
//!
//! A trace has one line of JSON per event, in gzip, in parts of bounded size of which the oldest is
//! deleted. Recording never delays the event loop: a separate thread compresses and writes. If it
//! falls behind, lines are dropped and counted, and the trace says where they are missing.
mod line;
mod read;
mod sample_record;
mod target_record;
mod write;

use std::path::PathBuf;

pub use line::{Absurd, Ended, Header, Line, Refused, VERSION, What};
pub use read::{Reader, TraceError};
pub use sample_record::SampleRecord;
pub use target_record::TargetRecord;
pub use write::Trace;

/// Where to record, and how much to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory; created if it is missing.
    pub directory: PathBuf,
    /// Maximum size of all traces in it, in bytes.
    pub limit: u64,
}

/// Maximum index of a target in a trace. An agent has fewer targets; a file with more was not
/// written by one.
pub const MOST_TARGETS: usize = 4096;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
pub mod tests;
