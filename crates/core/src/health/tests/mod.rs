//! What answers say.
use super::*;

mod answers;
mod fields;
