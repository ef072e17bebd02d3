//! Stage 7: one incident, one story: journal, metrics and log.
pub mod incident;
pub mod journal;
pub mod metrics;

pub use incident::{BootId, Incident, Intent, RecordedReason};
pub use journal::{Journal, JournalError, StateLock};
pub use metrics::Metrics;
