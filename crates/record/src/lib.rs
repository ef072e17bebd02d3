//! Stage 7: records each incident in the journal, metrics and log, and its evidence in a file.
pub mod evidence;
pub mod incident;
pub mod journal;
pub mod metrics;
pub mod outcomes;
mod past;
mod recorder;
mod resizing;
mod shared;
pub mod trace;

pub use evidence::{Evidence, EvidenceStore};
pub use incident::{BootId, Incident, Intent, RecordedReason};
pub use journal::{Journal, JournalError, StateLock};
pub use metrics::Metrics;
pub use recorder::Recorder;
pub use recorder::intent_of;
pub use resizing::keep_it;
pub use shared::SharedJournal;
