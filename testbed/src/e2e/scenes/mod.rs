//! The scenes, in the order in which they are played. Each makes its own pods, injects faults, and
//! returns what it observed. Its pods are deleted afterwards.
mod agents;
mod across;
mod aside;
mod fence;
mod heals;
mod lost;
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

/// What a cluster has.
#[derive(Clone, Copy, Debug)]
pub(super) struct There {
    pub(super) nodes: usize,
    /// Whether `cargo xtask cluster` made it, which can stop a node.
    pub(super) ours: bool,
}

/// What a scene needs and the cluster has not.
pub(super) fn lacks(scene: &Scene, there: There) -> Option<&'static str> {
    match scene.name {
        across::FENCE | across::LOCK | lost::NAME if there.nodes < 2 => {
            Some("one node (cargo xtask cluster has two)")
        }
        lost::NAME if !there.ours => Some("no node can be stopped (cargo xtask cluster can)"),
        _ => None,
    }
}

pub(super) const SCENES: [Scene; 24] = [
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
        name: across::FENCE,
        about: "A token of one node's agent, tried on the pods of another node.",
        play: across::fence,
    },
    Scene {
        name: across::LOCK,
        about: "Two sick pods of one workload on two nodes: one agent at a time.",
        play: across::lock,
    },
    Scene {
        name: "bystanders",
        about: "Healthy, ill without consent, ill and only observed: none was touched.",
        play: refusals::untouched,
    },
    // After the bystanders, some of which end with the node.
    Scene {
        name: lost::NAME,
        about: "A node is lost with a drained pod and the lock: the lock expires, the pod comes back.",
        play: lost::lost,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_across_nodes_are_played_where_there_are_two() {
        let left_out = |nodes, ours| -> Vec<&str> {
            let there = There { nodes, ours };
            SCENES.iter().filter(|scene| lacks(scene, there).is_some()).map(|s| s.name).collect()
        };
        assert_eq!(left_out(1, true), [across::FENCE, across::LOCK, lost::NAME]);
        assert_eq!(left_out(2, false), [lost::NAME]);
        assert_eq!(left_out(3, true), [""; 0]);
    }
}
