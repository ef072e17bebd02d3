//! Stage 7: records each incident in the journal, metrics and log.
pub mod incident;
pub mod journal;
pub mod metrics;
pub mod outcomes;
mod recorder;
mod shared;
pub mod trace;

pub use incident::{BootId, Incident, Intent, RecordedReason};
pub use journal::{Journal, JournalError, StateLock};
pub use metrics::Metrics;
pub use recorder::Recorder;
pub use recorder::intent_of;
pub use shared::SharedJournal;
