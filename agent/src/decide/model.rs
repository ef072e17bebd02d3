//! Loads a model file: reads it, holds its metadata against the schema, and picks the engine.
//!
//! The file is not ours to trust: a wrong one must end in a sentence that says what to do, and
//! the agent then goes by its [rules](super::rules).
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use thiserror::Error;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::Framework;

use super::calibrate::{Calibration, normalise};
use super::ensemble::Ensemble;
use super::forest::Forest;
use super::forest_error::ForestError;
use super::metadata::{Metadata, MetadataError};
use super::tract::Tract;
use crate::features::schema::COUNT;

/// Largest model file, some sixteen times the shipped one. What the parser makes of a hostile
/// file can be a hundred times its size, so this is the bound on memory too.
const MAX_BYTES: u64 = 16 << 20;

/// Why a model is refused.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read the model file {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is too large.
    #[error("the model file is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// The file is no ONNX model.
    #[error("not an ONNX model: {reason}")]
    NotOnnx {
        /// What the parser says.
        reason: String,
    },
    /// The model has no graph.
    #[error("the ONNX model has no graph")]
    NoGraph,
    /// The metadata are missing or do not fit this agent.
    #[error("model metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// The tree ensemble is not a sound forest.
    #[error("tree ensemble: {0}")]
    Forest(#[from] ForestError),
    /// An operator that a classifier has no need of.
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
        /// How many there may be.
        limit: usize,
    },
    /// The model's values are in other files.
    #[error("the model refers to other files; save it with its values inside")]
    External,
    /// No output can be the class scores.
    #[error("no output is a float tensor of shape [N, 3]")]
    NoScores,
    /// The general engine cannot load or run the model.
    #[error("tract cannot run the model: {reason}")]
    Engine {
        /// What it says.
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
        /// Time they may take.
        limit: u128,
    },
}

#[derive(Clone, Debug)]
enum Engine {
    Forest(Forest),
    Tract(Tract),
}

/// A classifier that fits this agent: same columns, same classes, same schema version.
#[derive(Clone, Debug)]
pub struct Model {
    engine: Engine,
    metadata: Metadata,
    /// Of the file, in hexadecimal digits; empty for a model that never was one.
    sha256: String,
}

impl Model {
    /// Loads a model file of at most 16 MiB.
    ///
    /// # Errors
    /// When it cannot be read, or as [`Model::from_bytes`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let bytes =
            read_file(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }

    /// Makes a model of an ONNX file's contents: a bare tree ensemble becomes a flat forest, any
    /// other classifier runs through tract if it is fast enough.
    ///
    /// # Errors
    /// When the bytes are no ONNX model, its metadata do not fit, its trees are unsound, or
    /// another classifier uses operators that are not accepted, cannot be run, or is too slow.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let model = Self::from_proto(&read(bytes)?)?;
        let digest = digest(&SHA256, bytes);
        let sha256 = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { sha256, ..model })
    }

    pub(super) fn from_proto(model: &ModelProto) -> Result<Self, ModelError> {
        let metadata = Metadata::read(model)?;
        let graph = model.graph.as_ref().ok_or(ModelError::NoGraph)?;
        let engine = match Ensemble::find(graph)? {
            Some(ensemble) => Engine::Forest(Forest::compile(&ensemble)?),
            None => {
                let tract = Tract::build(model)?;
                tract.check_speed()?;
                Engine::Tract(tract)
            }
        };
        Ok(Self { engine, metadata, sha256: String::new() })
    }

    /// Raw class scores of one finite row.
    ///
    /// # Errors
    /// Never with the flat forest; with tract, when it fails on this row.
    pub fn scores(&self, row: &[f32; COUNT]) -> Result<[f64; 3], ModelError> {
        match &self.engine {
            Engine::Forest(forest) => Ok(forest.predict(row)),
            Engine::Tract(tract) => tract.predict(row),
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

    /// What runs the model: `forest` or `tract`.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        match self.engine {
            Engine::Forest(_) => "forest",
            Engine::Tract(_) => "tract",
        }
    }

    /// The flat forest, unless the model is another kind of classifier.
    #[must_use]
    pub const fn forest(&self) -> Option<&Forest> {
        match &self.engine {
            Engine::Forest(forest) => Some(forest),
            Engine::Tract(_) => None,
        }
    }

    /// How the model came to be, as its trainer wrote it down: JSON by convention.
    #[must_use]
    pub fn provenance(&self) -> Option<&str> {
        self.metadata.provenance.as_deref()
    }

    /// SHA-256 of the file, in hexadecimal digits: which model this is.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether the model carries a calibration.
    #[must_use]
    pub const fn is_calibrated(&self) -> bool {
        self.metadata.calibration.is_some()
    }
}

/// One byte more than allowed tells a file that is too large, whatever its length says. Opening a
/// pipe would wait for a writer for ever.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the ONNX container, through tract's own types.
pub(super) fn read(bytes: &[u8]) -> Result<ModelProto, ModelError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ModelError::TooLarge);
    }
    let mut bytes = bytes;
    tract_onnx::onnx().proto_model_for_read(&mut bytes).map_err(|error| ModelError::NotOnnx {
        reason: format!("{error:#}").chars().take(200).collect(),
    })
}
