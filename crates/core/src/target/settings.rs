//! How a target is to be treated: what its owner set, and the defaults for the rest.
use std::time::Duration;

use super::Rung;

/// Where an app is asked how it is, if its owner or its container's own probe says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthProbe {
    /// The port, at the target's address.
    pub port: u16,
    /// Over TLS; the certificate is not verified, as the kubelet does not.
    pub tls: bool,
    /// The path, with an optional query.
    pub path: String,
}

/// A span of time before the guard draws conclusions: what the owner set, else the agent's default
/// or what the container's own probe grants, whichever is longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// What the owner set.
    pub set: Option<Duration>,
    /// What the container's own probe grants.
    pub granted: Duration,
}

impl Allowance {
    /// The span, where the agent's own default is this one.
    #[must_use]
    pub fn or(self, default: Duration) -> Duration {
        self.set.unwrap_or_else(|| default.max(self.granted))
    }
}

/// How one target is to be treated.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The strongest remedy that its owner consents to.
    pub ceiling: Rung,
    /// Where its health is asked for; `None`: at the first of the known paths that answers.
    pub health: Option<HealthProbe>,
    /// Path of the soft remedy.
    pub heal_path: String,
    /// Least calibrated confidence to act on, 0–1.
    pub min_confidence: f32,
    /// How long it may fail to answer before that is held against it.
    pub patience: Allowance,
    /// How long a new instance may take before it answers well.
    pub warm_up: Allowance,
}

impl Settings {
    /// Path of the soft remedy, unless the owner names another.
    pub const HEAL_PATH: &str = "/heal";
    /// Least calibrated confidence to act on, unless the owner sets another.
    pub const MIN_CONFIDENCE: f32 = 0.8;

    /// The defaults below this ceiling.
    #[must_use]
    pub fn up_to(ceiling: Rung) -> Self {
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
