//! The load of one workload.
use super::smoothing::{Gains, Season, Smoothing};

/// Minutes since the Unix epoch.
pub type Minute = u32;

/// Minutes that must have been measured: two days, as the day is the season of most loads.
const LEARNING: u32 = 2 * 24 * 60;
/// Minutes without a measurement after which nothing is expected.
const BEHIND: u32 = 10;

/// These were chosen on five of the traces of the bench, and hardly matter: half or twice as much
/// changes its results by a few per cent.
const GAINS: Gains = Gains {
    level: 0.002,
    correction: 0.7,
    fade: 0.9,
    // Over about two days.
    variance: 1.0 / 2880.0,
    indices: DAY,
};
/// The largest square root of a rate: ten times that of the most that one agent may report for a pod.
pub(super) const MOST: f32 = 3e5;
const HOUR: f32 = 0.02;
const DAY: f32 = 0.2;
const WEEK: f32 = 0.1;

/// What is known of a workload's load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The last measured minute.
    pub(super) last: Minute,
    /// How many minutes were measured.
    pub(super) measured: u32,
    /// In square roots of requests per second: the noise of counts is then the same at every rate.
    pub(super) smoothing: Smoothing,
}

/// Why nothing is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Too little was measured.
    #[error(
        "its day is not known yet: {measured} of {LEARNING} minutes have been measured; wait for \
         the rest"
    )]
    Learning {
        /// The minutes that were measured.
        measured: u32,
    },
    /// Nothing was measured lately.
    #[error("nothing has been measured for {minutes} minutes")]
    Behind {
        /// For how long.
        minutes: u32,
    },
}

impl Default for Load {
    fn default() -> Self {
        Self { last: 0, measured: 0, smoothing: Smoothing::new(seasons()) }
    }
}

/// Hour, day and week. The indices of a week are for ten minutes each.
pub(super) fn seasons() -> Vec<Season> {
    vec![Season::new(60, 1, HOUR), Season::new(1440, 1, DAY), Season::new(1008, 10, WEEK)]
}

impl Load {
    /// Takes the mean rate of a minute, in requests per second. Ignores a minute that is not after
    /// the last one, and what is no rate.
    pub fn observe(&mut self, minute: Minute, rate: f32) {
        if minute <= self.last || !rate.is_finite() || rate < 0.0 {
            return;
        }
        let value = rate.sqrt().min(MOST);
        if self.measured == 0 {
            self.smoothing.level = value;
        } else {
            self.smoothing.skip(minute - self.last - 1, &GAINS);
        }
        self.smoothing.observe(minute, value, &GAINS);
        self.last = minute;
        self.measured = self.measured.saturating_add(1);
    }

    /// The most requests per second that are expected from `now` until `horizon` minutes later,
    /// never below the `present` rate.
    ///
    /// # Errors
    /// If too little is known for that.
    pub fn expect(&self, now: Minute, horizon: u32, present: f32) -> Result<f32, Unknown> {
        if self.measured < LEARNING {
            return Err(Unknown::Learning { measured: self.measured });
        }
        let minutes = now.saturating_sub(self.last);
        if minutes > BEHIND {
            return Err(Unknown::Behind { minutes });
        }
        let steps = now.max(self.last)..=now.saturating_add(horizon);
        let root = self.smoothing.most(self.last, steps, &GAINS).max(0.0);
        Ok((root * root).max(present))
    }

    /// The last measured minute.
    #[must_use]
    pub const fn last(&self) -> Minute {
        self.last
    }

    /// How many minutes were measured.
    #[must_use]
    pub const fn measured(&self) -> u32 {
        self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day with a peak of two minutes at 12:00, and a little every ten minutes.
    fn rate(minute: Minute) -> f32 {
        match minute % 1440 {
            720 | 721 => 400.0,
            minute if minute % 10 == 0 => 16.0,
            _ => 9.0,
        }
    }

    fn after_days(days: u32) -> Load {
        let mut load = Load::default();
        for minute in 1440..1440 * (1 + days) {
            load.observe(minute, rate(minute));
        }
        load
    }

    #[test]
    fn a_peak_of_every_day_is_expected_before_it_comes() {
        let load = after_days(10);
        let noon = 1440 * 11 + 720;
        let mut load = load;
        for minute in 1440 * 11..noon {
            let expected = load.expect(minute, 3, 9.0).unwrap();
            let in_time = minute + 3 >= noon;
            assert_eq!(expected > 200.0, in_time, "{expected} at {minute}, before {noon}");
            load.observe(minute, rate(minute));
        }
        assert!(load.expect(noon + 10, 3, 9.0).unwrap_err().to_string().contains("11 minutes"));
    }

    #[test]
    fn it_is_never_below_the_present() {
        let load = after_days(3);
        assert_eq!(load.expect(load.last(), 3, 1e6).unwrap(), 1e6);
        assert!(load.expect(load.last(), 3, 0.0).unwrap() > 5.0);
    }

    #[test]
    fn nothing_is_expected_before_two_days_were_measured() {
        let mut load = after_days(2);
        assert!(load.expect(load.last(), 3, 1.0).is_ok());
        load.measured -= 1;
        let why = load.expect(load.last(), 3, 1.0).unwrap_err();
        assert_eq!(why, Unknown::Learning { measured: 2879 });
        assert!(why.to_string().contains("2879 of 2880 minutes"), "{why}");
    }

    #[test]
    fn a_gap_ends_what_is_expected_and_keeps_what_is_known() {
        let mut load = after_days(5);
        let later = load.last() + 1440;
        let why = load.expect(later, 3, 1.0).unwrap_err();
        assert_eq!(why, Unknown::Behind { minutes: 1440 });
        load.observe(later, 9.0);
        let expected = load.expect(later, 3, 9.0).unwrap();
        assert!((9.0..20.0).contains(&expected), "{expected}");
    }

    #[test]
    fn what_is_no_rate_of_a_new_minute_is_ignored() {
        let mut load = after_days(2);
        let before = load.clone();
        for rate in [f32::NAN, f32::INFINITY, -1.0] {
            load.observe(load.last() + 1, rate);
        }
        load.observe(load.last(), 1e9);
        load.observe(0, 1e9);
        assert_eq!(load, before);
    }

    /// Loads of every size, with gaps, up to the largest rate that an agent may report.
    #[test]
    fn every_load_has_a_finite_expectation() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..20 {
            let (mut load, most) = (Load::default(), 10_f32.powi(random.i32(0..10)));
            let mut minute = random.u32(1..u32::MAX / 2);
            for _ in 0..LEARNING {
                minute += 1 + random.u32(0..20) / 19 * random.u32(0..3000);
                load.observe(minute, random.f32() * most);
            }
            let expected = load.expect(minute, 3, 0.0).unwrap();
            assert!((0.0..=2.0 * most).contains(&expected), "{expected} of {most}");
        }
        assert!(Load { last: u32::MAX, ..after_days(2) }.expect(u32::MAX, 3, 1.0).is_ok());
    }
}
