//! The active illnesses, and the threads and memory that belong to them.
use std::collections::TryReserveError;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::burn::Burning;
use super::leak::Leaking;
use super::{ClearedBy, Errors, Hang, Illness, Lie, Name, Ratio, Resets, Slow, Stuck};

/// The active illnesses at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Illnesses([Option<Illness>; Name::COUNT]);

impl Illnesses {
    /// The parameters of an illness, if it is active.
    pub(crate) const fn get(&self, name: Name) -> Option<Illness> {
        self.0[name as usize]
    }

    pub(crate) const fn errors(&self) -> Option<Errors> {
        if let Some(Illness::Errors(errors)) = self.get(Name::Errors) { Some(errors) } else { None }
    }

    pub(crate) const fn stuck(&self) -> Option<Stuck> {
        if let Some(Illness::Stuck(stuck)) = self.get(Name::Stuck) { Some(stuck) } else { None }
    }

    pub(crate) const fn hang(&self) -> Option<Hang> {
        if let Some(Illness::Hang(hang)) = self.get(Name::Hang) { Some(hang) } else { None }
    }

    pub(crate) const fn slow(&self) -> Option<Slow> {
        if let Some(Illness::Slow(slow)) = self.get(Name::Slow) { Some(slow) } else { None }
    }

    pub(crate) const fn resets(&self) -> Option<Resets> {
        if let Some(Illness::Resets(resets)) = self.get(Name::Resets) { Some(resets) } else { None }
    }

    pub(crate) const fn lie(&self) -> Option<Lie> {
        if let Some(Illness::Lie(lie)) = self.get(Name::Lie) { Some(lie) } else { None }
    }

    /// The share of `/data` that fails, given the share without an illness.
    pub(crate) fn failure_ratio(&self, ordinary: Ratio, uptime: Duration) -> Ratio {
        let errors = self.errors().filter(|errors| errors.are_there(uptime));
        errors.map_or(ordinary, |errors| errors.ratio)
    }
}

/// Why an illness cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot start another thread: {0}; use fewer threads")]
    Thread(#[from] io::Error),
    #[error("cannot reserve that much address space: {0}; use a smaller max_mib")]
    Memory(#[from] TryReserveError),
}

#[derive(Debug, Default)]
struct Effects {
    leaking: Option<Leaking>,
    burning: Option<Burning>,
}

/// Starts and ends illnesses.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    illnesses: watch::Sender<Illnesses>,
    effects: Mutex<Effects>,
}

impl Registry {
    /// The active illnesses.
    pub(crate) fn snapshot(&self) -> Illnesses {
        *self.illnesses.borrow()
    }

    /// MiB that the illness `leak` holds now.
    pub(crate) fn leaked_mib(&self) -> usize {
        self.effects().leaking.as_ref().map_or(0, Leaking::held_mib)
    }

    /// Starts an illness; an active one restarts with the new parameters.
    ///
    /// # Errors
    /// If its threads or memory are not available: it is then inactive.
    pub(crate) fn start(&self, illness: Illness) -> Result<(), StartError> {
        self.end(illness.name());
        match illness {
            Illness::Leak(leak) => self.effects().leaking = Some(Leaking::start(leak)?),
            Illness::Burn(burn) => self.effects().burning = Some(Burning::start(burn)?),
            _ => {}
        }
        self.set(illness.name(), Some(illness));
        Ok(())
    }

    /// Ends an illness; its threads have ended and its memory is released when this returns.
    pub(crate) fn end(&self, name: Name) {
        match name {
            Name::Leak => self.effects().leaking = None,
            Name::Burn => self.effects().burning = None,
            _ => {}
        }
        self.set(name, None);
    }

    /// Handles a soft remedy. Returns whether the error count may be reset: not while an illness
    /// needs a restart.
    pub(crate) fn take_soft_heal(&self) -> bool {
        let all = self.snapshot();
        for name in Name::ALL {
            if all.get(name).is_some_and(|illness| illness.cleared_by() == ClearedBy::ResetErrors) {
                self.end(name);
            }
        }
        !matches!(all.errors(), Some(Errors { cleared_by: ClearedBy::Restart, .. }))
    }

    /// Returns once `holds_up` is false for every active illness.
    pub(crate) async fn wait_until_not(&self, holds_up: impl Fn(&Illnesses) -> bool) {
        // The only error is a dropped sender, and the sender lives here.
        let _ = self.illnesses.subscribe().wait_for(|now| !holds_up(now)).await;
    }

    fn set(&self, name: Name, illness: Option<Illness>) {
        self.illnesses.send_modify(|illnesses| illnesses.0[name as usize] = illness);
    }

    fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
