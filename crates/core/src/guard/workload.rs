//! The gates of the cluster: the state of a whole workload may forbid a remedy that is right for
//! one of its pods.
//!
//! Values in, a reason to refuse out; the callers gather the values. *Many sick at once means scale
//! or wait; one sick means heal.*
use std::{fmt, time::Duration};

use super::{Gate, Refusal, Why};

/// Period over which the hard remedies of a workload are counted.
pub const SHARE_SPAN: Duration = Duration::from_secs(600);
/// Hard remedies that did not help stop every agent for this long, or until one has helped.
pub const IN_VAIN_SPAN: Duration = Duration::from_secs(3600);
/// Number of consecutive hard remedies without success that stop every agent.
const IN_VAIN: u32 = 2;
/// One in this many pods may have a hard remedy within [`SHARE_SPAN`], and at least one.
const SHARE: u32 = 10;
/// A pod that is not ready after this long is stuck and no longer starting.
const STARTS_WITHIN: Duration = Duration::from_secs(600);

/// How a workload is changing. Its pods come and go for that reason, and are not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rolling {
    /// Its controller has not observed the newest specification yet.
    Unobserved,
    /// Pods of an older specification are being replaced.
    Updating,
    /// Its number of pods differs from the wanted one.
    Scaling,
    /// It is paused, or scaled to zero.
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

/// No hard remedy while a workload is changing.
#[must_use]
pub fn rollout(rolling: Option<Rolling>) -> Option<Refusal> {
    rolling.map(|rolling| Refusal { gate: Gate::Rollout, why: Why::Rolling(rolling) })
}

/// A majority of at least two sick pods has a common cause.
#[must_use]
pub fn overload(sick: u32, replicas: u32) -> Option<Refusal> {
    let overload = sick >= 2 && sick.saturating_mul(2) > replicas;
    overload.then_some(Refusal { gate: Gate::Overload, why: Why::MostAreSick(sick, replicas) })
}

/// How many of the workload's pods are unready but not sick. If the sick pod in question is
/// `ready`, it is not one of the unready ones.
#[must_use]
pub const fn missing(replicas: u32, ready: u32, sick: u32, is_ready: bool) -> u32 {
    let ill = sick.saturating_sub(is_ready as u32);
    replicas.saturating_sub(ready).saturating_sub(ill)
}

/// No hard remedy while pods are starting that no agent counts as sick. A pod that is not ready in
/// time is stuck, and must not keep the others from being healed forever.
#[must_use]
pub fn starting(missing: u32, replicas: u32, waited: Duration) -> Option<Refusal> {
    let starting = missing > 0 && waited < STARTS_WITHIN;
    let why = Why::NotReadyYet(missing, replicas);
    starting.then_some(Refusal { gate: Gate::Rollout, why })
}

/// Maximum number of hard remedies within [`SHARE_SPAN`] for a workload of this many pods.
#[must_use]
pub const fn share(replicas: u32) -> u32 {
    let share = replicas / SHARE;
    if share > 1 { share } else { 1 }
}

/// Limits the share of a workload with a hard remedy within ten minutes, over all nodes.
#[must_use]
pub fn share_spent(recent: u32, replicas: u32) -> Option<Refusal> {
    let most = share(replicas);
    let why = Why::ShareSpent(recent, most);
    (recent >= most).then_some(Refusal { gate: Gate::WorkloadLock, why })
}

/// After two remedies that did not help, every node leaves the workload to an operator.
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
    fn an_unready_pod_that_is_not_sick_is_missing() {
        for (replicas, ready, sick, is_ready, expected) in [
            (3, 3, 1, true, 0),
            // The sick pod is the unready one.
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
    fn a_starting_pod_refuses_and_a_stuck_one_does_not() {
        let after = |missing, seconds| gate(starting(missing, 5, Duration::from_secs(seconds)));
        assert_eq!([after(1, 0), after(5, 599)], [Some(Gate::Rollout); 2]);
        assert_eq!([after(0, 0), after(1, 600)], [None; 2]);
    }

    #[test]
    fn the_share_is_one_pod_in_ten_and_at_least_one() {
        for (replicas, most) in [(0, 1), (1, 1), (19, 1), (20, 2), (99, 9), (u32::MAX, 429_496_729)]
        {
            assert_eq!(share(replicas), most);
        }
        assert_eq!(gate(share_spent(1, 2)), Some(Gate::WorkloadLock));
        assert_eq!(gate(share_spent(1, 20)), None);
    }

    #[test]
    fn the_second_remedy_without_success_refuses() {
        assert_eq!(gate(in_vain(1)), None);
        assert_eq!(gate(in_vain(2)), Some(Gate::Exhausted));
    }

    #[test]
    fn every_change_of_a_workload_refuses() {
        assert_eq!(gate(rollout(None)), None);
        for rolling in [Rolling::Unobserved, Rolling::Updating, Rolling::Scaling, Rolling::Stopped]
        {
            assert_eq!(gate(rollout(Some(rolling))), Some(Gate::Rollout));
        }
    }
}
