//! Repeatable random numbers: SplitMix64 (Steele, Lea and Flood, 2014), whose whole state is one
//! counter and so needs no lock. Not for secrets.
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::illness::Ratio;

/// The golden ratio in 64 bits: SplitMix64's increment.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of random numbers.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    /// Repeatable with a seed; different in each run without one.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(AtomicU64::new(
            seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id())),
        ))
    }

    /// True with this probability: never at 0, always at 1.
    pub(crate) fn happens(&self, ratio: Ratio) -> bool {
        // An f64 holds 53 bits exactly: uniform over [0, 1).
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < ratio.get()
    }

    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(text: &str) -> Ratio {
        text.parse().unwrap()
    }

    #[test]
    fn the_reference_sequence_is_reproduced() {
        let dice = Dice::new(Some(1_234_567));
        let drawn = [dice.next(), dice.next(), dice.next()];
        assert_eq!(
            drawn,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_ratio_of_0_never_and_of_1_always_happens() {
        let dice = Dice::new(None);
        assert!((0..1000).all(|_| !dice.happens(ratio("0"))));
        assert!((0..1000).all(|_| dice.happens(ratio("1"))));
    }

    #[test]
    fn one_in_five_is_about_one_in_five() {
        let dice = Dice::new(Some(7));
        let hits = (0..10_000).filter(|_| dice.happens(ratio("0.2"))).count();
        assert!((1_900..2_100).contains(&hits), "{hits} of 10000");
    }
}
