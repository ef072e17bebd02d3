//! The objects of the API, apart from what they mean: kinds, selectors, refusals, JSON.
pub(crate) mod json;
pub(crate) mod kind;
pub(crate) mod make;
pub(crate) mod selector;
pub(crate) mod status;
