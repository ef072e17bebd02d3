//! The pause switch of the cluster: the annotation `paramedic.dev/paused` on Paramedic's own
//! namespace. It is read before each remedy, so it takes effect at once and costs nothing while all
//! targets are well.
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use paramedic_api_server::ApiError;
use paramedic_core::{
    boot_time::BootTime,
    guard::{Gate, Refusal, Why},
    target::Remedy,
};
use tokio::time::timeout;

use super::Cluster;

/// The annotation. Any value but `false` pauses: in doubt do nothing.
pub const PAUSED: &str = "paramedic.dev/paused";

/// Whether Paramedic's own namespace pauses the agents.
#[must_use]
pub fn is_paused(namespace: &Namespace) -> bool {
    let annotations = namespace.metadata.annotations.as_ref();
    let value = annotations.and_then(|annotations| annotations.get(PAUSED));
    value.is_some_and(|value| value != "false")
}

/// Maximum age of an answer, counted from its request. A slower response is not used: a pause takes
/// effect within five seconds, including the act itself.
const FRESH: Duration = Duration::from_secs(2);
/// After a request without a response, wait this long before the next one.
const GIVE_UP: Duration = Duration::from_secs(5);

/// The switch as it was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    paused: bool,
    /// When the request of that answer was sent.
    asked: Option<BootTime>,
    /// When a request remained without a response.
    in_vain: Option<BootTime>,
}

impl Cluster {
    /// Whether healing is not paused in the cluster.
    ///
    /// # Errors
    /// The refusal, if it is paused; or for a hard remedy, if that is unknown. A soft remedy uses
    /// the last known state.
    pub(super) async fn not_paused(&self, remedy: Remedy) -> Result<(), Refusal> {
        let may_guess = !remedy.is_hard();
        let _one_at_a_time = self.asking_pause.lock().await;
        let known = *self.pause.lock();
        let now = self.clock.now();
        let within = |at: Option<BootTime>, span| at.is_some_and(|at| now.since(at) < span);
        let in_vain = within(known.in_vain, GIVE_UP);
        if in_vain && !may_guess {
            return Err(no_answer(&ApiError::TimedOut));
        }
        let paused = if within(known.asked, FRESH) || in_vain {
            known.paused
        } else {
            match self.read_switch(now).await {
                Ok(paused) => paused,
                Err(_) if may_guess => known.paused,
                Err(error) => return Err(no_answer(&error)),
            }
        };
        let why = || Why::ClusterPaused(self.identity.namespace.as_str().into());
        if paused { Err(Refusal { gate: Gate::Paused, why: why() }) } else { Ok(()) }
    }

    async fn read_switch(&self, asked: BootTime) -> Result<bool, ApiError> {
        let answer = timeout(FRESH, self.namespaces.get(&self.identity.namespace)).await;
        let answer = answer.map_err(|_| ApiError::TimedOut).and_then(|answer| Ok(answer?));
        let mut known = self.pause.lock();
        match answer {
            Ok(namespace) => {
                let paused = is_paused(&namespace);
                *known = Pause { paused, asked: Some(asked), in_vain: None };
                Ok(paused)
            }
            Err(error) => {
                known.in_vain = Some(asked);
                Err(error)
            }
        }
    }
}

pub(super) fn no_answer(error: &ApiError) -> Refusal {
    Refusal { gate: Gate::ApiServer, why: Why::NoAnswer(error.to_string().into()) }
}
