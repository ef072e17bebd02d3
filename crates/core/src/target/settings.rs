//! Settings of a target: the owner's, with defaults for the rest.
use std::time::Duration;

use super::Remedy;

/// The health endpoint, if the owner or the container's own probe names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthProbe {
    /// The port, at the target's address.
    pub port: u16,
    /// Whether to use TLS; like the kubelet, the agent does not verify the certificate.
    pub tls: bool,
    /// The path, with an optional query.
    pub path: String,
}

/// A time limit of the guard: the owner's setting; else the longer of the agent's default and what
/// the container's own probe grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// The owner's setting.
    pub set: Option<Duration>,
    /// What the container's own probe grants.
    pub granted: Duration,
}

impl Allowance {
    /// The limit, with this default of the agent.
    #[must_use]
    pub fn or(self, default: Duration) -> Duration {
        self.set.unwrap_or_else(|| default.max(self.granted))
    }
}

/// Settings of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The strongest remedy that its owner consents to.
    pub ceiling: Remedy,
    /// The health endpoint; `None`: the first of the known paths that answers.
    pub health: Option<HealthProbe>,
    /// Path of the soft remedy.
    pub heal_path: String,
    /// Minimum calibrated confidence for a remedy, 0–1.
    pub min_confidence: f32,
    /// How long it may fail to answer before that counts.
    pub patience: Allowance,
    /// How long a new instance may take before it answers well.
    pub warm_up: Allowance,
}

impl Settings {
    /// Default path of the soft remedy.
    pub const HEAL_PATH: &str = "/heal";
    /// Default of the minimum calibrated confidence.
    pub const MIN_CONFIDENCE: f32 = 0.8;

    /// The default settings with this ceiling.
    #[must_use]
    pub fn up_to(ceiling: Remedy) -> Self {
        Self {
            ceiling,
            health: None,
            heal_path: Self::HEAL_PATH.to_owned(),
            min_confidence: Self::MIN_CONFIDENCE,
            patience: Allowance::default(),
            warm_up: Allowance::default(),
        }
    }
}
