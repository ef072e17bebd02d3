//! Stage 6: did the remedy help?
//!
//! A treatment is judged by what the target does afterwards and never by the response to the
//! remedy. The window ends early only on bad news: renewed evidence is `not_healed` at once, while
//! good news must last.
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{boot_time::BootTime, decide::Action, target::Remedy};

/// How a treatment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Well again.
    Healed,
    /// The evidence is still there, or returned within the window.
    NotHealed,
    /// Worse than before the remedy.
    Worse,
    /// The outcome cannot be known: no traffic, or the successor is elsewhere. Never escalates.
    Unverified,
    /// The remedy itself failed.
    Failed,
}

impl Outcome {
    /// The outcome's name, as in the journal, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::NotHealed => "not_healed",
            Self::Worse => "worse",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
        }
    }
}

/// New errors within the window that a healed target may still show, from requests already in
/// progress. It is the same number that separates well from sick in the decision surface.
const ERRORS_TOLERATED: u64 = 5;

/// From a reload to its effect: masters replace their workers one by one.
pub const RELOAD: Duration = Duration::from_secs(5);

/// A treatment that is being verified.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The applied remedy.
    pub remedy: Remedy,
    /// The action of the decision.
    pub before: Action,
    /// Time of the remedy.
    pub began: BootTime,
    /// From the remedy to the window, at least.
    settle: Duration,
    /// When the window opened: at once, but after a reload only when that has settled, and after a
    /// restart only when the instance is ready.
    opened: Option<BootTime>,
    /// Errors known when the window opened: reported by the app, counted by the kernel.
    base: (u32, u64),
}

/// The contribution of one sample to a verification.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// The action that the present calls for.
    pub action: Action,
    /// Whether enough recent samples agree on an action, and something happens that supports them.
    /// A level of CPU or memory does not fall at once, nor need an app's own count of errors: these
    /// are judged at the end of the window.
    pub evidence: bool,
    /// Whether an instance exists and serves; after a hard remedy, another one than was judged.
    pub ready: bool,
    /// Whether anything was seen of the target since the remedy: an answered poll, or a counted
    /// response.
    pub alive: bool,
    /// All known errors: reported by the app, counted by the kernel.
    pub errors: (u32, u64),
}

impl Verification {
    /// Starts the verification of a remedy applied at `now`.
    #[must_use]
    pub const fn new(remedy: Remedy, before: Action, now: BootTime) -> Self {
        Self { remedy, before, began: now, settle: Duration::ZERO, opened: None, base: (0, 0) }
    }

    /// The same, of a remedy that takes this long to have its effect.
    #[must_use]
    pub const fn settling(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Whether the window has opened: after a restart, whether a successor was ready.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// The outcome, as soon as there is one. Waits for a successor for `comes_back`.
    pub fn judge(
        &mut self,
        now: BootTime,
        finding: &Finding,
        window: Duration,
        comes_back: Duration,
    ) -> Option<Outcome> {
        let Some(opened) = self.opened else {
            let settled = now.since(self.began) >= self.settle;
            if settled && (finding.ready || !self.remedy.is_hard()) {
                self.opened = Some(now);
                self.base = finding.errors;
                return None;
            }
            let is_missing = self.remedy.is_hard() && now.since(self.began) >= comes_back;
            return is_missing.then_some(Outcome::NotHealed);
        };
        if finding.evidence {
            return Some(self.worse_or(Outcome::NotHealed, finding.action));
        }
        if now.since(opened) < window {
            return None;
        }
        if !finding.alive {
            return Some(Outcome::Unverified);
        }
        let well =
            finding.action == Action::NoAction && self.new_errors(finding) <= ERRORS_TOLERATED;
        Some(if well { Outcome::Healed } else { self.worse_or(Outcome::NotHealed, finding.action) })
    }

    /// A soft remedy after which a restart is called for made, or left, things worse.
    fn worse_or(&self, otherwise: Outcome, action: Action) -> Outcome {
        if action > self.before { Outcome::Worse } else { otherwise }
    }

    /// The target has another instance. After a hard remedy that is intended, once. After that, or
    /// after a soft remedy, something else replaced it.
    #[must_use]
    pub const fn replaced(&self) -> Option<Outcome> {
        match (self.remedy.is_hard(), self.opened) {
            (true, None) => None,
            (true, Some(_)) => Some(Outcome::NotHealed),
            (false, _) => Some(Outcome::Unverified),
        }
    }

    fn new_errors(&self, finding: &Finding) -> u64 {
        let counted = finding.errors.1.saturating_sub(self.base.1);
        let reported = finding.errors.0.saturating_sub(self.base.0);
        counted.max(u64::from(reported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(15);
    const WARM_UP: Duration = Duration::from_secs(60);

    const WELL: Finding = Finding {
        action: Action::NoAction,
        evidence: false,
        ready: true,
        alive: true,
        errors: (0, 0),
    };

    fn at(seconds: u64) -> BootTime {
        BootTime::from(Duration::from_secs(1000 + seconds))
    }

    /// The outcome of a treatment that is sampled in these seconds, and when it came.
    fn outcome(
        remedy: Remedy,
        before: Action,
        samples: &[(u64, Finding)],
    ) -> Option<(u64, Outcome)> {
        let mut verification = Verification::new(remedy, before, at(0));
        samples.iter().find_map(|(seconds, finding)| {
            let outcome = verification.judge(at(*seconds), finding, WINDOW, WARM_UP);
            outcome.map(|outcome| (*seconds, outcome))
        })
    }

    fn soft(samples: &[(u64, Finding)]) -> Option<(u64, Outcome)> {
        outcome(Remedy::Soft, Action::ResetErrors, samples)
    }

    #[test]
    fn a_target_must_stay_well_for_the_window() {
        let samples = [(0, WELL), (14, WELL), (15, WELL)];
        assert_eq!(soft(&samples), Some((15, Outcome::Healed)));
        assert_eq!(soft(&samples[..2]), None);
    }

    #[test]
    fn renewed_evidence_ends_the_window_at_once() {
        let ill = Finding { action: Action::ResetErrors, evidence: true, ..WELL };
        assert_eq!(soft(&[(0, WELL), (3, ill)]), Some((3, Outcome::NotHealed)));
        let worse = Finding { action: Action::RestartService, ..ill };
        assert_eq!(soft(&[(0, WELL), (3, worse)]), Some((3, Outcome::Worse)));
    }

    #[test]
    fn what_comes_before_a_reload_has_settled_counts_neither_way() {
        let ill = Finding { action: Action::ResetErrors, evidence: true, errors: (0, 40), ..WELL };
        let well = Finding { errors: (0, 40), ..WELL };
        let ends = |samples: &[(u64, Finding)]| {
            let new = Verification::new(Remedy::Soft, Action::ResetErrors, at(0));
            let mut reload = new.settling(RELOAD);
            samples.iter().find_map(|(seconds, finding)| {
                let outcome = reload.judge(at(*seconds), finding, WINDOW, WARM_UP);
                outcome.map(|outcome| (*seconds, outcome))
            })
        };
        assert_eq!(ends(&[(0, ill), (4, ill), (5, well), (20, well)]), Some((20, Outcome::Healed)));
        assert_eq!(ends(&[(0, ill), (5, ill), (6, ill)]), Some((6, Outcome::NotHealed)));
    }

    #[test]
    fn a_single_bad_sample_is_no_evidence_unless_it_is_the_last() {
        let doubtful = Finding { action: Action::ResetErrors, ..WELL };
        assert_eq!(soft(&[(0, WELL), (3, doubtful), (15, WELL)]), Some((15, Outcome::Healed)));
        assert_eq!(soft(&[(0, WELL), (15, doubtful)]), Some((15, Outcome::NotHealed)));
    }

    #[test]
    fn five_new_errors_are_tolerated_and_six_are_not() {
        let errors = |reported, counted| Finding { errors: (reported, counted), ..WELL };
        let ends = |finding| soft(&[(0, errors(2, 40)), (15, finding)]).map(|(_, outcome)| outcome);
        assert_eq!(ends(errors(7, 45)), Some(Outcome::Healed));
        assert_eq!(ends(errors(8, 40)), Some(Outcome::NotHealed));
        assert_eq!(ends(errors(0, 46)), Some(Outcome::NotHealed));
    }

    #[test]
    fn a_target_without_signals_is_unverified() {
        let silent = Finding { alive: false, ..WELL };
        assert_eq!(soft(&[(0, silent), (15, silent)]), Some((15, Outcome::Unverified)));
    }

    #[test]
    fn after_a_restart_the_window_opens_when_the_instance_is_ready() {
        let starting = Finding { ready: false, alive: false, ..WELL };
        let restart = |samples: &[_]| outcome(Remedy::Restart, Action::RestartService, samples);
        let samples = [(0, starting), (30, starting), (40, WELL), (54, WELL), (55, WELL)];
        assert_eq!(restart(&samples), Some((55, Outcome::Healed)));
        let never = [(0, starting), (59, starting), (60, starting)];
        assert_eq!(restart(&never), Some((60, Outcome::NotHealed)));
    }
}
