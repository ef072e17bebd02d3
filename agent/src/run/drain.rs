//! Drains a pod before its restart: out of its Services, a wait, and a second look at everything that
//! may have changed meanwhile.
use std::sync::Arc;

use paramedic_core::{engine::Index, health::Heard, target::Remedy};
use paramedic_kubernetes::{Cluster, Drain, Drained};
use tokio::sync::oneshot;
use tracing::info;

use super::{
    Agent, TaskResult,
    treat::{Treated, Treatment},
};

/// What became of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drainage {
    /// It was drained, and the restart followed.
    Done,
    /// There was nothing to drain.
    Nothing,
    /// It was drained or was to be, and there was no restart.
    Abandoned,
}

impl Drainage {
    /// As in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Done => "drained",
            Self::Nothing => "nothing_to_drain",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A drain would spare no client: none got a good response.
const SERVES_NOBODY: &str = "it has served nobody within the last 10 s";

impl Agent {
    /// Whether a drained target may still be restarted, by what the loop knows.
    pub(super) fn still_wanted(
        &mut self,
        index: Index,
        uid: &str,
        heard: Option<Heard>,
    ) -> Result<(), String> {
        self.refresh_switches();
        if self.engine.case(index).is_none_or(|case| case.target.id.uid != uid) {
            return Err("it was removed".to_owned());
        }
        self.engine.still_permits(index, heard, self.clock.now())
    }
}

impl Treatment {
    /// Takes the pod out of its Services and waits, if its owner wants that and somebody is served.
    /// The pod goes back when the result is dropped.
    ///
    /// # Errors
    /// Why there must be no restart.
    pub(super) async fn drain(&self, treated: &mut Treated) -> Result<Option<Drained>, String> {
        let (Some(cluster), Some(pod), Some(lock)) = (&self.cluster, self.target.pod(), &self.lock)
        else {
            return Ok(None);
        };
        let name = self.target.name.as_str();
        let span = match (lock.drain(), self.serves) {
            (Drain::No, _) => return Ok(None),
            (Drain::Nothing(reason), _) => Err(reason),
            (Drain::For(_), Some(false)) => Err(SERVES_NOBODY),
            (Drain::For(span), _) => Ok(span),
        };
        let span = match span {
            Ok(span) => span,
            Err(reason) => {
                info!(target = name, reason, "restarting without a drain");
                treated.drained = Some(Drainage::Nothing);
                return Ok(None);
            }
        };
        treated.drained = Some(Drainage::Abandoned);
        let seconds = span.as_secs();
        let drained = cluster.drain(pod, lock, span).await;
        let drained = drained.map_err(|why| format!("cannot drain it: {why}"))?;
        info!(target = name, seconds, "drained: out of its Services");
        let mut halt = self.halt.clone();
        tokio::select! {
            waited = cluster.wait_drained(span) => {
                waited.map_err(|why| back(&why))?;
            }
            _ = halt.wait_for(|halt| *halt) => {
                return Err(back("healing was paused, or the agent stops"));
            }
        }
        self.look_again(cluster, treated).await.map_err(|why| back(&why))?;
        treated.drained = Some(Drainage::Done);
        Ok(Some(drained))
    }

    /// Asks everything again that may have changed: its health check, the cluster, the node.
    async fn look_again(
        &self,
        cluster: &Arc<Cluster>,
        treated: &mut Treated,
    ) -> Result<(), String> {
        let heard = self.poll(treated).await;
        if let (Some(pod), Some(lock)) = (self.target.pod(), &self.lock) {
            let clear = cluster.still_clear(pod, Remedy::Restart, lock).await;
            clear.map_err(|refusal| format!("gate {}: {}", refusal.gate.name(), refusal.why))?;
        }
        let (reply, answer) = oneshot::channel();
        let uid = self.target.id.uid.clone();
        let ask = TaskResult::StillWanted { index: self.index, uid, heard, reply };
        // The loop is gone only when the agent stops.
        let _ = self.done.send(ask).await;
        answer.await.unwrap_or_else(|_| Err("the agent stops".to_owned()))
    }

    /// Polls its health once more. The responses are not its clients'.
    async fn poll(&self, treated: &mut Treated) -> Option<Heard> {
        let poll = self.effects.poller(&self.target)?.poll(self.clock.now()).await;
        for (sum, more) in treated.responses.iter_mut().zip(poll.responses) {
            *sum += more;
        }
        Some(poll.heard())
    }
}

/// The reason in the outcome.
fn back(why: &str) -> String {
    format!("drained and put back, not restarted: {why}")
}
