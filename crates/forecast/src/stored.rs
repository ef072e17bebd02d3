//! A [`Load`] as bytes: what survives a restart.
//!
//! Little-endian numbers of 32 bits: the last minute, the number of minutes, level, correction, two
//! variances, then the indices of hour, day and week.
use super::{
    load::{Load, MOST, Minute, seasons},
    smoothing::Smoothing,
};

const NUMBERS: usize = 2 + 4 + 60 + 1440 + 1008;
/// The length of a stored load.
pub const STORED_BYTES: usize = 4 * NUMBERS;

/// Why bytes are no load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another length.
    #[error("{0} bytes, not {STORED_BYTES}")]
    Length(usize),
    /// A number that no load has.
    #[error("an implausible number at byte {0}")]
    Number(usize),
    /// It was measured in the future.
    #[error("it ends {0} minutes after now")]
    Future(u32),
}

impl Load {
    /// As bytes, [`STORED_BYTES`] of them. What no rate can lead to is written as the next that one can.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Smoothing { level, correction, variance, error_variance, seasons } = &self.smoothing;
        let counts = [self.last, self.measured].map(u32::to_le_bytes);
        let roots = |number: &f32| number.clamp(-MOST, MOST);
        let squares = |number: &f32| number.clamp(0.0, MOST * MOST);
        let state = [roots(level), roots(correction), squares(variance), squares(error_variance)];
        let indices = seasons.iter().flat_map(|season| &season.indices).map(roots);
        let numbers = state.into_iter().chain(indices).map(f32::to_le_bytes);
        counts.into_iter().chain(numbers).flatten().collect()
    }

    /// Reads what [`Load::to_bytes`] wrote.
    ///
    /// # Errors
    /// If no load that was measured until `now` is written like this.
    pub fn from_bytes(bytes: &[u8], now: Minute) -> Result<Self, Malformed> {
        let (words, rest) = bytes.as_chunks::<4>();
        if words.len() != NUMBERS || !rest.is_empty() {
            return Err(Malformed::Length(bytes.len()));
        }
        let count = |at: usize| u32::from_le_bytes(words[at]);
        let (last, measured) = (count(0), count(1));
        if last > now {
            return Err(Malformed::Future(last - now));
        }
        if measured > last {
            return Err(Malformed::Number(4));
        }
        let number = |at: usize, range: std::ops::RangeInclusive<f32>| {
            let number = f32::from_le_bytes(words[at]);
            // This form also refuses NaN.
            if range.contains(&number) { Ok(number) } else { Err(Malformed::Number(4 * at)) }
        };
        let mut smoothing = Smoothing::new(seasons());
        smoothing.level = number(2, -MOST..=MOST)?;
        smoothing.correction = number(3, -MOST..=MOST)?;
        smoothing.variance = number(4, 0.0..=MOST * MOST)?;
        smoothing.error_variance = number(5, 0.0..=MOST * MOST)?;
        let indices = smoothing.seasons.iter_mut().flat_map(|season| &mut season.indices);
        for (at, index) in (6..).zip(indices) {
            *index = number(at, -MOST..=MOST)?;
        }
        Ok(Self { last, measured, smoothing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Minute = 30_000_000;

    fn load() -> Load {
        let (mut load, mut random) = (Load::default(), fastrand::Rng::with_seed(3));
        for minute in NOW - 3000..=NOW {
            load.observe(minute, random.f32() * 100.0);
        }
        load
    }

    #[test]
    fn a_stored_load_is_the_same() {
        let load = load();
        let bytes = load.to_bytes();
        assert_eq!(bytes.len(), STORED_BYTES);
        assert_eq!(Load::from_bytes(&bytes, NOW), Ok(load.clone()));
        assert_eq!(Load::from_bytes(&bytes, NOW - 2), Err(Malformed::Future(2)));
        let again = Load::from_bytes(&bytes, NOW + 9).unwrap();
        assert_eq!(again.expect(NOW + 9, 3, 0.0), load.expect(NOW + 9, 3, 0.0));
    }

    #[test]
    fn implausible_bytes_are_refused() {
        let bytes = load().to_bytes();
        for length in [0, STORED_BYTES - 1, STORED_BYTES - 4] {
            assert_eq!(Load::from_bytes(&bytes[..length], NOW), Err(Malformed::Length(length)));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Load::from_bytes(&longer, NOW), Err(Malformed::Length(STORED_BYTES + 1)));
        for (at, number) in [
            (2, f32::NAN),
            (2, -4e5),
            (3, f32::INFINITY),
            (4, -1e-9),
            (5, f32::NAN),
            (6, 4e5),
            (NUMBERS - 1, f32::NEG_INFINITY),
        ] {
            let mut bytes = bytes.clone();
            bytes[4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
            assert_eq!(Load::from_bytes(&bytes, NOW), Err(Malformed::Number(4 * at)), "{number}");
        }
        let mut bytes = bytes;
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Load::from_bytes(&bytes, NOW), Err(Malformed::Number(4)));
    }

    /// The level falls below zero where a day had peaks that stay away.
    #[test]
    fn what_was_learned_can_always_be_stored() {
        let mut load = Load::default();
        for day in 0..5 {
            for minute in 0..1440 {
                let rate = if day < 2 && minute > 720 { 1e4 } else { 0.0 };
                load.observe(NOW + 1440 * day + minute, rate);
            }
            assert_eq!(Load::from_bytes(&load.to_bytes(), u32::MAX).as_ref(), Ok(&load), "{day}");
        }
        assert!(load.smoothing.level < 0.0, "{}", load.smoothing.level);
        for minute in 1..100 {
            load.observe(NOW + 10_000 + minute, f32::MAX);
        }
        assert_eq!(Load::from_bytes(&load.to_bytes(), u32::MAX), Ok(load));
    }

    /// Whatever bytes are accepted, what is expected is finite.
    #[test]
    fn extreme_loads_have_finite_expectations() {
        for number in [-MOST, 0.0, MOST] {
            let mut bytes = [NOW, 5000].map(u32::to_le_bytes).concat();
            for at in 2..NUMBERS {
                let number = if (4..6).contains(&at) { number.abs() } else { number };
                bytes.extend(number.to_le_bytes());
            }
            let mut load = Load::from_bytes(&bytes, NOW).unwrap();
            for minute in NOW..NOW + 10 {
                let expected = load.expect(minute, 3, 0.0).unwrap();
                assert!(expected.is_finite(), "{expected}");
                load.observe(minute + 1, 1e9);
            }
        }
    }
}
