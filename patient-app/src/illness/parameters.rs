//! Parameters of the illnesses. The types contain the bounds, so that a value out of bounds cannot
//! exist, and the message names the bound.
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A share, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Ratio(f64);

impl Ratio {
    pub(crate) const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Ratio {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        // No range contains NaN.
        let valid = (0.0..=1.0).contains(&share);
        valid.then_some(Self(share)).ok_or_else(|| format!("{share} is not from 0 to 1"))
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<f64>().map_err(|e| e.to_string())?.try_into()
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct Bounded<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> TryFrom<u64> for Bounded<MIN, MAX> {
    type Error = String;

    fn try_from(n: u64) -> Result<Self, String> {
        let valid = (MIN..=MAX).contains(&n);
        valid.then_some(Self(n)).ok_or_else(|| format!("{n} is not from {MIN} to {MAX}"))
    }
}

/// What ends an illness besides its DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClearedBy {
    /// `POST /heal`.
    ResetErrors,
    /// Only a new process: `POST /heal` reports success, and changes nothing.
    Restart,
}

/// What `/health` reports under the illness `lie`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Disguise {
    /// All values good.
    Healthy,
    /// All values bad.
    Critical,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Errors {
    pub(crate) ratio: Ratio,
    pub(crate) cleared_by: ClearedBy,
    /// If not 0, the illness is active and inactive in turns of this length.
    pub(crate) spell_ms: Bounded<0, 600_000>,
}

impl Default for Errors {
    fn default() -> Self {
        let cleared_by = ClearedBy::ResetErrors;
        Self { ratio: Ratio(0.5), cleared_by, spell_ms: Bounded(0) }
    }
}

impl Errors {
    /// Whether the errors are active now, this long after the app's start: on, off, on, in turns.
    pub(crate) const fn are_there(self, uptime: Duration) -> bool {
        let spell = self.spell_ms.get() as u128;
        spell == 0 || (uptime.as_millis() / spell).is_multiple_of(2)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Stuck {
    /// Whether `/healthz` hangs as well.
    pub(crate) healthz: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Hang {
    pub(crate) ratio: Ratio,
    pub(crate) cleared_by: ClearedBy,
}

impl Default for Hang {
    fn default() -> Self {
        Self { ratio: Ratio(0.5), cleared_by: ClearedBy::Restart }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Leak {
    pub(crate) mib_per_second: Bounded<1, 4096>,
    pub(crate) max_mib: Bounded<1, 1_048_576>,
}

impl Default for Leak {
    fn default() -> Self {
        Self { mib_per_second: Bounded(16), max_mib: Bounded(256) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Burn {
    pub(crate) threads: Bounded<1, 256>,
    pub(crate) percent: Bounded<1, 100>,
    pub(crate) cleared_by: ClearedBy,
}

impl Default for Burn {
    fn default() -> Self {
        Self { threads: Bounded(2), percent: Bounded(100), cleared_by: ClearedBy::Restart }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Slow {
    pub(crate) milliseconds: Bounded<1, 600_000>,
    pub(crate) health: bool,
    pub(crate) cleared_by: ClearedBy,
}

impl Default for Slow {
    fn default() -> Self {
        Self { milliseconds: Bounded(500), health: true, cleared_by: ClearedBy::Restart }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Resets {
    pub(crate) ratio: Ratio,
}

impl Default for Resets {
    fn default() -> Self {
        Self { ratio: Ratio(1.0) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lie {
    #[serde(rename = "as")]
    pub(crate) disguise: Disguise,
}

impl Default for Lie {
    fn default() -> Self {
        Self { disguise: Disguise::Healthy }
    }
}
