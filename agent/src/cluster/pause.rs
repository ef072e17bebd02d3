//! One switch for the whole cluster: the annotation `paramedic.dev/paused` on Paramedic's own
//! namespace. It is read when something is about to be done, so it is obeyed at once and costs
//! nothing while nobody is ill.
use std::{sync::PoisonError, time::Duration};

use super::{ApiError, Cluster, within};
use crate::{
    guard::{Gate, Refusal, Why},
    moment::Moment,
    target::Rung,
};

/// The annotation. Any value but `false` pauses: in doubt do nothing.
pub(super) const PAUSED: &str = "paramedic.dev/paused";

/// An answer is used again for this long: many pods may be ill at once.
const FRESH: Duration = Duration::from_secs(3);

/// The switch as it was last seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    paused: bool,
    at: Moment,
}

impl Cluster {
    /// Whether healing is paused in the whole cluster.
    ///
    /// # Errors
    /// The refusal, if it is; or if that cannot be known, for a hard remedy. A soft one goes by
    /// what was last known.
    pub(super) async fn not_paused(&self, rung: Rung) -> Result<(), Refusal> {
        let known = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.filter(|known| self.clock.now().since(known.at) < FRESH);
        let paused = match fresh {
            Some(pause) => pause.paused,
            None => match self.read_switch().await {
                Ok(paused) => paused,
                Err(_) if !rung.is_hard() => known.is_some_and(|known| known.paused),
                Err(error) => return Err(no_answer(&error)),
            },
        };
        let why = || Why::ClusterPaused(self.identity.namespace.as_str().into());
        if paused { Err(Refusal { gate: Gate::Paused, why: why() }) } else { Ok(()) }
    }

    async fn read_switch(&self) -> Result<bool, ApiError> {
        let namespace = within(self.namespaces.get(&self.identity.namespace)).await?;
        let annotations = namespace.metadata.annotations.unwrap_or_default();
        let paused = annotations.get(PAUSED).is_some_and(|value| value != "false");
        let pause = Pause { paused, at: self.clock.now() };
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = Some(pause);
        Ok(paused)
    }
}

pub(super) fn no_answer(error: &ApiError) -> Refusal {
    Refusal { gate: Gate::ApiServer, why: Why::NoAnswer(error.to_string().into()) }
}
