//! Stage 2: a window of samples becomes a [`FeatureVector`] of a fixed schema.
pub mod schema;

pub use schema::{FEATURES, FeatureVector, SCHEMA_VERSION};
