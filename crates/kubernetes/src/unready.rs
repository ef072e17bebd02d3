//! How long pods of a workload have been unready that no agent counts as sick.
//!
//! Only time distinguishes pods that start from pods that are stuck, as seen here and on this
//! node's clock; it needs no further requests. Pure: values and times in, values out.
use std::{num::NonZeroUsize, time::Duration};

use lru::LruCache;
use paramedic_core::boot_time::BootTime;

/// After this long without missing pods, the next ones count from the start.
const FORGET: Duration = Duration::from_secs(180);
/// Maximum number of stored workloads; each has a sick pod on this node. For a dropped entry the wait
/// starts again, so the one that was not asked for longest goes first.
const MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// Start of the absence, by the name of the workload's Lease.
#[derive(Debug)]
pub(super) struct Unready(LruCache<String, Seen>);

impl Default for Unready {
    fn default() -> Self {
        Self(LruCache::new(MAX))
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    since: BootTime,
    last: BootTime,
    /// A changed size starts the count again: the workload was scaled.
    replicas: u32,
}

impl Unready {
    /// Pods are missing now. Returns for how long.
    pub(super) fn see(&mut self, name: &str, replicas: u32, now: BootTime) -> Duration {
        let first = Seen { since: now, last: now, replicas };
        let seen = self.0.get_or_insert_mut_ref(name, || first);
        if seen.replicas != replicas || now.since(seen.last) >= FORGET {
            *seen = first;
        }
        seen.last = now;
        now.since(seen.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn time_runs_while_pods_are_missing_and_the_size_is_unchanged() {
        let mut missing = Unready::default();
        let mut see = |replicas, now| missing.see("web", replicas, at(now)).as_secs();
        assert_eq!([see(5, 100), see(5, 115), see(5, 294)], [0, 15, 194]);
        assert_eq!([see(6, 300), see(6, 400)], [0, 100], "scaled");
        assert_eq!([see(6, 580), see(6, 590)], [0, 10], "asked too long ago");
    }

    #[test]
    fn workloads_are_distinguished_and_their_number_is_bounded() {
        let mut missing = Unready::default();
        missing.see("web", 3, at(0));
        assert_eq!(missing.see("db", 3, at(10)), Duration::ZERO);
        assert_eq!(missing.see("web", 3, at(10)), Duration::from_secs(10));
        for n in 0..2 * MAX.get() {
            missing.see("web", 3, at(20));
            missing.see(&n.to_string(), 1, at(20));
            assert!(missing.0.len() <= MAX.get());
        }
        assert_eq!(
            missing.see("web", 3, at(20)),
            Duration::from_secs(20),
            "asked for all the time"
        );
        assert_eq!(missing.see("db", 3, at(20)), Duration::ZERO, "dropped");
    }
}
