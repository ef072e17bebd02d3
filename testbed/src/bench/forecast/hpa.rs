//! A simulated Horizontal Pod Autoscaler, and the pods that it starts.
//!
//! The rules are those of Kubernetes' own controller for an object metric with `averageValue`, with
//! its defaults: a sync every 15 s, a tolerance of 10 %, at most four pods or twice as many in one
//! sync, and scaling down to the largest number that was wanted within 300 s.

/// Seconds between two syncs.
pub(super) const SYNC: u32 = 15;
/// Seconds from the decision until a new pod serves.
const POD_START: u32 = 60;
/// No change within this share of the target.
const TOLERANCE: f64 = 0.1;
/// Seconds for which a wanted number keeps the HPA from scaling below it.
const STABILISATION: u32 = 300;
/// `minReplicas`.
const LEAST: usize = 2;
/// `maxReplicas`.
const MOST: usize = 10_000;

/// The HPA with its pods.
#[derive(Debug)]
pub(super) struct Hpa {
    /// Requests per second that each pod should have.
    target: f64,
    /// Requests per second that a pod can serve.
    capacity: f64,
    /// When each pod serves, oldest first, in seconds.
    pods: Vec<u32>,
    /// The numbers that were wanted lately, and when.
    wanted: Vec<(u32, usize)>,
}

/// What the pods were worth, in replica-minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    /// Load beyond what the serving pods can serve, in pods.
    pub(super) short: f64,
    /// Serving pods beyond the load.
    pub(super) idle: f64,
    /// All pods, also while they start.
    pub(super) total: f64,
}

impl Hpa {
    /// Two pods that serve. Each should have `target` requests per second, and can serve
    /// `target / utilisation`.
    pub(super) fn new(target: f64, utilisation: f64) -> Self {
        let pods = vec![0; LEAST];
        Self { target, capacity: target / utilisation, pods, wanted: Vec::new() }
    }

    /// One sync at `now`, in seconds, with the metric that it reads.
    pub(super) fn sync(&mut self, now: u32, metric: f64) {
        let current = self.pods.len();
        let ratio = metric / (self.target * current as f64);
        let wanted = if (ratio - 1.0).abs() <= TOLERANCE {
            current
        } else {
            (metric / self.target).ceil() as usize
        };
        let wanted = wanted.clamp(LEAST, MOST);
        self.wanted.retain(|(at, _)| now - at < STABILISATION);
        self.wanted.push((now, wanted));
        let stable = self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(wanted);
        let next = if wanted >= current { wanted } else { stable.min(current) };
        let next = next.min((2 * current).max(current + 4));
        // Pods that have not started yet are the first to go.
        self.pods.truncate(next);
        self.pods.resize(next, now + POD_START);
    }

    /// What the pods are worth from `now` until the next sync, at this rate.
    pub(super) fn serve(&self, now: u32, rate: f64) -> Sum {
        let serving = self.pods.iter().filter(|ready| **ready <= now).count() as f64;
        let needed = rate / self.capacity;
        let minutes = f64::from(SYNC) / 60.0;
        Sum {
            short: (needed - serving).max(0.0) * minutes,
            idle: (serving - needed).max(0.0) * minutes,
            total: self.pods.len() as f64 * minutes,
        }
    }
}

impl std::ops::AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.short += other.short;
        self.idle += other.idle;
        self.total += other.total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pods, and those that serve, after a sync at each of these times with this metric.
    fn after(syncs: &[(u32, f64)], now: u32) -> (usize, f64) {
        let mut hpa = Hpa::new(10.0, 0.5);
        for (at, metric) in syncs {
            hpa.sync(*at, *metric);
        }
        (hpa.pods.len(), hpa.serve(now, 0.0).idle * 4.0)
    }

    #[test]
    fn a_pod_serves_a_minute_after_the_decision() {
        assert_eq!(after(&[(0, 60.0)], 59), (6, 2.0));
        assert_eq!(after(&[(0, 60.0)], 60), (6, 6.0));
    }

    #[test]
    fn small_changes_are_tolerated() {
        assert_eq!(after(&[(0, 21.9)], 0).0, 2);
        assert_eq!(after(&[(0, 22.1)], 0).0, 3);
    }

    #[test]
    fn it_grows_by_four_pods_or_to_twice_as_many() {
        assert_eq!(after(&[(0, 1e4)], 0).0, 6);
        assert_eq!(after(&[(0, 1e4), (15, 1e4)], 0).0, 12);
    }

    #[test]
    fn it_shrinks_to_what_was_wanted_within_five_minutes() {
        let up = [(0, 60.0), (15, 40.0), (285, 20.0)];
        assert_eq!(after(&up, 285).0, 6);
        assert_eq!(after(&[up[0], up[1], (300, 20.0)], 300).0, 4);
        assert_eq!(after(&[up[0], (315, 0.0)], 315).0, 2);
    }

    /// Two pods at ten requests a second, which can serve twice as many.
    #[test]
    fn load_beyond_the_capacity_is_short_and_the_rest_is_idle() {
        let hpa = Hpa::new(10.0, 0.5);
        assert_eq!(hpa.serve(0, 60.0), Sum { short: 0.25, idle: 0.0, total: 0.5 });
        assert_eq!(hpa.serve(0, 10.0), Sum { short: 0.0, idle: 0.375, total: 0.5 });
    }
}
