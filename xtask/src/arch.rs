//! The architectures that Paramedic is built for.
use std::env::consts::ARCH;

use anyhow::{Context, Result};

/// An architecture, by the name that Debian, Docker and Kubernetes give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// This machine's.
    ///
    /// # Errors
    /// It is none of them.
    pub fn here() -> Result<Self> {
        let here = Self::ALL.into_iter().find(|arch| arch.rust() == ARCH);
        here.with_context(|| format!("Paramedic is built for amd64 and arm64, not for {ARCH}"))
    }

    /// Whether it is this machine's, so that its programs run here.
    #[must_use]
    pub fn is_here(self) -> bool {
        self.rust() == ARCH
    }

    /// Its name for Debian, Docker and Kubernetes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its name for Rust, the kernel and GNU.
    #[must_use]
    pub const fn rust(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// The target of rustc.
    #[must_use]
    pub fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.rust())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn an_architecture_is_named_as_on_the_command_line() {
        for arch in Arch::ALL {
            assert_eq!(arch.to_possible_value().unwrap().get_name(), arch.name());
        }
        assert!(Arch::here().unwrap().is_here());
    }
}
