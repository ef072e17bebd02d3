//! The gates of the cluster: the state of a whole workload may forbid a remedy that is right for
//! one of its pods.
//!
//! Values in, a reason to refuse out; the callers gather the values. *Many sick at once means scale
//! or wait; one sick means heal.*
use std::{fmt, time::Duration};

use super::{Gate, Refusal, Why};

/// Hard heals of one workload are counted over this time.
pub const SHARE_SPAN: Duration = Duration::from_secs(600);
/// Hard heals in vain stop every agent for this long, or until one has helped.
pub const IN_VAIN_SPAN: Duration = Duration::from_secs(3600);
/// This many hard heals in vain, in a row, do.
const IN_VAIN: u32 = 2;
/// One in so many pods may be healed hard within [`SHARE_SPAN`], and one in any case.
const SHARE: u32 = 10;
/// A pod that is not ready after this long is stuck and no longer starts.
const STARTS_WITHIN: Duration = Duration::from_secs(600);

/// What a workload is in the middle of: its pods come and go for that reason, and are not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rolling {
    /// Its newest specification has not been taken up yet.
    Unobserved,
    /// Pods of an older specification are being replaced.
    Updating,
    /// It has another number of pods than it should.
    Scaling,
    /// It is paused, or has been told to have no pods.
    Stopped,
}

impl fmt::Display for Rolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unobserved => "its workload has just been changed",
            Self::Updating => "its workload is rolling out",
            Self::Scaling => "its workload is being scaled, or replaces a pod",
            Self::Stopped => "its workload is being stopped",
        })
    }
}

/// Nothing hard while a workload changes by itself.
#[must_use]
pub fn rollout(rolling: Option<Rolling>) -> Option<Refusal> {
    rolling.map(|rolling| Refusal { gate: Gate::Rollout, why: Why::Rolling(rolling) })
}

/// A majority of at least two sick pods is no pod's own illness.
#[must_use]
pub fn overload(sick: u32, replicas: u32) -> Option<Refusal> {
    let overload = sick >= 2 && sick.saturating_mul(2) > replicas;
    overload.then_some(Refusal { gate: Gate::Overload, why: Why::MostAreSick(sick, replicas) })
}

/// How many of the workload's pods are not ready without being sick. A sick pod that is asked about
/// and is `ready` explains none of those that are not.
#[must_use]
pub const fn missing(replicas: u32, ready: u32, sick: u32, is_ready: bool) -> u32 {
    let ill = sick.saturating_sub(is_ready as u32);
    replicas.saturating_sub(ready).saturating_sub(ill)
}

/// Nothing hard while pods start that nobody calls sick: created is not yet there. One that has not
/// come in time is stuck, and must not keep the others from being healed for ever.
#[must_use]
pub fn starting(missing: u32, replicas: u32, waited: Duration) -> Option<Refusal> {
    let starting = missing > 0 && waited < STARTS_WITHIN;
    let why = Why::NotReadyYet(missing, replicas);
    starting.then_some(Refusal { gate: Gate::Rollout, why })
}

/// How many hard heals a workload of so many pods may have within [`SHARE_SPAN`].
#[must_use]
pub const fn share(replicas: u32) -> u32 {
    let share = replicas / SHARE;
    if share > 1 { share } else { 1 }
}

/// At most a share of the workload is healed hard within ten minutes, on whichever nodes.
#[must_use]
pub fn share_spent(recent: u32, replicas: u32) -> Option<Refusal> {
    let most = share(replicas);
    let why = Why::ShareSpent(recent, most);
    (recent >= most).then_some(Refusal { gate: Gate::WorkloadLock, why })
}

/// What did not help twice is left to people, on every node.
#[must_use]
pub fn in_vain(in_a_row: u32) -> Option<Refusal> {
    let why = Why::InVain(in_a_row);
    (in_a_row >= IN_VAIN).then_some(Refusal { gate: Gate::Exhausted, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(refusal: Option<Refusal>) -> Option<Gate> {
        refusal.map(|refusal| refusal.gate)
    }

    #[test]
    fn a_majority_of_at_least_two_is_overload() {
        for (sick, replicas, refused) in
            [(0, 3, false), (1, 1, false), (1, 2, false), (2, 2, true), (2, 4, false), (3, 4, true)]
        {
            assert_eq!(gate(overload(sick, replicas)).is_some(), refused, "{sick} of {replicas}");
        }
        assert_eq!(gate(overload(u32::MAX, 3)), Some(Gate::Overload));
    }

    #[test]
    fn who_is_not_ready_and_not_sick_is_starting() {
        for (replicas, ready, sick, is_ready, expected) in [
            (3, 3, 1, true, 0),
            // The sick pod is the one that is not ready.
            (3, 2, 1, false, 0),
            // It is ready: another one is not.
            (3, 2, 1, true, 1),
            (5, 3, 1, true, 2),
            (5, 3, 2, false, 0),
            (3, 4, 1, true, 0),
            (0, 0, 0, true, 0),
            (u32::MAX, 0, u32::MAX, true, 1),
        ] {
            let found = missing(replicas, ready, sick, is_ready);
            assert_eq!(found, expected, "{ready} of {replicas} ready, {sick} sick, {is_ready}");
        }
    }

    #[test]
    fn what_starts_refuses_and_what_is_stuck_does_not() {
        let after = |missing, seconds| gate(starting(missing, 5, Duration::from_secs(seconds)));
        assert_eq!([after(1, 0), after(5, 599)], [Some(Gate::Rollout); 2]);
        assert_eq!([after(0, 0), after(1, 600)], [None; 2]);
    }

    #[test]
    fn one_pod_in_ten_and_one_in_any_case() {
        for (replicas, most) in [(0, 1), (1, 1), (19, 1), (20, 2), (99, 9), (u32::MAX, 429_496_729)]
        {
            assert_eq!(share(replicas), most);
        }
        assert_eq!(gate(share_spent(1, 2)), Some(Gate::WorkloadLock));
        assert_eq!(gate(share_spent(1, 20)), None);
    }

    #[test]
    fn the_second_in_vain_stops_everybody() {
        assert_eq!(gate(in_vain(1)), None);
        assert_eq!(gate(in_vain(2)), Some(Gate::Exhausted));
    }

    #[test]
    fn whatever_a_workload_is_in_the_middle_of_refuses() {
        assert_eq!(gate(rollout(None)), None);
        for rolling in [Rolling::Unobserved, Rolling::Updating, Rolling::Scaling, Rolling::Stopped]
        {
            assert_eq!(gate(rollout(Some(rolling))), Some(Gate::Rollout));
        }
    }
}
