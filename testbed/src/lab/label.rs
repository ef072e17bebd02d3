//! Labels what the agent saw of paired copies by the remedy that helped one of them. Pure.
use serde::{Deserialize, Serialize};

use super::{client::Request, kind::Remedy, truth};

/// How long after a remedy that helped the window still holds samples from before it.
const WINDOW_NS: u64 = 11_000_000_000;

/// One of the copies: what was done to it, and how its clients fared. Instants are in nanoseconds
/// since boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) remedy: Remedy,
    pub(crate) fault: u64,
    pub(crate) treated: u64,
    /// Whether it was well at the end.
    pub(crate) well: bool,
    /// When enough requests had gone wrong.
    evident: Option<u64>,
    /// Whether its clients suffered before the remedy.
    suffered: bool,
}

/// What an episode measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measure {
    /// Whether the service was well at the end, by remedy; a healthy target gets none.
    pub(crate) well: Vec<bool>,
    /// The mildest remedy after which it was.
    pub(crate) label: Remedy,
    /// Whether its clients suffered while the fault lasted.
    pub(crate) suffered: bool,
    /// Seconds from the fault until enough requests had gone wrong.
    pub(crate) evident_s: Option<f64>,
    /// Nanoseconds since boot of the fault and of the remedy, on the copy that got no remedy.
    pub(crate) fault_ns: u64,
    pub(crate) treated_ns: u64,
}

impl Tried {
    /// Judged by the requests that ended until `end`.
    pub(crate) fn of(
        remedy: Remedy,
        (fault, treated, end): (u64, u64, u64),
        requests: &[Request],
    ) -> Self {
        Self {
            remedy,
            fault,
            treated,
            well: truth::is_well(requests, end.saturating_sub(truth::JUDGED_NS), end),
            evident: truth::evident_at(requests, fault),
            suffered: !truth::is_well(requests, fault, treated),
        }
    }

    pub(crate) fn phase(&self, at: u64) -> &'static str {
        match at {
            at if at < self.fault => "before",
            at if at < self.treated => "during",
            _ => "after",
        }
    }

    /// The right remedy at this time, if that is known: `right` is what the copies measured, and
    /// `None` for a target that was healthy throughout.
    pub(crate) fn label(&self, at: u64, right: Option<Remedy>) -> Option<Remedy> {
        let none = Some(Remedy::NoAction);
        let is_evident = self.evident.is_some_and(|evident| at >= evident);
        match (self.phase(at), right) {
            (_, None) => none.filter(|_| self.well),
            ("before", _) | (_, Some(Remedy::NoAction)) => none,
            ("after", _) if self.well => none.filter(|_| at >= self.treated + WINDOW_NS),
            (_, right) => right.filter(|_| is_evident),
        }
    }
}

impl Measure {
    /// Of the copies, the one without a remedy first.
    pub(crate) fn of(untreated: &Tried, others: &[Tried]) -> Self {
        let well: Vec<bool> =
            std::iter::once(untreated).chain(others).map(|tried| tried.well).collect();
        let label = match well[..] {
            [a, b, c] => truth::mildest([a, b, c]),
            _ => Remedy::NoAction,
        };
        let Tried { fault, treated, evident, suffered, .. } = *untreated;
        Self {
            well,
            label,
            suffered,
            evident_s: evident.map(|at| at.saturating_sub(fault) as f64 / 1e9),
            fault_ns: fault,
            treated_ns: treated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// Two requests a second for 40 seconds; the fault is at 10 s and the remedy at 20 s.
    fn tried(remedy: Remedy, bad: impl Fn(u64) -> bool) -> Tried {
        let request = |half: u64| Request { at: half * S / 2, good: !bad(half / 2) };
        let requests: Vec<_> = (0..80).map(request).collect();
        Tried::of(remedy, (10 * S, 20 * S, 40 * S), &requests)
    }

    #[test]
    fn the_copy_that_a_restart_cured_is_labelled_while_the_fault_shows() {
        let left = tried(Remedy::NoAction, |s| s >= 10);
        let reset = tried(Remedy::ResetErrors, |s| s >= 10);
        let cured = tried(Remedy::RestartService, |s| (10..21).contains(&s));
        let measure = Measure::of(&left, &[reset, cured]);
        assert_eq!((measure.well, measure.label), (vec![false, false, true], cured.remedy));
        assert!(measure.suffered && measure.evident_s == Some(3.0), "{:?}", measure.evident_s);
        let at = |s: u64| cured.label(s * S, Some(measure.label));
        assert_eq!(at(5), Some(Remedy::NoAction));
        assert_eq!(at(11), None, "not yet evident");
        assert_eq!(at(15), Some(Remedy::RestartService));
        assert_eq!(at(25), None, "the window still holds the fault");
        assert_eq!(at(32), Some(Remedy::NoAction));
        assert_eq!(left.label(32 * S, Some(measure.label)), Some(Remedy::RestartService));
    }

    #[test]
    fn where_nothing_helps_and_where_nothing_was_wrong_no_action_is_right() {
        let left = tried(Remedy::NoAction, |s| s >= 10);
        assert_eq!(left.label(15 * S, Some(Remedy::NoAction)), Some(Remedy::NoAction));
        assert_eq!(left.label(15 * S, None), None, "a healthy target that was not well");
        let well = tried(Remedy::NoAction, |_| false);
        assert_eq!(well.label(15 * S, None), Some(Remedy::NoAction));
        assert_eq!(Measure::of(&well, &[]).label, Remedy::NoAction);
    }
}
