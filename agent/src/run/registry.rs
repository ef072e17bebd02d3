//! The registry of targets: which sampler reads a target, and how targets are found, change, return
//! and are removed. It also restores what an earlier agent process did to them.
use std::collections::{HashMap, HashSet};

use paramedic_core::{
    engine::{Event, Index, Recovered},
    target::{Change, Target},
    verify::Outcome,
};
use paramedic_probes::Slot;
use paramedic_record::Incident;
use tracing::warn;

use super::{
    Agent, CONTAINER_LIST, POD_LIST,
    sampler::{Generation, Sampler},
};

/// The watched targets by uid, index and slot.
#[derive(Debug, Default)]
pub(super) struct Registry {
    indices: HashMap<String, Index>,
    samplers: HashMap<Index, Sampler>,
    slots: HashMap<Slot, Index>,
    generations: u64,
}

impl Registry {
    pub(super) fn index_of(&self, uid: &str) -> Option<Index> {
        self.indices.get(uid).copied()
    }

    pub(super) fn index_of_slot(&self, slot: Slot) -> Option<Index> {
        self.slots.get(&slot).copied()
    }

    pub(super) fn sampler(&self, index: Index) -> Option<&Sampler> {
        self.samplers.get(&index)
    }

    pub(super) fn sampler_mut(&mut self, index: Index) -> Option<&mut Sampler> {
        self.samplers.get_mut(&index)
    }

    /// The sampler at an index, if it is of this generation.
    pub(super) fn sampler_of(&mut self, index: Index, life: Generation) -> Option<&mut Sampler> {
        self.samplers.get_mut(&index).filter(|sampler| sampler.life() == life)
    }

    fn next_generation(&mut self) -> Generation {
        self.generations += 1;
        Generation(self.generations)
    }

    fn insert(&mut self, uid: String, index: Index, sampler: Sampler) {
        if let Some(slot) = sampler.slot() {
            self.slots.insert(slot, index);
        }
        self.samplers.insert(index, sampler);
        self.indices.insert(uid, index);
    }

    /// Removes the sampler at an index; returns its slot.
    fn close(&mut self, index: Index) -> Option<Slot> {
        let slot = self.samplers.remove(&index)?.slot()?;
        self.slots.remove(&slot);
        Some(slot)
    }
}

impl Agent {
    /// A tracker reports a change.
    pub(super) fn changed(&mut self, change: Change) {
        match change {
            Change::Found(target) => self.found(*target),
            Change::Ready { uid, ready } => {
                if let Some(index) = self.registry.index_of(&uid) {
                    self.handle(Event::Ready(index, ready));
                }
            }
            Change::Lost { uid, instance } => self.lost(&uid, &instance),
            Change::Gone(uid) => self.gone(&uid),
            Change::Listed(listed) => {
                self.awaited.remove(POD_LIST);
                self.awaited.remove(CONTAINER_LIST);
                self.connected(true);
                self.give_up_the_past(&listed);
                self.give_up_resizes(&listed);
            }
            Change::Connected(connected) => self.connected(connected),
        }
    }

    fn connected(&self, connected: bool) {
        if self.node.is_some() {
            self.recorder.api_server(connected);
        }
    }

    /// A target was found: a new one, another instance of a known one, or other settings.
    fn found(&mut self, target: Target) {
        let known = self.registry.index_of(&target.id.uid);
        let index = known.unwrap_or_else(|| self.engine.vacant());
        let before = known.and_then(|index| self.engine.case(index));
        if let Some(before) = before.filter(|case| case.target.id == target.id && case.is_present())
        {
            let same_app = before.target.address == target.address
                && before.target.tls == target.tls
                && before.target.settings.health == target.settings.health;
            if let Some(sampler) = self.registry.sampler_mut(index).filter(|_| !same_app) {
                sampler.renew_app();
            }
            let resizes = target.settings.resize.is_some();
            if let Some(sampler) = self.registry.sampler_mut(index) {
                sampler.read_all(resizes);
            }
            let permitted = resizes && before.target.settings.resize.is_none();
            let tls = (before.target.settings.tls_probes != target.settings.tls_probes)
                .then(|| target.clone());
            self.handle(Event::Changed(index, Box::new(target)));
            if permitted {
                self.recall_resizes(index);
            }
            if let Some(target) = tls {
                self.set_tls(index, &target);
            }
            return;
        }
        self.close(index);
        self.recorder.found(&target, known.is_some());
        let life = self.registry.next_generation();
        let sampler = Sampler::open(&target, life, self.kernel.as_mut(), &*self.effects);
        let uid = target.id.uid.clone();
        self.awaited.remove(&uid);
        self.registry.insert(uid.clone(), index, sampler);
        self.recorder.targets(self.registry.indices.len());
        let tls = target.settings.tls_probes.then(|| target.clone());
        if known.is_some() {
            self.handle(Event::Changed(index, Box::new(target)));
        } else {
            self.handle(Event::Added(index, Box::new(target)));
            self.recall(index, &uid);
            self.recall_resizes(index);
        }
        if let Some(target) = tls {
            self.set_tls(index, &target);
        }
    }

    fn lost(&mut self, uid: &str, instance: &str) {
        let Some(index) = self.registry.index_of(uid) else { return };
        let case = self.engine.case(index);
        // The end of an earlier instance is outdated.
        if case.is_some_and(|case| case.target.id.instance == instance && case.is_present()) {
            self.handle(Event::Lost(index));
            if let Some(case) = self.engine.case(index) {
                self.recorder.lost(&case.target);
            }
        }
    }

    fn gone(&mut self, uid: &str) {
        let Some(index) = self.registry.indices.remove(uid) else { return };
        self.close(index);
        self.recorder.targets(self.registry.indices.len());
        self.handle(Event::Removed(index));
    }

    /// Stops sampling the instance at an index.
    fn close(&mut self, index: Index) {
        self.tls.remove(&index);
        if let (Some(slot), Some(kernel)) = (self.registry.close(index), self.kernel.as_mut())
            && let Err(error) = kernel.unwatch(slot)
        {
            warn!(%error, "cannot stop counting a former instance in the kernel");
        }
    }

    pub(super) fn forget(&mut self, index: Index) {
        if let Some(case) = self.engine.case(index) {
            self.recorder.forget(index, &case.target);
            if let Some(notifier) = &mut self.notifier {
                notifier.forget(&case.target);
            }
        }
        self.engine.forget(index);
    }

    /// All targets are known: the outcome of treatments of others by an earlier agent process cannot
    /// be known. A pod that exists and does not run yet is still awaited.
    fn give_up_the_past(&mut self, listed: &HashSet<String>) {
        let gone = |incident: &mut Incident| {
            let pod = incident.intent.target.uid.split('/').next().unwrap_or_default();
            !listed.contains(pod)
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
            let (remedy, treated) = (intent.remedy, intent.intended);
            let ended = outcome.zip(concluded);
            self.handle(Event::Recalled { index, remedy, treated, ended });
            if outcome.is_none() {
                warn!(
                    incident = id,
                    target = uid,
                    remedy = remedy.name(),
                    "found an intention without an outcome: it counts as applied and is verified"
                );
                let recovered = Recovered {
                    incident: id,
                    remedy,
                    before: intent.action,
                    judged: intent.target.instance,
                    symptom: intent.symptom,
                };
                self.handle(Event::Recovered(index, recovered));
            }
        }
    }
}
