//! The fake against the recordings: in the same situation it gives the same answer.
//!
//! Every recording is used by one of these tests; one that is not fails the test that counts them.
#[cfg(test)]
#[path = "recordings/mod.rs"]
mod recordings;
