//! Tests on real processes and cgroups. They need root, and fail without it.
// Clippy takes `cfg(test)`, not the file's place, for the sign of a test.
#[cfg(test)]
#[path = "live/process.rs"]
mod process;
