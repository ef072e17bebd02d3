//! The classifier: a model, or the rules without one.
//!
//! It returns no decision for a row with a value that is not a number, nor if its engine fails:
//! without a decision nothing is done.
use std::fmt;

use serde::Serialize;
use thiserror::Error;

use super::{
    Action, Decision, Reasons, Source,
    forest::Forest,
    model::{Model, ModelError, only_forests},
    reasons::top_reasons,
    rules,
};
use crate::features::schema::{COUNT, Feature, FeatureVector, SCHEMA_VERSION};

/// The built-in model.
static EMBEDDED: &[u8] = include_bytes!("../../../../model/healing_brain.onnx");

/// The source of decisions.
#[derive(Clone, Debug)]
pub enum Classifier {
    /// A model that fits this agent.
    Model(Box<Model>),
    /// The documented rules.
    Rules {
        /// Why there is no model.
        reason: String,
    },
}

/// Why a row was not decided. The agent then leaves the target alone and reports it.
#[derive(Debug, Error)]
pub enum Undecided {
    /// A column is not a number: its source is broken.
    #[error("{} is {value}, which is not a usable number; check its source", feature.name())]
    NotFinite {
        /// The first such column.
        feature: Feature,
        /// What it holds.
        value: f32,
    },
    /// The model failed on this row.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Description of a classifier, for logs, metrics and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Description<'a> {
    /// `forest`, `rules`, or the name of another engine.
    pub engine: &'static str,
    /// Version of the feature schema.
    pub schema_version: u32,
    /// Number of trees, for a forest.
    pub trees: Option<usize>,
    /// Number of nodes, for a forest.
    pub nodes: Option<usize>,
    /// Whether confidence is calibrated.
    pub calibrated: bool,
    /// Whether the model tells rows that it does not know.
    pub knows_strangers: bool,
    /// The origin of the model, as its trainer recorded it: JSON by convention.
    pub provenance: Option<&'a str>,
    /// Why there is no model.
    pub reason: Option<&'a str>,
}

impl<E: fmt::Display> From<Result<Model, E>> for Classifier {
    fn from(model: Result<Model, E>) -> Self {
        match model {
            Ok(model) => Self::Model(Box::new(model)),
            Err(error) => Self::Rules { reason: error.to_string() },
        }
    }
}

impl Classifier {
    /// The model that is built into the agent.
    #[must_use]
    pub fn embedded() -> Self {
        Model::from_bytes(EMBEDDED, only_forests).into()
    }

    /// Decides one row.
    ///
    /// # Errors
    /// If a column is not finite; if the model is not a forest and fails on the row.
    pub fn decide(&self, row: &FeatureVector) -> Result<Decision, Undecided> {
        let unusable = Feature::ALL.into_iter().find(|&f| !row[f].is_finite());
        if let Some(feature) = unusable {
            return Err(Undecided::NotFinite { feature, value: row[feature] });
        }
        match self {
            Self::Model(model) => Ok(decide(model, row)?),
            Self::Rules { .. } => Ok(rules::decide(row)),
        }
    }

    /// Up to `n` reasons for `action`, for words and pages: soon, by [`Classifier::shares`].
    #[must_use]
    pub fn reasons(&self, row: &FeatureVector, action: Action, n: usize) -> Reasons {
        top_reasons(row, action, &self.shares(row, action), n)
    }

    /// Each column's share in the score of `action`, in the time of a decision. From a forest: path
    /// attribution; the shares sum to the difference from the training mean. The unit is that of the
    /// leaves: the raw class probability of a random forest, the raw margin (a difference of log odds)
    /// of boosted trees. From the rules: 1 for each column that decided. All zero from another model,
    /// and if there is nothing to explain: see [`Classifier::explain`].
    #[must_use]
    pub fn shares(&self, row: &FeatureVector, action: Action) -> [f32; COUNT] {
        match self {
            _ if !row.is_finite() => [0.0; COUNT],
            Self::Model(model) => model.forest().map_or([0.0; COUNT], |forest| {
                forest.path_attribution(row.values(), action as usize).map(|s| s as f32)
            }),
            Self::Rules { .. } => rules::shares(row, action),
        }
    }

    /// Each column's share in the score of `action`, as exactly as possible. From a forest: Shapley
    /// values (some milliseconds, for decisions that are about to be acted on) of the sum of the
    /// leaves, which is a probability for a random forest and a margin for boosted trees. From
    /// another model: the change when the column alone becomes neutral. From the rules: 1 for the
    /// columns that decided. All zero if there is nothing to explain: a row that cannot be decided,
    /// or an action that the rules did not choose.
    #[must_use]
    pub fn explain(&self, row: &FeatureVector, action: Action) -> [f32; COUNT] {
        let nothing = [0.0; COUNT];
        match self {
            _ if !row.is_finite() => nothing,
            Self::Model(model) => match model.forest() {
                Some(forest) => forest.shares(row.values(), action as usize).map(|s| s as f32),
                None => occlusion(model, row, action).unwrap_or(nothing),
            },
            Self::Rules { .. } => rules::shares(row, action),
        }
    }

    /// SHA-256 of the model's file, in hexadecimal digits; `None` if the rules decide.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        match self {
            Self::Model(model) => Some(model.sha256()),
            Self::Rules { .. } => None,
        }
    }

    /// What this classifier is.
    #[must_use]
    pub fn describe(&self) -> Description<'_> {
        let rules = Description {
            engine: "rules",
            schema_version: SCHEMA_VERSION,
            trees: None,
            nodes: None,
            calibrated: false,
            knows_strangers: false,
            provenance: None,
            reason: None,
        };
        match self {
            Self::Model(model) => Description {
                engine: model.engine(),
                trees: model.forest().map(Forest::trees),
                nodes: model.forest().map(Forest::nodes),
                calibrated: model.is_calibrated(),
                knows_strangers: model.familiar().is_some(),
                provenance: model.provenance(),
                ..rules
            },
            Self::Rules { reason } => Description { reason: Some(reason), ..rules },
        }
    }
}

/// The most probable class; among equals the mildest.
fn decide(model: &Model, row: &FeatureVector) -> Result<Decision, ModelError> {
    let probabilities = model.calibrate(&model.scores(row.values())?);
    let mut action = Action::NoAction;
    for other in Action::ALL {
        if probabilities[other as usize] > probabilities[action as usize] {
            action = other;
        }
    }
    let confidence = probabilities[action as usize];
    let acts = action != Action::NoAction;
    let unfamiliar = model.familiar().filter(|_| acts).and_then(|familiar| familiar.judge(row));
    Ok(Decision { action, confidence, probabilities, source: Source::Model, unfamiliar })
}

/// The decrease of the score of `action` when one column alone is set to 0, its neutral value. The
/// hour and the uptime have none, and keep a share of zero.
fn occlusion(
    model: &Model,
    row: &FeatureVector,
    action: Action,
) -> Result<[f32; COUNT], ModelError> {
    let score =
        |row: &FeatureVector| Ok::<_, ModelError>(model.scores(row.values())?[action as usize]);
    let (mut shares, full) = ([0.0; COUNT], score(row)?);
    for feature in Feature::ALL {
        if !matches!(feature, Feature::Uptime | Feature::HourOfDay) {
            let mut neutral = *row;
            neutral[feature] = 0.0;
            shares[feature as usize] = (full - score(&neutral)?) as f32;
        }
    }
    Ok(shares)
}
