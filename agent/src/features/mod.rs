//! Stage 2: a window of samples becomes a [`FeatureVector`] of a fixed schema.
pub mod load;
pub mod notable;
pub mod schema;
pub mod window;

pub use load::Load;
pub use notable::Notable;
pub use schema::{FEATURES, Feature, FeatureVector, SCHEMA_VERSION};
pub use window::{Causes, Window};
