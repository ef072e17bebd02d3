//! The architectures that a release is made for, by each of their names.
use std::env::consts::ARCH;

use anyhow::{Context, Result};

/// One architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// As Rust and the kernel call it.
    pub rust: &'static str,
    /// As Debian and images call it.
    pub debian: &'static str,
}

impl Platform {
    const ALL: [Self; 2] =
        [Self { rust: "x86_64", debian: "amd64" }, Self { rust: "aarch64", debian: "arm64" }];

    /// The architecture of this machine, for which the programs are compiled.
    ///
    /// # Errors
    /// If no release is made for it.
    pub fn host() -> Result<Self> {
        let known = Self::ALL.into_iter().find(|platform| platform.rust == ARCH);
        known.with_context(|| format!("no release is made for {ARCH}"))
    }
}
