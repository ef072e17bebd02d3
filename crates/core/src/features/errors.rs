//! [`Rise`]: the rate of an error count that an app reports.
//!
//! An app counts its errors since its start, or since its last reset: the total says nothing about
//! now. What matters is how much it rose within the last minute, from the agent's first sample on.
use std::time::Duration;

use crate::boot_time::BootTime;

/// The rise is measured over the last minute, because the decision surface is in errors per minute.
pub(super) const SPAN: Duration = Duration::from_secs(60);
/// Minimum time between two stored counts.
const STEP: Duration = Duration::from_secs(5);
/// Maximum number of stored counts: those of one minute.
const KEPT: usize = 13;

/// The counts of the last minute, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rise {
    counts: [(BootTime, u32); KEPT],
    len: usize,
    last: u32,
}

impl Default for Rise {
    fn default() -> Self {
        Self { counts: [(BootTime::from_nanos(0), 0); KEPT], len: 0, last: 0 }
    }
}

impl Rise {
    /// Adds a count; returns whether it rose. The first one is the base.
    pub(super) fn push(&mut self, at: BootTime, count: u32) -> bool {
        let rose = self.len > 0 && count > self.last;
        if count < self.last {
            // The app reset its count: earlier counts no longer matter.
            self.len = 0;
        }
        self.last = count;
        let due = self.len == 0 || at.since(self.counts[self.len - 1].0) >= STEP;
        if due {
            if self.len == KEPT {
                self.forget_oldest();
            }
            self.counts[self.len] = (at, count);
            self.len += 1;
        }
        // Never more than a minute: one error in six seconds is ten a minute and not eleven.
        while self.len > 1 && at.since(self.counts[0].0) > SPAN {
            self.forget_oldest();
        }
        rose
    }

    /// Makes the current count the base: after a remedy.
    pub(super) fn restart(&mut self, at: BootTime) {
        if self.len > 0 {
            self.counts[0] = (at, self.last);
            self.len = 1;
        }
    }

    /// The rise of the count within the last minute.
    pub(super) fn within_a_minute(&self) -> u32 {
        if self.len == 0 { 0 } else { self.last.saturating_sub(self.counts[0].1) }
    }

    fn forget_oldest(&mut self) {
        self.counts.copy_within(1..self.len, 0);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from(Duration::from_secs(seconds))
    }

    #[test]
    fn a_constant_count_is_no_rise() {
        let mut rise = Rise::default();
        assert!(!rise.push(at(10), 1200));
        assert!(!rise.push(at(12), 1200));
        assert_eq!(rise.within_a_minute(), 0);
    }

    #[test]
    fn one_error_in_six_seconds_is_about_ten_a_minute() {
        let mut rise = Rise::default();
        for second in 0..600_u32 {
            rise.push(at(second.into()), 1200 + second / 6);
            assert!(rise.within_a_minute() <= 10, "{second} s: {}", rise.within_a_minute());
        }
        assert!(rise.within_a_minute() >= 9);
    }

    #[test]
    fn a_burst_counts_for_a_minute() {
        let mut rise = Rise::default();
        rise.push(at(0), 3);
        assert!(rise.push(at(2), 18));
        assert_eq!(rise.within_a_minute(), 15);
        for second in 3..=60 {
            rise.push(at(second), 18);
        }
        assert_eq!(rise.within_a_minute(), 15);
        for second in 61..=62 {
            rise.push(at(second), 18);
        }
        assert_eq!(rise.within_a_minute(), 0);
    }

    #[test]
    fn a_count_that_was_reset_begins_again() {
        let mut rise = Rise::default();
        rise.push(at(0), 0);
        rise.push(at(1), 20);
        assert!(!rise.push(at(2), 0));
        assert_eq!(rise.within_a_minute(), 0);
        assert!(rise.push(at(3), 4));
        assert_eq!(rise.within_a_minute(), 4);
    }

    #[test]
    fn after_a_remedy_only_new_errors_count() {
        let mut rise = Rise::default();
        rise.restart(at(0));
        rise.push(at(0), 2);
        rise.push(at(1), 20);
        rise.restart(at(1));
        assert_eq!(rise.within_a_minute(), 0);
        rise.push(at(2), 23);
        assert_eq!(rise.within_a_minute(), 3);
    }
}
