//! How long pods of a workload have been unready that no agent counts as sick.
//!
//! Only time distinguishes pods that start from pods that are stuck, as seen here and on this
//! node's clock; it needs no further requests. Pure: values and times in, values out.
use std::{collections::HashMap, time::Duration};

use paramedic_core::boot_time::BootTime;

/// After this long without missing pods, the next ones count from the start.
const FORGET: Duration = Duration::from_secs(180);
/// Maximum number of stored workloads; each has a sick pod on this node.
const MOST: usize = 4096;

/// Start of the absence, by the name of the workload's Lease.
#[derive(Debug, Default)]
pub(super) struct Unready(HashMap<String, Seen>);

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
        if self.0.len() >= MOST {
            // A dropped entry only means that the wait starts again.
            self.0.clear();
        }
        let new = Seen { since: now, last: now, replicas };
        let seen = self.0.entry(name.to_owned()).or_insert(new);
        if seen.replicas != replicas || now.since(seen.last) >= FORGET {
            *seen = new;
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
        for n in 0..2 * MOST {
            missing.see(&n.to_string(), 1, at(20));
            assert!(missing.0.len() <= MOST);
        }
    }
}
