//! Loads a model from the content of a file: compares its metadata with the schema, and picks the
//! engine.
//!
//! The file is hostile until validated. An invalid one gives an error that says what to do, and the
//! agent then uses its [rules](super::rules).
use std::{fmt, sync::Arc};

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{
    calibrate::{Calibration, normalise},
    ensemble::Ensemble,
    familiar::Familiar,
    forest::Forest,
    forest_error::ForestError,
    metadata::{Metadata, MetadataError},
    onnx::ModelProto,
};
use crate::features::schema::COUNT;

/// Maximum size of a model file, some sixteen times the shipped one. The parsed form of a hostile
/// file can be a hundred times its size, so this bounds memory too.
pub const MAX_BYTES: u64 = 16 << 20;

/// Why a model is refused.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file is too large.
    #[error("the model file is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// The file is not an ONNX model.
    #[error("not an ONNX model: {reason}")]
    NotOnnx {
        /// The parser's error.
        reason: String,
    },
    /// The model has no graph.
    #[error("the ONNX model has no graph")]
    NoGraph,
    /// The metadata are missing or do not fit this agent.
    #[error("model metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// The tree ensemble is not a valid forest.
    #[error("tree ensemble: {0}")]
    Forest(#[from] ForestError),
    /// Trees whose scores are margins, and no calibration.
    #[error(
        "a leaf is below zero, so the scores are no probabilities: export the model with \
         post_transform SOFTMAX (XGBoost: objective multi:softprob), or add a `calibration`"
    )]
    Margins,
    /// An operator that a classifier does not need.
    #[error(
        "operator {name} is not accepted; a classifier needs no loops, generators or nested graphs"
    )]
    Operator {
        /// The operator.
        name: String,
    },
    /// More operators than a classifier has.
    #[error("{found} operators are more than {limit}; use a smaller model")]
    TooManyOperators {
        /// Number of operators.
        found: usize,
        /// The maximum.
        limit: usize,
    },
    /// The model's values are in other files.
    #[error("the model refers to other files; save it with its values inside")]
    External,
    /// No output can be the class scores.
    #[error("no output is a float tensor of shape [N, 3]")]
    NoScores,
    /// A classifier that is not a tree ensemble, in a build that runs nothing else.
    #[error(
        "the model is no tree ensemble, and this build runs no others; \
         build the agent with its feature `tract`"
    )]
    OnlyForests,
    /// The general engine cannot load or run the model.
    #[error("tract cannot run the model: {reason}")]
    Engine {
        /// Its error.
        reason: String,
    },
    /// The general engine is too slow for this model.
    #[error(
        "{rows} rows take {millis} ms, more than {limit} ms; use a smaller model, or a tree ensemble"
    )]
    TooSlow {
        /// Number of rows.
        rows: usize,
        /// Time they took.
        millis: u128,
        /// Maximum time.
        limit: u128,
    },
}

/// An engine for classifiers that are not tree ensembles.
pub trait ScoreEngine: fmt::Debug + Send + Sync {
    /// Raw class scores of one row.
    ///
    /// # Errors
    /// If the engine fails, or a score is not a number.
    fn scores(&self, row: &[f32; COUNT]) -> Result<[f64; 3], ModelError>;

    /// The engine's name, for logs and metrics.
    fn name(&self) -> &'static str;
}

/// Loads a model that is not a tree ensemble from the content of an ONNX file.
pub type LoadOther = fn(&[u8]) -> Result<Arc<dyn ScoreEngine>, ModelError>;

/// Refuses every model that is not a tree ensemble.
///
/// # Errors
/// Always [`ModelError::OnlyForests`].
pub fn only_forests(_: &[u8]) -> Result<Arc<dyn ScoreEngine>, ModelError> {
    Err(ModelError::OnlyForests)
}

#[derive(Clone, Debug)]
enum Engine {
    Forest(Forest),
    Other(Arc<dyn ScoreEngine>),
}

/// A classifier that fits this agent: same columns, same classes, same schema version.
#[derive(Clone, Debug)]
pub struct Model {
    engine: Engine,
    metadata: Metadata,
    /// Of the file, in hexadecimal digits.
    sha256: String,
}

impl Model {
    /// Loads a model from the content of an ONNX file: a bare tree ensemble (a random forest, or
    /// boosted trees) becomes a flat forest, and `load_other` loads any other classifier.
    ///
    /// # Errors
    /// If the bytes are not an ONNX model, its metadata do not fit, its trees are invalid, or
    /// `load_other` refuses it.
    pub fn from_bytes(bytes: &[u8], load_other: LoadOther) -> Result<Self, ModelError> {
        let model = read(bytes)?;
        let metadata = Metadata::read(&model)?;
        let graph = model.graph.as_ref().ok_or(ModelError::NoGraph)?;
        let engine = match Ensemble::find(graph)? {
            Some(ensemble) => {
                let forest = Forest::compile(&ensemble)?;
                if forest.has_bare_margins() && metadata.calibration.is_none() {
                    return Err(ModelError::Margins);
                }
                Engine::Forest(forest)
            }
            None => Engine::Other(load_other(bytes)?),
        };
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { engine, metadata, sha256 })
    }

    /// Class scores of one finite row, as the file defines them: before any calibration.
    ///
    /// # Errors
    /// Never with the flat forest; with another engine, if it fails on this row.
    pub fn scores(&self, row: &[f32; COUNT]) -> Result<[f64; 3], ModelError> {
        match &self.engine {
            Engine::Forest(forest) => Ok(forest.scores(forest.predict(row))),
            Engine::Other(other) => other.scores(row),
        }
    }

    /// Probabilities from raw class scores: calibrated, if the model carries a calibration.
    #[must_use]
    pub fn calibrate(&self, scores: &[f64; 3]) -> [f32; 3] {
        match &self.metadata.calibration {
            Some(calibration) => Calibration::apply(calibration, scores),
            None => normalise(*scores),
        }
    }

    /// The engine of the model: `forest` or `tract`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match &self.engine {
            Engine::Forest(_) => "forest",
            Engine::Other(other) => other.name(),
        }
    }

    /// The flat forest, unless the model is another kind of classifier.
    #[must_use]
    pub const fn forest(&self) -> Option<&Forest> {
        match &self.engine {
            Engine::Forest(forest) => Some(forest),
            Engine::Other(_) => None,
        }
    }

    /// The origin of the model, as its trainer recorded it: JSON by convention.
    #[must_use]
    pub fn provenance(&self) -> Option<&str> {
        self.metadata.provenance.as_deref()
    }

    /// SHA-256 of the file, in hexadecimal digits, which identifies the model.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Which rows the model knows, if it tells.
    #[must_use]
    pub const fn familiar(&self) -> Option<&Familiar> {
        self.metadata.familiar.as_ref()
    }

    /// Whether the model carries a calibration.
    #[must_use]
    pub const fn is_calibrated(&self) -> bool {
        self.metadata.calibration.is_some()
    }
}

/// Parses the ONNX container.
fn read(bytes: &[u8]) -> Result<ModelProto, ModelError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ModelError::TooLarge);
    }
    ModelProto::decode(bytes).map_err(|error| ModelError::NotOnnx {
        reason: error.to_string().chars().take(200).collect(),
    })
}

/// Refuses invalid trees, wherever they are in the graph.
///
/// # Errors
/// As [`Model::from_bytes`], except for a graph without trees.
pub fn check_trees(bytes: &[u8]) -> Result<(), ModelError> {
    let model = read(bytes)?;
    let graph = model.graph.as_ref().ok_or(ModelError::NoGraph)?;
    if let Some(ensemble) = Ensemble::find(graph)? {
        Forest::compile(&ensemble)?;
    }
    Ok(())
}
