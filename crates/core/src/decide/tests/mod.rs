//! Tests of the path from a model file to a decision; smaller parts have their own tests.
mod boosted;
mod explaining;
mod golden;
mod hostile;
mod surface;
mod throttled;
mod walking;
