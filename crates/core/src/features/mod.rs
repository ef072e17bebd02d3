//! Stage 2: turns a window of samples into a [`FeatureVector`] of a fixed schema.
mod clients;
mod durations;
mod errors;
pub mod excuse;
pub mod load;
pub mod notable;
pub mod schema;
pub mod service;
pub mod window;

pub use clients::Clients;
pub use durations::Durations;
pub use excuse::{Blind, Excuse};
pub use load::Load;
pub use notable::{Notable, Sight};
pub use schema::{FEATURES, Feature, FeatureVector, SCHEMA_VERSION};
pub use service::{FailsSinceStart, Service};
pub use window::{Causes, ERRORS_LAST, Window};
