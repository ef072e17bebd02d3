//! The scenes, in the order in which they are played. Each makes its own pods, injects faults, and
//! returns what it observed. Its pods are deleted afterwards.
mod agents;
mod aside;
mod fence;
mod heals;
mod policy;
mod refusals;
mod resize;
mod scaling;
mod sights;
mod told;

use anyhow::Result;

use super::stage::Stage;

pub(super) use refusals::bystanders;

/// One scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Plays it and returns what was observed, in a few words.
    pub(super) play: fn(&Stage<'_>) -> Result<String>,
}

pub(super) const SCENES: [Scene; 21] = [
    Scene {
        name: "soft-heal",
        about: "Eight errors, label soft: reset by POST /heal, and kubectl describe shows it.",
        play: heals::soft,
    },
    Scene {
        name: "restart",
        about: "An illness that no reset clears, label restart: the container is restarted in place.",
        play: heals::restart,
    },
    Scene {
        name: "evict",
        about: "A preStop hook rules out a restart in place, label evict: the pod is replaced.",
        play: heals::evict,
    },
    Scene {
        name: "approval",
        about: "The owner wants to be asked: no restart until just that request is approved.",
        play: heals::approval,
    },
    Scene {
        name: "drain",
        about: "The pod leaves its Service, is restarted, and is back: an endpoint less in between.",
        play: aside::drain,
    },
    Scene {
        name: "quarantine",
        about: "In place of an eviction the pod is kept, and paramedic release puts it back.",
        play: aside::quarantine,
    },
    Scene {
        name: "resize",
        about: "Memory that fills up, annotation resize: the limit grows in place before it is exceeded.",
        play: resize::resize,
    },
    Scene {
        name: "budget",
        about: "The disruption budget is spent: no hard remedy until it permits one.",
        play: refusals::budget,
    },
    Scene {
        name: "pause",
        about: "An annotation pauses the whole cluster, and its removal ends that.",
        play: refusals::pause,
    },
    Scene {
        name: "bad-setting",
        about: "An annotation that cannot be read: an Event, and the pod is only observed until it is corrected.",
        play: refusals::bad_setting,
    },
    Scene {
        name: "illnesses",
        about: "Every illness of patient-app: what paramedic explain shows.",
        play: sights::illnesses,
    },
    Scene {
        name: "metrics",
        about: "The agent's metrics show a healed pod, and drop one that is gone.",
        play: sights::metrics,
    },
    Scene {
        name: "metrics-api",
        about: "The agents' measurements through the API server, for users who may read them.",
        play: scaling::metrics_api,
    },
    Scene {
        name: "autoscaling",
        about: "Load on a workload of two pods, and an HPA on requests per second alone.",
        play: scaling::autoscaling,
    },
    Scene {
        name: "fence",
        about: "What an agent's token cannot do in the hands of an attacker.",
        play: fence::fence,
    },
    Scene {
        name: "policy",
        about: "A HealingPolicy reaches running pods, a fault is healed, and with the policy its keys go.",
        play: policy::policy,
    },
    Scene {
        name: "cap",
        about: "A label of the namespace caps all ceilings in it, in the agent and in the fence.",
        play: policy::cap,
    },
    Scene {
        name: "policy-fence",
        about: "What the policy controller's token cannot change on a pod.",
        play: policy::fence,
    },
    Scene {
        name: "bystanders",
        about: "Healthy, ill without consent, ill and only observed: none was touched.",
        play: refusals::untouched,
    },
    Scene {
        name: "new-agent",
        about: "The agent's pod is deleted: its successor knows the earlier remedies.",
        play: agents::restart,
    },
    Scene {
        name: "notification",
        about: "Agents with a webhook: a pod is healed, and the receiver is told.",
        play: told::notification,
    },
];
