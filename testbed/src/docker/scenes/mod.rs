//! The scenes, in the order in which they are played. Each runs its own containers, which are removed
//! when it is over.
mod broken;
mod compose;
mod containers;
mod guide;
mod images;
mod watch;

use anyhow::Result;

use super::stage::Stage;

/// One scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What was seen, in a few words.
    pub(super) play: fn(&mut Stage<'_>) -> Result<String>,
}

pub(super) const SCENES: [Scene; 9] = [
    Scene {
        name: "patient-image",
        about: "The patient's image is loaded and runs, as nobody in particular.",
        play: images::patient,
    },
    Scene {
        name: "agent-image",
        about: "The agent's image sees what the kernel sees, with compose.yaml's rights alone.",
        play: images::agent,
    },
    Scene {
        name: "watch-soft",
        about: "A container by its name, eight errors: reset, and it runs on.",
        play: watch::soft,
    },
    Scene {
        name: "watch-restart",
        about: "An illness that no reset clears: the engine restarts the container.",
        play: watch::restart,
    },
    Scene {
        name: "labels",
        about: "All that consent by label are watched, and no others, while they come and go.",
        play: containers::labels,
    },
    Scene {
        name: "engine-restart",
        about: "The engine stops and starts again: the agent outlives it, and heals afterwards.",
        play: containers::engine_restart,
    },
    Scene {
        name: "compose",
        about: "compose.yaml as it is: up, ten errors, healed, down.",
        play: compose::story,
    },
    Scene {
        name: "guide",
        about: "Getting started: the guide's own session, command by command.",
        play: guide::session,
    },
    Scene {
        name: "broken",
        about: "No engine, no permission, no such container: each is told in one sentence.",
        play: broken::setups,
    },
];
