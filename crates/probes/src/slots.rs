//! Assigns the slots of the maps, and the keys that lead to them.
//!
//! Pure bookkeeping. A freed slot is reused as late as possible, and each time under a new
//! generation, so that a late wake-up is recognised as one of the past.
use std::collections::{HashMap, VecDeque};

use agent_common::{Key, scope};
use paramedic_core::target::{Cgroup, Target};

/// A watched target's slot in the kernel's maps. It never equals the slot of another target, or of
/// the same one watched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A change to the map of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Insert(Key, u32),
    Remove(Key),
}

#[derive(Debug)]
pub(super) struct Slots {
    free: VecDeque<u32>,
    /// By index: the generation in use, or the last one.
    generations: Vec<u32>,
    taken: HashMap<u32, Vec<Key>>,
    /// The slots that claim each key, in order: the first has it.
    claims: HashMap<Key, Vec<u32>>,
}

impl Slots {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            free: (0..capacity).collect(),
            generations: vec![0; capacity as usize],
            taken: HashMap::new(),
            claims: HashMap::new(),
        }
    }

    /// Whether a target has this key.
    pub(super) fn is_claimed(&self, key: &Key) -> bool {
        self.claims.contains_key(key)
    }

    /// Takes a slot; `None` if none is free.
    pub(super) fn take(&mut self) -> Option<Slot> {
        let index = self.free.pop_front()?;
        let generation = self.generations.get_mut(index as usize)?;
        // 0 means disarmed to the kernel side.
        *generation = generation.wrapping_add(1).max(1);
        self.taken.insert(index, Vec::new());
        Some(Slot { index, generation: *generation })
    }

    /// Whether the slot still belongs to its owner.
    pub(super) fn is_current(&self, slot: Slot) -> bool {
        self.taken.contains_key(&slot.index)
            && self.generations.get(slot.index as usize) == Some(&slot.generation)
    }

    /// Claims keys for a slot. A key that another slot has stays there until that slot is freed.
    pub(super) fn claim(&mut self, slot: Slot, keys: &[Key]) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in keys {
            let claims = self.claims.entry(*key).or_default();
            if claims.is_empty() {
                changes.push(Change::Insert(*key, slot.index));
            }
            claims.push(slot.index);
        }
        self.taken.entry(slot.index).or_default().extend_from_slice(keys);
        changes
    }

    /// Frees a slot; each of its keys goes to the next claimant. Does nothing if the slot is
    /// outdated.
    pub(super) fn release(&mut self, slot: Slot) -> Vec<Change> {
        if !self.is_current(slot) {
            return Vec::new();
        }
        let keys = self.taken.remove(&slot.index).unwrap_or_default();
        let changes = keys.into_iter().filter_map(|key| self.unclaim(slot, key)).collect();
        self.free.push_back(slot.index);
        changes
    }

    /// Gives up some of a slot's keys, likewise.
    pub(super) fn give_up(&mut self, slot: Slot, which: impl Fn(&Key) -> bool) -> Vec<Change> {
        if !self.is_current(slot) {
            return Vec::new();
        }
        let Some(keys) = self.taken.get_mut(&slot.index) else { return Vec::new() };
        let given: Vec<Key> = keys.extract_if(.., |key| which(key)).collect();
        given.into_iter().filter_map(|key| self.unclaim(slot, key)).collect()
    }

    fn unclaim(&mut self, slot: Slot, key: Key) -> Option<Change> {
        let claims = self.claims.entry(key).or_default();
        let had_it = claims.first() == Some(&slot.index);
        claims.retain(|index| *index != slot.index);
        match claims.first() {
            None => {
                self.claims.remove(&key);
                Some(Change::Remove(key))
            }
            Some(heir) if had_it => Some(Change::Insert(key, *heir)),
            Some(_) => None,
        }
    }
}

/// The cgroup of a target's traffic: its listening socket's own, if it is known to differ from the
/// process's. Other services may have sockets there too (a service manager creates them for many).
/// So without a port to distinguish them it is not watched: another service's errors would count
/// for the target.
pub(super) fn traffic_cgroup(target: &Target) -> Option<&Cgroup> {
    let sockets = target.cgroups.traffic.as_ref().filter(|_| target.port.is_some());
    sockets.or(target.cgroups.unified.as_ref())
}

/// The key under which a target's traffic is counted.
pub(super) fn traffic_key(target: &Target) -> Option<Key> {
    let cgroup = traffic_cgroup(target)?;
    Some(Key::new(cgroup.id, target.port.unwrap_or(0), scope::TRAFFIC))
}

/// The keys of signals of a whole cgroup, which is always the process's own: its processes are
/// killed there, and create their client sockets there. Its calls as a client cannot be narrowed to
/// its port, so they are left out if other processes share the cgroup.
pub(super) fn cgroup_keys(target: &Target) -> Vec<Key> {
    let cgroups = &target.cgroups;
    let mut keys = Vec::with_capacity(3);
    if let Some(unified) = &cgroups.unified {
        keys.push(Key::new(unified.id, 0, scope::MEMORY));
        if !cgroups.shared || target.port.is_none() {
            keys.push(Key::new(unified.id, 0, scope::UPSTREAM));
        }
    }
    if let Some(cpu) = &cgroups.cpu {
        keys.push(Key::new(cpu.id, 0, scope::CPU));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::new(7, 0, scope::CPU);

    #[test]
    fn slots_run_out_and_come_back_under_a_new_generation() {
        let mut slots = Slots::new(1);
        let first = slots.take().unwrap();
        assert_eq!(slots.take(), None);
        assert_eq!(slots.release(first), []);
        assert!(!slots.is_current(first));
        let second = slots.take().unwrap();
        assert_eq!(second.index, first.index);
        assert_ne!(second, first);
        assert!(slots.is_current(second));
        assert_eq!(slots.release(first), [], "the old owner frees nothing any more");
        assert!(slots.is_current(second));
    }

    #[test]
    fn the_slot_freed_longest_ago_is_used_first() {
        let mut slots = Slots::new(3);
        let first = slots.take().unwrap();
        slots.release(first);
        assert_eq!(slots.take().unwrap().index, 1);
        assert_eq!(slots.take().unwrap().index, 2);
        assert_eq!(slots.take().unwrap().index, 0);
    }

    #[test]
    fn generation_zero_is_never_used() {
        let mut slots = Slots::new(1);
        slots.generations[0] = u32::MAX;
        assert_eq!(slots.take().unwrap().generation, 1);
    }

    #[test]
    fn traffic_goes_by_the_sockets_cgroup_and_all_else_by_the_processs() {
        let cgroup = |id| Some(Cgroup { path: format!("/c/{id}").into(), id });
        let mut target = Target::for_tests("a", 1);
        target.cgroups.unified = cgroup(7);
        target.cgroups.shared = false;
        target.port = Some(80);
        let others = cgroup_keys(&target);
        assert_eq!(traffic_key(&target), Some(Key::new(7, 80, scope::TRAFFIC)));

        target.cgroups.traffic = cgroup(9);
        assert_eq!(traffic_key(&target), Some(Key::new(9, 80, scope::TRAFFIC)));
        assert_eq!(cgroup_keys(&target), others);
        assert!(others.contains(&Key::new(7, 0, scope::UPSTREAM)));

        target.port = None;
        let unknown = traffic_key(&target);
        assert_eq!(unknown, Some(Key::new(7, 0, scope::TRAFFIC)), "others' sockets are there too");
    }

    #[test]
    fn the_first_claimant_has_the_key_and_the_next_inherits_it() {
        let mut slots = Slots::new(3);
        let [a, b, c] = [(); 3].map(|()| slots.take().unwrap());
        assert_eq!(slots.claim(a, &[KEY]), [Change::Insert(KEY, a.index)]);
        assert_eq!(slots.claim(b, &[KEY]), []);
        assert_eq!(slots.claim(c, &[KEY]), []);
        assert_eq!(slots.release(b), [], "it never had the key");
        assert_eq!(slots.release(a), [Change::Insert(KEY, c.index)]);
        assert!(slots.is_claimed(&KEY));
        assert_eq!(slots.release(c), [Change::Remove(KEY)]);
        assert!(!slots.is_claimed(&KEY));
    }

    #[test]
    fn a_key_can_be_given_up_without_the_slot() {
        const OTHER: Key = Key::new(7, 0, scope::TLS);
        let mut slots = Slots::new(1);
        let slot = slots.take().unwrap();
        slots.claim(slot, &[KEY, OTHER]);
        let is_other = |key: &Key| key.scope == scope::TLS;
        assert_eq!(slots.give_up(slot, is_other), [Change::Remove(OTHER)]);
        assert_eq!(slots.give_up(slot, is_other), []);
        assert!(slots.is_claimed(&KEY) && !slots.is_claimed(&OTHER));
        assert_eq!(slots.release(slot), [Change::Remove(KEY)]);
    }
}
