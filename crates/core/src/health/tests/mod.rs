//! Tests of how responses are read.
use super::*;

mod answers;
mod fields;
mod grpc;
