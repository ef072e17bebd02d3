//! The columns that weighed most in a decision, for display.
use std::{fmt, ops::Deref};

use serde::{Serialize, Serializer};

use super::Action;
use crate::features::schema::{COUNT, Feature, FeatureVector};

/// A column that favours the action.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// The column.
    #[serde(serialize_with = "name")]
    pub feature: Feature,
    /// Its value in the row, in the column's unit.
    pub value: f32,
    /// Its share in the action's score: see [`Classifier::shares`](super::Classifier::shares).
    pub share: f32,
}

fn name<S: Serializer>(feature: &Feature, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(feature.name())
}

impl fmt::Display for Reason {
    /// For example `http_5xx_ratio=0.52 (+0.31)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { feature, value, share } = self;
        let decimals = match value.abs() {
            v if v.fract() == 0.0 || v >= 1000.0 => 0,
            v if v >= 0.1 => 2,
            _ => 4,
        };
        write!(f, "{}={value:.decimals$} ({share:+.2})", feature.name())
    }
}

/// Reasons, strongest first. Dereferences to a slice; stored without an allocation.
#[derive(Clone, Copy)]
pub struct Reasons {
    all: [Reason; COUNT],
    len: usize,
}

/// The `n` columns with the largest shares in favour of the action, strongest first, or fewer if
/// fewer favour it. It never contains a column that speaks against the action nor, for a remedy,
/// one with the value of a healthy service: the forest weighs that too, but it is not a reason that
/// helps a reader.
#[must_use]
pub fn top_reasons(
    row: &FeatureVector,
    action: Action,
    shares: &[f32; COUNT],
    n: usize,
) -> Reasons {
    let counts = |feature: Feature| action == Action::NoAction || !feature.is_neutral(row[feature]);
    let mut all = Feature::ALL.map(|feature| Reason {
        feature,
        value: row[feature],
        share: if counts(feature) { shares[feature as usize] } else { 0.0 },
    });
    // Stable, so that equal shares keep the order of the schema.
    insertion_sort(&mut all);
    let speak = all.iter().take_while(|r| r.share > 0.0).count();
    Reasons { all, len: speak.min(n) }
}

/// The standard library's stable sort may allocate; for 14 reasons this is as quick.
fn insertion_sort(reasons: &mut [Reason; COUNT]) {
    for i in 1..COUNT {
        let mut at = i;
        while at > 0 && reasons[at].share > reasons[at - 1].share {
            reasons.swap(at, at - 1);
            at -= 1;
        }
    }
}

impl Deref for Reasons {
    type Target = [Reason];

    fn deref(&self) -> &[Reason] {
        &self.all[..self.len]
    }
}

impl fmt::Debug for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for Reasons {
    /// For example `http_5xx_ratio=0.52 (+0.31), http_5xx_rate=1.30 (+0.12)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{reason}")?;
        }
        Ok(())
    }
}

impl Serialize for Reasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Feature::*;

    fn example() -> (FeatureVector, [f32; COUNT]) {
        let (mut row, mut shares) = (FeatureVector::default(), [0.0; COUNT]);
        for (feature, value, share) in [
            (CpuUsage, 34.0, -0.4),
            (ErrorCount, 8.0, 0.12),
            (Http5xxRate, 1.3, 0.12),
            (Http5xxRatio, 0.52, 0.31),
            (HealthLatency, 0.004, 0.01),
        ] {
            row[feature] = value;
            shares[feature as usize] = share;
        }
        (row, shares)
    }

    #[test]
    fn the_strongest_in_favour_come_first() {
        let (row, shares) = example();
        let reasons = top_reasons(&row, Action::NoAction, &shares, 9);
        let features: Vec<_> = reasons.iter().map(|r| r.feature).collect();
        assert_eq!(features, [Http5xxRatio, ErrorCount, Http5xxRate, HealthLatency]);
        assert_eq!(top_reasons(&row, Action::NoAction, &shares, 2).len(), 2);
        assert!(top_reasons(&row, Action::NoAction, &[f32::NAN; COUNT], 3).is_empty());
        assert!(top_reasons(&row, Action::NoAction, &[0.0; COUNT], 3).is_empty());
    }

    #[test]
    fn reasons_are_readable() {
        let (row, shares) = example();
        let text = top_reasons(&row, Action::NoAction, &shares, 4).to_string();
        assert_eq!(
            text,
            "http_5xx_ratio=0.52 (+0.31), error_count=8 (+0.12), http_5xx_rate=1.30 (+0.12), \
             health_latency=0.0040 (+0.01)"
        );
    }

    #[test]
    fn reasons_become_json() {
        let (row, shares) = example();
        let json = serde_json::to_value(top_reasons(&row, Action::NoAction, &shares, 1)).unwrap();
        assert_eq!(json[0]["feature"], "http_5xx_ratio");
        assert_eq!(json.as_array().unwrap().len(), 1);
        assert!((json[0]["share"].as_f64().unwrap() - 0.31).abs() < 1e-6);
    }
}
