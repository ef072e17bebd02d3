//! Tests on real processes and cgroups. They need root, and fail without it.
#[path = "live/process.rs"]
mod process;
