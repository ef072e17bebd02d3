//! Calibrates confidence.
//!
//! A forest that averages its trees is under-confident about actions: at 0.75 it is right 85 times
//! in 100. A fixed gate on such a number would refuse what it should permit. So each class's score
//! passes a sigmoid that was fitted on held-out rows and that the model carries in its metadata.
use serde::Deserialize;

/// Per class `k`: `p_k = 1 / (1 + exp(a_k · score_k + b_k))`, then normalised to a sum of 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calibration {
    a: [f64; 3],
    b: [f64; 3],
}

impl Calibration {
    /// Whether all six coefficients are numbers.
    pub(super) fn is_finite(&self) -> bool {
        self.a.iter().chain(&self.b).all(|c| c.is_finite())
    }

    /// Probabilities from raw class scores.
    pub(super) fn apply(&self, scores: &[f64; 3]) -> [f32; 3] {
        let mut p = [0.0; 3];
        for (k, p) in p.iter_mut().enumerate() {
            *p = 1.0 / (1.0 + (self.a[k] * scores[k] + self.b[k]).exp());
        }
        normalise(p)
    }
}

/// Scales to a sum of 1. If that is impossible (no class has any probability, or one is not a
/// number) all classes are equally likely, a confidence that no gate permits.
pub(super) fn normalise(p: [f64; 3]) -> [f32; 3] {
    let p = p.map(|p| p.max(0.0));
    let sum: f64 = p.iter().sum();
    if sum > 0.0 && sum.is_finite() { p.map(|p| (p / sum) as f32) } else { [1.0 / 3.0; 3] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applies_one_sigmoid_per_class_and_normalises() {
        let calibration = Calibration { a: [-4.0, -6.0, -5.0], b: [2.0, 2.5, 2.0] };
        // By hand: 1/(1+e^(2-4*.7)), 1/(1+e^(2.5-6*.2)), 1/(1+e^(2-5*.1)).
        let sigmoids = [0.689_974_5, 0.214_165_02, 0.182_425_52];
        let sum: f64 = sigmoids.iter().sum();
        for (p, expected) in calibration.apply(&[0.7, 0.2, 0.1]).iter().zip(sigmoids) {
            assert!((f64::from(*p) - expected / sum).abs() < 1e-6, "{p}");
        }
    }

    #[test]
    fn degenerate_scores_end_in_no_preference() {
        let crushing = Calibration { a: [0.0; 3], b: [1e9; 3] };
        assert_eq!(crushing.apply(&[1.0, 0.0, 0.0]), [1.0 / 3.0; 3]);
        assert_eq!(normalise([0.0; 3]), [1.0 / 3.0; 3]);
        assert_eq!(normalise([-1.0, -2.0, 0.0]), [1.0 / 3.0; 3]);
        assert_eq!(normalise([f64::INFINITY, 0.0, 0.0]), [1.0 / 3.0; 3]);
        assert_eq!(normalise([f64::NAN; 3]), [1.0 / 3.0; 3]);
        assert_eq!(normalise([f64::MAX; 3]), [1.0 / 3.0; 3]);
    }

    #[test]
    fn a_negative_score_counts_as_none() {
        assert_eq!(normalise([3.0, 1.0, -2.0]), [0.75, 0.25, 0.0]);
    }
}
