//! Tests of the path from a model file to a decision; the smaller parts test themselves.
mod explaining;
mod golden;
mod hostile;
mod surface;
mod throttled;
mod walking;
