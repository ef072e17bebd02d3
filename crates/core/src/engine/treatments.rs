//! The results of remedies, by this agent process and by earlier ones.
use std::time::Duration;

use super::{Case, Command, Engine, Fact, Index, Presence, Recovered, Remedied};
use crate::{
    boot_time::BootTime,
    decide::Source,
    guard::{Policy, Treatment},
    target::{Obstacle, Remedy},
    verify::{Outcome, Verification},
};

/// Detail of a treatment that ends because its target was removed.
pub(super) const GONE: &str = "it was removed";

impl Engine {
    /// Remembers the outcomes of treatments that have just ended.
    pub(super) fn remember(&mut self, told: &[Command], now: BootTime) {
        for command in told {
            let Command::Tell(index, Fact::Concluded { remedy, symptom, outcome, took, .. }) =
                command
            else {
                continue;
            };
            let Some(case) = self.cases.get(*index).and_then(Option::as_ref) else { continue };
            let (remedy, symptom, outcome) = (*remedy, *symptom, *outcome);
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            let began = BootTime::from_nanos(now.as_nanos().saturating_sub(took));
            let treatment = Treatment { remedy, symptom, outcome, began, at: now };
            self.memories.push(case.treated_workload(), treatment);
        }
    }

    pub(super) fn treated(
        &mut self,
        index: Index,
        incident: Option<i64>,
        result: Remedied,
        now: BootTime,
        out: &mut Vec<Command>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        let ended = matches!(result, Remedied::Ended(..));
        let Some((verification, same)) = case.begin_verifying(incident, ended, now) else { return };
        let undone = matches!(result, Remedied::NotPerformed(_));
        if undone {
            case.history.not_performed(verification.remedy, now);
        }
        case.instance.no_soft |= matches!(result, Remedied::NotOffered(_));
        let ended = match result {
            Remedied::Failed(detail)
            | Remedied::NotPerformed(detail)
            | Remedied::NotOffered(detail) => Some((Outcome::Failed, detail)),
            Remedied::Ended(outcome, detail) => Some((outcome, detail)),
            Remedied::Given if case.presence == Presence::Removed => {
                Some((Outcome::Unverified, GONE.to_owned()))
            }
            Remedied::Given if !same => {
                Some((Outcome::Unverified, "it was replaced during the remedy".to_owned()))
            }
            Remedied::Given => None,
        };
        if let Some((outcome, detail)) = ended {
            let (policy, detail) = (&self.policy, Some(detail));
            let mut told = conclude(index, case, policy, &verification, outcome, detail, now);
            if let Command::Tell(_, Fact::Concluded { done, .. }) = &mut told {
                *done = !undone;
            }
            out.push(told);
        }
        if case.presence == Presence::Removed {
            self.due[index] = None;
            out.push(Command::Forget(index));
        } else {
            self.look_soon_or_wait(index, now, out);
        }
    }

    /// After a remedy: samples at once or, without an instance, waits for a successor.
    pub(super) fn look_soon_or_wait(
        &mut self,
        index: Index,
        now: BootTime,
        out: &mut Vec<Command>,
    ) {
        match &self.cases[index] {
            Some(case) if !case.is_present() => self.lost(index, now, out),
            _ => self.schedule(index, now, Duration::ZERO),
        }
    }

    pub(super) fn recovered(
        &mut self,
        index: Index,
        recovered: Recovered,
        now: BootTime,
        out: &mut Vec<Command>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        let remedy = recovered.remedy;
        let (verification, same) = case.resume(recovered, now);
        if !same || remedy == Remedy::Evict {
            let detail = match remedy {
                Remedy::Evict if case.target.no_evict == Some(Obstacle::InQuarantine) => {
                    "it is in quarantine; whether its workload is well is not known"
                }
                Remedy::Evict => "its eviction was intended, but it still exists",
                _ => "it was replaced while the agent was down",
            };
            let detail = Some(detail.to_owned());
            let (policy, outcome) = (&self.policy, Outcome::Unverified);
            out.push(conclude(index, case, policy, &verification, outcome, detail, now));
        }
        self.schedule(index, now, Duration::ZERO);
    }

    pub(super) fn recalled(
        &mut self,
        index: Index,
        remedy: Remedy,
        treated: BootTime,
        ended: Option<(Outcome, BootTime)>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        case.history.treated(remedy, treated);
        if let Some((outcome, at)) = ended {
            let ceiling = self.policy.ceiling(case.target.settings.ceiling, Source::Model);
            let ceiling = case.target.reachable(ceiling);
            case.history.concluded(remedy, outcome, ceiling, at);
        }
        if remedy.is_hard() {
            self.node.history.hard_heal(treated);
        }
    }
}

/// Ends a treatment: back to watching, stored in the target's history.
pub(super) fn conclude(
    index: Index,
    case: &mut Case,
    policy: &Policy,
    verification: &Verification,
    outcome: Outcome,
    detail: Option<String>,
    now: BootTime,
) -> Command {
    let source = case.decision.map_or(Source::Model, |decision| decision.source);
    let ceiling = case.target.reachable(policy.ceiling(case.target.settings.ceiling, source));
    let incident = case.end_treatment(verification.remedy, outcome, ceiling, now);
    let fact = Fact::Concluded {
        incident,
        remedy: verification.remedy,
        symptom: case.treated_symptom(),
        outcome,
        took: now.since(verification.began),
        detail,
        done: true,
        exhausted: case.history.is_exhausted(),
    };
    Command::Tell(index, fact)
}
