//! How long things take in the simulated cluster.
use std::time::Duration;

use crate::FakeApi;

/// How long things take in the simulated cluster. The defaults are about what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Until a controller makes up for a pod that is gone.
    pub replace: Duration,
    /// From a new pod to its containers running.
    pub start: Duration,
    /// From a container running to it being ready; zero: in the same moment.
    pub ready: Duration,
    /// Until the kubelet notices that a container died.
    pub notice: Duration,
    /// From a container's death to it running again, where nothing is backed off.
    pub restart: Duration,
    /// The first back-off, counted from the death. It doubles with each death, up to 5 minutes,
    /// and is forgotten after [`Timing::forget`].
    pub back_off: Duration,
    /// What a back-off takes longer than it says: the kubelet looks only now and then.
    pub resync: Duration,
    /// A container that ran this long restarts without back-off again.
    pub forget: Duration,
    /// How long a process takes to exit when its pod is deleted; `None`: it is killed when the
    /// pod's grace period is over.
    pub termination: Option<Duration>,
    /// How old an Event becomes.
    pub event_ttl: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            replace: Duration::from_millis(100),
            start: Duration::from_secs(1),
            ready: Duration::from_secs(1),
            notice: Duration::from_millis(750),
            restart: Duration::from_millis(900),
            back_off: Duration::from_secs(10),
            resync: Duration::from_secs(3),
            forget: Duration::from_secs(600),
            termination: None,
            event_ttl: Duration::from_secs(3600),
        }
    }
}

/// Timing.
impl FakeApi {
    /// Sets how long things take from now on.
    pub fn set_timing(&self, timing: Timing) {
        self.with(|state| state.cluster.timing = timing);
    }
}
