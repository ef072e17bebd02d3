//! How long responses take: percentiles of the kernel's histogram over the last seconds.
use std::time::Duration;

use agent_common::{BUCKETS, Latencies};
use paramedic_protocol::latency::upper_bound;

use super::window::SPAN;
use crate::boot_time::BootTime;

/// The histogram at two earlier instants and now; the difference spans one to two windows.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    base: Snapshot,
    next: Snapshot,
    last: Option<Snapshot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Snapshot {
    at: BootTime,
    counts: Latencies,
}

impl Durations {
    /// Takes the histogram as it was read now.
    pub(super) fn push(&mut self, at: BootTime, counts: Latencies) {
        let now = Snapshot { at, counts };
        if self.last.is_none() {
            (self.base, self.next) = (now, now);
        } else if at.since(self.next.at) >= SPAN {
            (self.base, self.next) = (self.next, now);
        }
        self.last = Some(now);
    }

    /// The time within which this share of the responses came; `None` without responses.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let last = self.last?;
        let counts: [u64; BUCKETS] = std::array::from_fn(|bucket| {
            last.counts.buckets[bucket].saturating_sub(self.base.counts.buckets[bucket])
        });
        let all: u64 = counts.iter().sum();
        let wanted = (all as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let (mut below, mut lower) = (0, 0);
        for (bucket, count) in counts.into_iter().enumerate() {
            // The last bucket has no end: its begin is what is known.
            let upper = upper_bound(bucket).unwrap_or(lower);
            if count > 0 && below + count >= wanted {
                let within = (wanted - below) as f64 / count as f64;
                let nanoseconds = lower as f64 + (upper - lower) as f64 * within;
                return Some(Duration::from_nanos(nanoseconds as u64));
            }
            below += count;
            lower = upper;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    /// A histogram with these counts in these buckets.
    fn counted(counts: &[(usize, u64)]) -> Latencies {
        let mut latencies = Latencies::default();
        for (bucket, count) in counts {
            latencies.buckets[*bucket] = *count;
        }
        latencies
    }

    #[test]
    fn percentiles_are_within_the_bucket_of_the_response() {
        let mut durations = Durations::default();
        durations.push(at(0), counted(&[(3, 100)]));
        assert_eq!(durations.percentile(0.5), None, "earlier responses do not count");
        durations.push(at(5), counted(&[(3, 190), (9, 10)]));
        let median = durations.percentile(0.5).unwrap().as_nanos() as u64;
        assert!((upper_bound(2).unwrap()..=upper_bound(3).unwrap()).contains(&median), "{median}");
        let slow = durations.percentile(0.95).unwrap().as_nanos() as u64;
        assert!((upper_bound(8).unwrap()..=upper_bound(9).unwrap()).contains(&slow), "{slow}");
    }

    #[test]
    fn responses_older_than_two_windows_are_forgotten() {
        let mut durations = Durations::default();
        durations.push(at(0), counted(&[]));
        durations.push(at(2), counted(&[(20, 50)]));
        durations.push(at(10), counted(&[(20, 50)]));
        assert!(durations.percentile(0.5).is_some());
        durations.push(at(20), counted(&[(20, 50)]));
        assert_eq!(durations.percentile(0.5), None);
    }

    #[test]
    fn the_last_bucket_has_no_end() {
        let mut durations = Durations::default();
        durations.push(at(0), counted(&[]));
        durations.push(at(1), counted(&[(BUCKETS - 1, 1)]));
        let slowest = durations.percentile(1.0).unwrap().as_nanos() as u64;
        assert_eq!(Some(slowest), upper_bound(BUCKETS - 2));
    }

    #[test]
    fn a_histogram_that_restarts_gives_no_negative_counts() {
        let mut durations = Durations::default();
        durations.push(at(0), counted(&[(3, 100)]));
        durations.push(at(1), counted(&[(3, 7)]));
        assert_eq!(durations.percentile(0.5), None);
    }
}
