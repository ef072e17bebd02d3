//! Additive exponential smoothing with several seasons and a correction by the last errors.
//!
//! The equations are those of Holt and Winters without a trend (Hyndman and Athanasopoulos,
//! *Forecasting: Principles and Practice*, 3rd edition, section 8.3) in the form of error
//! correction (section 8.5), with several seasons and a correction that fades, as in J. W. Taylor,
//! "Triple seasonal methods for short-term electricity demand forecasting", *European Journal of
//! Operational Research* 204 (2010) 139–152. There is no trend: within minutes the correction
//! follows faster. With the level `l`, the season `s` (the sum of those of hour, day and week) and
//! the correction `r`:
//!
//! ```text
//! e(t)    = y(t) − l(t−1) − s(t)
//! l(t)    = l(t−1) + α e(t)
//! sᵢ(t+mᵢ) = sᵢ(t) + γᵢ e(t)
//! r(t)    = r(t−1) + ρ (y(t) − l(t−1) − w s(t) − r(t−1))
//! y(t+k)  ≈ l(t) + w s(t+k) + φᵏ r(t)
//! ```
//!
//! `w` is ours: a season of noise should move no pods. It is the share of the season's variance in
//! that of season and error of its indices together, which is that of the errors times `γ/(2−γ)`.

use std::ops::RangeInclusive;

/// How fast each part follows, 0 to 1 for each step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gains {
    /// α.
    pub(super) level: f32,
    /// ρ.
    pub(super) correction: f32,
    /// φ, what is left of the correction after a step.
    pub(super) fade: f32,
    /// That of the variances.
    pub(super) variance: f32,
    /// The γ that says how uncertain the indices are.
    pub(super) indices: f32,
}

/// One index for each part of a period.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Season {
    pub(super) indices: Vec<f32>,
    /// How many steps share an index.
    width: u32,
    /// γ for each step.
    gain: f32,
}

impl Season {
    /// A season of `indices` indices, for `width` steps each. In one period each index follows an
    /// error of all its steps by `gain`.
    pub(super) fn new(indices: usize, width: u32, gain: f32) -> Self {
        Self { indices: vec![0.0; indices], width, gain: gain / width as f32 }
    }

    fn place(&self, step: u32) -> usize {
        (step / self.width) as usize % self.indices.len()
    }

    fn at(&self, step: u32) -> f32 {
        self.indices[self.place(step)]
    }

    fn correct(&mut self, step: u32, error: f32) {
        let place = self.place(step);
        self.indices[place] += self.gain * error;
    }
}

/// The state after some steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Smoothing {
    pub(super) level: f32,
    pub(super) correction: f32,
    /// Of what is not level.
    pub(super) variance: f32,
    /// Of the errors: what is neither level nor season.
    pub(super) error_variance: f32,
    pub(super) seasons: Vec<Season>,
}

impl Smoothing {
    pub(super) const fn new(seasons: Vec<Season>) -> Self {
        Self { level: 0.0, correction: 0.0, variance: 0.0, error_variance: 0.0, seasons }
    }

    /// Takes the value of a step.
    pub(super) fn observe(&mut self, step: u32, value: f32, gains: &Gains) {
        let (deviation, season) = (value - self.level, self.season(step));
        let error = deviation - season;
        let left = deviation - self.weight(gains) * season;
        let follow = |of: &mut f32, to: f32, gain: f32| *of += gain * (to - *of);
        follow(&mut self.variance, deviation * deviation, gains.variance);
        follow(&mut self.error_variance, error * error, gains.variance);
        follow(&mut self.correction, left, gains.correction);
        self.level += gains.level * error;
        for season in &mut self.seasons {
            season.correct(step, error);
        }
    }

    /// Lets the correction fade over steps without a value.
    pub(super) fn skip(&mut self, steps: u32, gains: &Gains) {
        self.correction *= gains.fade.powf(steps as f32);
    }

    /// The largest value expected in `steps`, when that of the step `last` was taken last.
    pub(super) fn most(&self, last: u32, steps: RangeInclusive<u32>, gains: &Gains) -> f32 {
        let weight = self.weight(gains);
        let values = steps.map(|step| {
            let correction = self.correction * gains.fade.powf(step.saturating_sub(last) as f32);
            self.level + weight * self.season(step) + correction
        });
        values.fold(f32::NEG_INFINITY, f32::max)
    }

    fn season(&self, step: u32) -> f32 {
        self.seasons.iter().map(|season| season.at(step)).sum()
    }

    /// `w`.
    fn weight(&self, gains: &Gains) -> f32 {
        let season = (self.variance - self.error_variance).max(0.0);
        let uncertain = self.error_variance * gains.indices / (2.0 - gains.indices);
        if season > 0.0 { season / (season + uncertain) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAINS: Gains =
        Gains { level: 0.5, correction: 0.5, fade: 0.5, variance: 0.1, indices: 0.2 };

    /// Section 8.3 of the book, in its own form: `l = α(y − s) + (1 − α) l` and
    /// `s = γ(y − l) + (1 − γ) s`, four quarters, α = 0.25, γ = 0.5, from l = 10 and no season.
    ///
    /// | t | y | s before | l after | s after |
    /// |---|---|---|---|---|
    /// | 0 | 14 | 0 | 0.25·14 + 0.75·10 = 11 | 0.5·(14 − 10) = 2 |
    /// | 1 | 7 | 0 | 0.25·7 + 0.75·11 = 10 | 0.5·(7 − 11) = −2 |
    /// | 2 | 10 | 0 | 10 | 0 |
    /// | 3 | 6 | 0 | 0.25·6 + 0.75·10 = 9 | 0.5·(6 − 10) = −2 |
    /// | 4 | 15 | 2 | 0.25·13 + 0.75·9 = 10 | 0.5·(15 − 9) + 0.5·2 = 4 |
    /// | 5 | 8 | −2 | 0.25·10 + 0.75·10 = 10 | 0.5·(8 − 10) + 0.5·(−2) = −2 |
    #[test]
    fn it_equals_the_published_form_by_hand() {
        let gains = Gains { level: 0.25, correction: 0.0, ..GAINS };
        let mut smoothing = Smoothing::new(vec![Season::new(4, 1, 0.5)]);
        smoothing.level = 10.0;
        let table = [
            (14.0, 11.0, 2.0),
            (7.0, 10.0, -2.0),
            (10.0, 10.0, 0.0),
            (6.0, 9.0, -2.0),
            (15.0, 10.0, 4.0),
            (8.0, 10.0, -2.0),
        ];
        for (step, (value, level, index)) in (0..).zip(table) {
            smoothing.observe(step, value, &gains);
            assert_eq!((smoothing.level, smoothing.season(step)), (level, index), "step {step}");
        }
        assert_eq!(smoothing.seasons[0].indices, [4.0, -2.0, 0.0, -2.0]);
    }

    #[test]
    fn steps_share_an_index_and_follow_together() {
        let mut season = Season::new(3, 10, 0.5);
        for step in 10..20 {
            season.correct(step, 2.0);
        }
        for (expected, found) in [0.0, 1.0, 0.0].iter().zip(&season.indices) {
            assert!((expected - found).abs() < 1e-6, "{:?}", season.indices);
        }
        assert_eq!(season.at(40), season.indices[1]);
    }

    #[test]
    fn the_correction_fades() {
        let mut smoothing = Smoothing::new(Vec::new());
        (smoothing.level, smoothing.correction) = (10.0, 8.0);
        assert_eq!(smoothing.most(0, 1..=1, &GAINS), 14.0);
        assert_eq!(smoothing.most(0, 2..=9, &GAINS), 12.0);
        smoothing.skip(2, &GAINS);
        assert_eq!(smoothing.correction, 2.0);
        smoothing.correction = -8.0;
        assert_eq!(smoothing.most(0, 1..=3, &GAINS), 9.0);
    }

    /// The variance of the season is 3, that of the errors 1 or 9, of which the indices have a ninth.
    #[test]
    fn a_season_counts_by_its_share() {
        let mut smoothing = Smoothing::new(vec![Season::new(1, 1, 0.2)]);
        smoothing.seasons[0].indices[0] = 1.0;
        for (variance, errors, expected) in
            [(4.0, 1.0, 27.0 / 28.0), (12.0, 9.0, 0.75), (9.0, 9.0, 0.0), (8.0, 9.0, 0.0)]
        {
            (smoothing.variance, smoothing.error_variance) = (variance, errors);
            let found = smoothing.most(0, 1..=1, &GAINS);
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }
}
