//! The registry of targets: targets are found, change, return and are removed. It also restores
//! what an earlier agent process did to them.
use std::collections::HashSet;

use paramedic_core::{
    engine::{Event, Index},
    target::Target,
    verify::Outcome,
};
use paramedic_record::Incident;
use tracing::warn;

use super::{
    Agent,
    sampler::{Generation, Sampler},
};

impl Agent {
    /// A target was found: a new one, another instance of a known one, or other settings.
    pub(super) fn found(&mut self, target: Target) {
        let known = self.places.get(&target.id.uid).copied();
        let place = known.unwrap_or_else(|| self.engine.vacant());
        let before = known.and_then(|index| self.engine.case(index));
        if let Some(before) = before.filter(|case| case.target.id == target.id && !case.absent) {
            let same_app = before.target.address == target.address
                && before.target.tls == target.tls
                && before.target.settings.health == target.settings.health;
            if let Some(samplers) = self.samplers.get_mut(&place).filter(|_| !same_app) {
                samplers.renew_app();
            }
            self.handle(Event::Changed(place, Box::new(target)));
            return;
        }
        if let Some(before) = self.samplers.remove(&place) {
            self.let_go(before);
        }
        self.recorder.found(&target, known.is_some());
        self.lives += 1;
        let life = Generation(self.lives);
        let samplers = Sampler::open(&target, life, self.kernel.as_mut(), &*self.effects);
        if let Some(slot) = samplers.slot() {
            self.slots.insert(slot, place);
        }
        self.samplers.insert(place, samplers);
        self.awaited.remove(&target.id.uid);
        let uid = target.id.uid.clone();
        self.places.insert(uid.clone(), place);
        self.recorder.targets(self.places.len());
        if known.is_some() {
            self.handle(Event::Changed(place, Box::new(target)));
        } else {
            self.handle(Event::Added(place, Box::new(target)));
            self.recall(place, &uid);
        }
    }

    pub(super) fn gone(&mut self, uid: &str) {
        let Some(index) = self.places.remove(uid) else { return };
        if let Some(before) = self.samplers.remove(&index) {
            self.let_go(before);
        }
        self.recorder.targets(self.places.len());
        self.handle(Event::Removed(index));
    }

    pub(super) fn forget(&mut self, index: Index) {
        if let Some(case) = self.engine.case(index) {
            self.recorder.forget(&case.target);
        }
        self.engine.forget(index);
    }

    /// All pods of the node are known: the outcome of treatments of other pods by an earlier agent
    /// process cannot be known. A pod that exists and does not run yet is still awaited.
    pub(super) fn give_up_the_past(&mut self, pods: &HashSet<String>) {
        let gone = |incident: &mut Incident| {
            let pod = incident.intent.target.uid.split('/').next().unwrap_or_default();
            !pods.contains(pod)
        };
        for incident in self.past.extract_if(.., gone) {
            if incident.outcome.is_none() {
                let detail = "it was removed while the agent was down".to_owned();
                self.recorder.conclude(Some(incident.id), Outcome::Unverified, Some(detail));
            }
        }
    }

    /// Restores what an earlier agent process did to this target. Its cooldowns hold; an intention
    /// without an outcome counts as applied, is verified and never repeated.
    fn recall(&mut self, index: Index, uid: &str) {
        let of_target = |incident: &mut Incident| incident.intent.target.uid == uid;
        let past: Vec<_> = self.past.extract_if(.., of_target).collect();
        for Incident { id, intent, outcome, concluded, .. } in past {
            let (rung, treated) = (intent.rung, intent.intended);
            let ended = outcome.zip(concluded);
            self.handle(Event::Recalled { index, rung, treated, ended });
            if outcome.is_none() {
                warn!(
                    incident = id,
                    target = uid,
                    rung = rung.name(),
                    "found an intention without an outcome: it counts as applied and is verified"
                );
                let (before, judged) = (intent.action, intent.target.instance);
                let symptom = intent.symptom;
                let incident = id;
                self.handle(Event::Recovered { index, incident, rung, before, judged, symptom });
            }
        }
    }

    fn let_go(&mut self, samplers: Sampler) {
        if let (Some(slot), Some(kernel)) = (samplers.slot(), self.kernel.as_mut()) {
            self.slots.remove(&slot);
            if let Err(error) = kernel.unwatch(slot) {
                warn!(%error, "cannot stop counting a former instance in the kernel");
            }
        }
    }
}
