//! Stage 6: did the remedy help?
use serde::{Deserialize, Serialize};

/// How a treatment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Well again.
    Healed,
    /// The evidence is still there, or came back within the window.
    NotHealed,
    /// Worse than before the remedy.
    Worse,
    /// Nobody can tell: no traffic, or the successor is elsewhere. Never climbs.
    Unverified,
    /// The remedy itself could not be given.
    Failed,
}

impl Outcome {
    /// The outcome's name, as in the journal, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::NotHealed => "not_healed",
            Self::Worse => "worse",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
        }
    }
}
