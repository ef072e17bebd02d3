//! Traces: everything that the engine is told, as it is told, so that it can be told again.
//!
//! A trace holds what `signal` delivered (cumulative counts, polls, the cgroup's readings, with
//! their instants), who the targets are, and what became of remedies. It holds no rates or rows, and
//! no verdict that a replay would go by: those are for `features` and `decide` to make anew, by
//! whatever model and policy a replay is asked to try. What the agent said, did and found is noted
//! beside it, for comparison and as the truth that training learns from.
//!
//! One line of JSON per event, in gzip, in parts of bounded size of which the oldest is deleted.
//! Recording never holds up the loop: a thread of its own compresses and writes; when it falls
//! behind, lines are lost, counted, and the trace says so where they are missing.
mod line;
mod look;
mod read;
mod who;
mod write;

use std::path::PathBuf;

pub use line::{Absurd, Ended, Header, Line, Refused, VERSION, What};
pub use look::Look;
pub use read::{Reader, TraceError};
pub use who::Who;
pub use write::Trace;

/// Where to record, and how much to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory; made if it is missing.
    pub directory: PathBuf,
    /// All traces in it together, in bytes.
    pub limit: u64,
}

/// Places in an engine that a trace may name. An agent's targets are fewer; a file that names more
/// was not written by one.
pub const MOST_TARGETS: usize = 4096;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
pub mod tests;
