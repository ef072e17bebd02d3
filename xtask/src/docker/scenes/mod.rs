//! The scenes, in the order in which they are played. Each runs its own containers, which are removed
//! when it is over.
mod images;

use anyhow::Result;

use super::stage::Stage;

/// One scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What was seen, in a few words.
    pub(super) play: fn(&mut Stage<'_>) -> Result<String>,
}

pub(super) const SCENES: [Scene; 2] = [
    Scene {
        name: "patient-image",
        about: "The patient's image is loaded and runs, as nobody in particular.",
        play: images::patient,
    },
    Scene {
        name: "agent-image",
        about: "The agent's image sees what the kernel sees, with five capabilities.",
        play: images::agent,
    },
];
