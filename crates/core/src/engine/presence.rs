//! Targets come, change, end and go.
use super::{
    Case, Command, Engine, Index, Presence, State, case, count_for_node, give_back,
    pace::{self, Due},
    treatments::{GONE, conclude},
};
use crate::{boot_time::BootTime, target::Target, verify::Outcome};

impl Engine {
    pub(super) fn added(&mut self, index: Index, target: Target, now: BootTime) {
        while self.cases.len() <= index {
            self.cases.push(None);
            self.due.push(None);
        }
        let watched_from_start = self.began.is_some_and(|began| target.started > began);
        self.cases[index] = Some(Case::new(target, watched_from_start));
        self.due[index] = Some(Due::regular(now + pace::first(self.pace.tick, index)));
    }

    pub(super) fn changed(
        &mut self,
        index: Index,
        target: Target,
        now: BootTime,
        out: &mut Vec<Command>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        if target.id == case.target.id && case.is_present() {
            // The same instance with other settings: its samples stay.
            if target.settings.resize.is_none() {
                out.extend(case.end_resize(index, "its owner no longer permits it", now));
            }
            case.set(target);
            return;
        }
        give_back(index, case, out);
        out.extend(case.end_resize(index, "another container runs by now", now));
        if let Some((verification, outcome)) = case.succeeded_by(target) {
            let detail = Some("it has another instance now".to_owned());
            out.push(conclude(index, case, &self.policy, &verification, outcome, detail, now));
        }
        count_for_node(case, &mut self.node, now);
        self.due[index] = Some(Due::regular(now));
    }

    pub(super) fn lost(&mut self, index: Index, now: BootTime, out: &mut Vec<Command>) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        give_back(index, case, out);
        case.lost();
        count_for_node(case, &mut self.node, now);
        // There is nothing to sample; but a treatment does not wait for a successor forever.
        let waits = matches!(case.state, State::Verifying { .. });
        let comes_back = self.policy.comes_back(case.target.is_of_runtime());
        self.due[index] = waits.then_some(Due::regular(now + comes_back));
    }

    pub(super) fn removed(&mut self, index: Index, now: BootTime, out: &mut Vec<Command>) {
        self.lost(index, now, out);
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        case.presence = Presence::Removed;
        out.extend(case.end_resize(index, GONE, now));
        match &case.state {
            // An eviction removes its target; the result of the remedy comes later.
            State::Healing { since, .. } => {
                self.due[index] = Some(Due::regular(*since + case::HEAL_LIMIT));
            }
            State::Verifying { verification, .. } => {
                let (verification, detail) = (verification.clone(), Some(GONE.to_owned()));
                let (policy, outcome) = (&self.policy, Outcome::Unverified);
                out.push(conclude(index, case, policy, &verification, outcome, detail, now));
                out.push(Command::Forget(index));
            }
            State::Watching => out.push(Command::Forget(index)),
        }
    }

    /// Frees the index of a removed target; see [`Command::Forget`].
    pub fn forget(&mut self, index: Index) {
        if let Some(case) = self.cases.get_mut(index) {
            *case = None;
            self.due[index] = None;
        }
    }
}
