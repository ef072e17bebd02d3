//! The scenes, in the order in which they are played. Each makes its own patients, makes them ill,
//! and says what was seen; what it made is taken away again.
mod agents;
mod fence;
mod heals;
mod refusals;
mod scaling;
mod sights;

use anyhow::Result;

use super::stage::Stage;

pub(super) use refusals::bystanders;

/// One scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What was seen, in a few words.
    pub(super) play: fn(&Stage<'_>) -> Result<String>,
}

pub(super) const SCENES: [Scene; 13] = [
    Scene {
        name: "soft-heal",
        about: "Eight errors, label soft: reset by POST /heal, and kubectl describe tells it.",
        play: heals::soft,
    },
    Scene {
        name: "restart",
        about: "An illness that no reset clears, label restart: the container anew, in place.",
        play: heals::restart,
    },
    Scene {
        name: "evict",
        about: "A preStop hook forbids a restart from outside, label evict: another pod.",
        play: heals::evict,
    },
    Scene {
        name: "budget",
        about: "The disruption budget is spent: nothing hard until it permits it.",
        play: refusals::budget,
    },
    Scene {
        name: "pause",
        about: "An annotation pauses the whole cluster, and its removal ends that.",
        play: refusals::pause,
    },
    Scene {
        name: "bad-setting",
        about: "An annotation that cannot be read: told, and only observed until it is corrected.",
        play: refusals::bad_setting,
    },
    Scene {
        name: "illnesses",
        about: "Every illness of the patient: what paramedic explain says of it.",
        play: sights::illnesses,
    },
    Scene {
        name: "metrics",
        about: "The agent's metrics tell of a healed pod, and forget one that is gone.",
        play: sights::metrics,
    },
    Scene {
        name: "metrics-api",
        about: "What the agents measured, by way of the API server, for those who may read it.",
        play: scaling::metrics_api,
    },
    Scene {
        name: "autoscaling",
        about: "Load on a workload of two, and an HPA on requests per second alone.",
        play: scaling::autoscaling,
    },
    Scene {
        name: "fence",
        about: "What an agent's token cannot do, whoever holds it.",
        play: fence::fence,
    },
    Scene {
        name: "bystanders",
        about: "Healthy, ill without consent, ill and only observed: none was touched meanwhile.",
        play: refusals::untouched,
    },
    Scene {
        name: "new-agent",
        about: "The agent's pod is deleted: its successor knows what was done.",
        play: agents::restart,
    },
];
