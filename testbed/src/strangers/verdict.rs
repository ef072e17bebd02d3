//! Judges what the agent did. Pure.
use serde::{Deserialize, Serialize};

/// The strongest remedy that a service got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Did {
    Nothing,
    Soft,
    Restart,
}

impl Did {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Soft => "soft",
            Self::Restart => "restart",
        }
    }
}

/// One remedy, and when it began, in nanoseconds since boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    pub(super) at: u64,
    pub(super) did: Did,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Right,
    /// A soft remedy although none was needed.
    NeedlessSoft,
    /// A restart that does not help, or one of a service that was still well.
    WrongRestart,
    /// A restart was right and did not happen.
    Missed,
    /// The agent did not find the service, so that it took no action proves nothing.
    Unwatched,
    /// The clients were served worse since the agent watches.
    Disturbed,
    /// The test bed failed, or the fault did not happen: this is no judgement of the agent.
    Error,
}

impl Verdict {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::NeedlessSoft => "needless soft",
            Self::WrongRestart => "WRONG RESTART",
            Self::Missed => "missed",
            Self::Unwatched => "not watched",
            Self::Disturbed => "DISTURBED",
            Self::Error => "ERROR",
        }
    }
}

/// The strongest of these.
pub(super) fn strongest(acts: &[Act]) -> Did {
    acts.iter().map(|act| act.did).max().unwrap_or(Did::Nothing)
}

/// Judges the remedies before and after the fault by what is right after it. A milder remedy before
/// the right one is right too, since the agent escalates.
pub(super) fn judge(right: &[Did], before: Did, since: Did, has_ended: bool) -> Verdict {
    let restart_is_right = right.contains(&Did::Restart);
    match (before, since) {
        (Did::Restart, _) => Verdict::WrongRestart,
        (Did::Nothing, Did::Restart) if !restart_is_right => Verdict::WrongRestart,
        // It was signalled, but the same process still runs.
        (Did::Nothing, Did::Restart) if !has_ended => Verdict::Missed,
        (Did::Nothing, Did::Restart) => Verdict::Right,
        (Did::Nothing, did) if right.contains(&did) => Verdict::Right,
        (Did::Nothing, _) if restart_is_right => Verdict::Missed,
        (Did::Soft, _) | (Did::Nothing, Did::Soft) => Verdict::NeedlessSoft,
        (Did::Nothing, Did::Nothing) => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Did::{Nothing, Restart, Soft};

    #[test]
    fn a_restart_is_right_only_where_it_cures_and_not_before_the_fault() {
        assert_eq!(judge(&[Restart], Nothing, Restart, true), Verdict::Right);
        assert_eq!(judge(&[Restart], Nothing, Restart, false), Verdict::Missed);
        assert_eq!(judge(&[Restart], Restart, Restart, true), Verdict::WrongRestart);
        assert_eq!(judge(&[Nothing, Soft], Nothing, Restart, true), Verdict::WrongRestart);
    }

    #[test]
    fn nothing_and_soft_are_judged_by_what_is_right() {
        assert_eq!(judge(&[Nothing], Nothing, Nothing, false), Verdict::Right);
        assert_eq!(judge(&[Nothing], Nothing, Soft, false), Verdict::NeedlessSoft);
        assert_eq!(judge(&[Nothing, Soft], Nothing, Soft, false), Verdict::Right);
        assert_eq!(judge(&[Nothing, Soft], Soft, Nothing, false), Verdict::NeedlessSoft);
        assert_eq!(judge(&[Restart], Nothing, Soft, false), Verdict::Missed);
        assert_eq!(judge(&[Restart], Nothing, Nothing, false), Verdict::Missed);
    }

    #[test]
    fn the_strongest_of_no_acts_is_nothing() {
        let act = |did| Act { at: 0, did };
        assert_eq!(strongest(&[]), Nothing);
        assert_eq!(strongest(&[act(Restart), act(Soft)]), Restart);
    }
}
