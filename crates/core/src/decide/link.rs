//! How sums of leaves become scores: the `post_transform` of an ensemble.
//!
//! A random forest sums probabilities. Boosted trees sum margins, which may be negative and have no
//! bound; softmax or a sigmoid per class turns them into probabilities. Computed in `f64`, because
//! the libraries disagree in the last digits of their `f32`.

/// What the file does to the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing.
    None,
    /// Boosted trees of one model of all classes.
    Softmax,
    /// A model per class, each against the others. [`normalise`](super::calibrate::normalise) scales
    /// the scores to a sum of 1.
    Logistic,
}

impl Link {
    /// By its name in the file.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"NONE" => Some(Self::None),
            b"SOFTMAX" => Some(Self::Softmax),
            b"LOGISTIC" => Some(Self::Logistic),
            _ => None,
        }
    }

    /// Scores from finite sums.
    pub(super) fn apply(self, sums: [f64; 3]) -> [f64; 3] {
        match self {
            Self::None => sums,
            Self::Softmax => softmax(sums),
            Self::Logistic => sums.map(|sum| 1.0 / (1.0 + (-sum).exp())),
        }
    }
}

/// The largest sum is subtracted first: no power is above 1, and one is 1.
fn softmax(sums: [f64; 3]) -> [f64; 3] {
    let most = sums.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let powers = sums.map(|sum| (sum - most).exp());
    let total: f64 = powers.iter().sum();
    powers.map(|power| power / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: [f64; 3], expected: [f64; 3]) {
        let close = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12);
        assert!(close, "{found:?} {expected:?}");
    }

    #[test]
    fn softmax_depends_on_differences_alone() {
        // By hand: e^0, e^ln2 and e^ln5 are 1, 2 and 5.
        let margins = [0.0, 2f64.ln(), 5f64.ln()];
        assert_close(Link::Softmax.apply(margins), [0.125, 0.25, 0.625]);
        assert_close(Link::Softmax.apply(margins.map(|m| m - 7.0)), [0.125, 0.25, 0.625]);
    }

    #[test]
    fn logistic_is_a_sigmoid_per_class() {
        let margins = [0.0, 3f64.ln(), -(3f64.ln())];
        assert_close(Link::Logistic.apply(margins), [0.5, 0.75, 0.25]);
    }

    #[test]
    fn sums_beyond_any_power_end_in_probabilities() {
        for link in [Link::Softmax, Link::Logistic] {
            for (sums, expected) in
                [([1e36, -1e36, -1e36], [1.0, 0.0, 0.0]), ([-1e36, 800.0, -800.0], [0.0, 1.0, 0.0])]
            {
                assert_close(link.apply(sums), expected);
            }
        }
        assert_close(Link::Softmax.apply([-1e36; 3]), [1.0 / 3.0; 3]);
    }

    #[test]
    fn the_other_transforms_of_onnx_are_unknown() {
        for name in [&b"SOFTMAX_ZERO"[..], b"PROBIT", b"softmax", b""] {
            assert_eq!(Link::named(name), None);
        }
    }
}
