//! Stage 3: turns a [`FeatureVector`](crate::features::schema::FeatureVector) into a [`Decision`].
//!
//! A decision is advice, never permission: the guard decides whether to act on it. A model file
//! passes `model`, `metadata`, `ensemble` and `compile`, and becomes a [`Forest`] (or, for any
//! other classifier, the result of the program's [`LoadOther`]). A row passes the [`Classifier`], which
//! adds calibrated confidence (`calibrate`), reasons (`explain`, `reasons`), and whether the model
//! knows such rows (`familiar`). Without a usable model the [`rules`] decide.
use serde::{Deserialize, Serialize};

pub mod onnx;
mod model;
mod metadata;
mod ensemble;
mod forest_error;
mod index;
mod link;
mod compile;
mod forest;
mod calibrate;
mod familiar;
mod explain;
mod reasons;
pub mod rules;
mod classifier;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use classifier::{Classifier, Description, Undecided};
pub use familiar::{Familiar, Unfamiliar};
pub use forest::Forest;
pub use forest_error::ForestError;
pub use metadata::MetadataError;
pub use model::{LoadOther, MAX_BYTES, Model, ModelError, ScoreEngine, check_trees, only_forests};
pub use reasons::{Reason, Reasons, top_reasons};

/// The action of a verdict: the classes of the model, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Action {
    /// Do nothing.
    NoAction = 0,
    /// Ask the app to reset itself.
    ResetErrors = 1,
    /// Restart it.
    RestartService = 2,
}

/// Class names in the order of a model's outputs.
pub const CLASSES: [&str; 3] = ["no_action", "reset_errors", "restart_service"];

impl Action {
    /// All classes, in order.
    pub const ALL: [Self; 3] = [Self::NoAction, Self::ResetErrors, Self::RestartService];

    /// The class's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        CLASSES[self as usize]
    }
}

/// The source of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The model.
    Model,
    /// The documented rules, because there is no usable model.
    Rules,
}

/// The recommended action for one row. [`Classifier::reasons`] tells why.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The most probable class.
    pub action: Action,
    /// Its calibrated probability, 0–1.
    pub confidence: f32,
    /// Calibrated probabilities of all classes, in the order of [`CLASSES`]; they sum to 1.
    pub probabilities: [f32; 3],
    /// Whether the model or the rules decided.
    pub source: Source,
    /// How the row is unlike those that the model was trained on, if it is; `None` also if the
    /// model does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfamiliar: Option<Unfamiliar>,
}
