//! The scenes, in the order in which they are played. Each runs its own containers, which are
//! removed when it is over.
mod broken;
mod compose;
mod containers;
mod guide;
mod images;
mod resize;
mod watch;

use anyhow::Result;

use super::stage::Stage;

/// One scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Plays it and returns what was observed, in a few words.
    pub(super) play: fn(&mut Stage<'_>) -> Result<String>,
}

pub(super) const SCENES: [Scene; 11] = [
    Scene {
        name: "patient-image",
        about: "The image of patient-app is loaded and runs as an unprivileged user.",
        play: images::patient,
    },
    Scene {
        name: "agent-image",
        about: "The agent's image has every kernel signal, with compose.yaml's rights alone.",
        play: images::agent,
    },
    Scene {
        name: "watch-soft",
        about: "A container by its name, eight errors: a reset, no restart.",
        play: watch::soft,
    },
    Scene {
        name: "watch-signal",
        about: "The same by SIGHUP, which its owner names, through the engine.",
        play: watch::signal,
    },
    Scene {
        name: "watch-restart",
        about: "An illness that no reset clears: the engine restarts the container.",
        play: watch::restart,
    },
    Scene {
        name: "labels",
        about: "All containers that consent by label are watched, and no others, while they come and go.",
        play: containers::labels,
    },
    Scene {
        name: "resize",
        about: "Memory that fills up, label resize: the engine raises the limit before it is exceeded.",
        play: resize::memory,
    },
    Scene {
        name: "engine-restart",
        about: "The engine stops and starts again: the agent keeps running, and heals afterwards.",
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
        about: "No engine, no permission, no such container: one sentence each.",
        play: broken::setups,
    },
];
