//! The second look, after a drain and before the restart.
//!
//! A drained target gets no requests, so its window empties: that it shows no errors then proves
//! nothing, and the first decision stands. What is asked again are the gates that may have closed
//! meanwhile, and whether it answers its health check well, if that was what it failed.
use super::{Gate, Policy, Question, Symptom, Why, journal, mode, node_network, paused, window};
use crate::{health::Heard, target::Remedy};

/// Whether a remedy that was permitted before a drain still is. `heard` is the result of a poll
/// after the drain, if the target is polled.
///
/// # Errors
/// Why not, as a sentence.
pub fn still_permitted(
    q: &Question<'_>,
    remedy: Remedy,
    heard: Option<Heard>,
    policy: &Policy,
) -> Result<(), String> {
    if let Some(why) = recovered(q.symptom, heard) {
        return Err(why.to_owned());
    }
    type Check = fn(&Question<'_>, Remedy, &Policy) -> Option<Why>;
    const CHECKS: [(Gate, Check); 5] = [
        (Gate::Mode, mode),
        (Gate::NodeNetwork, node_network),
        (Gate::Journal, journal),
        (Gate::Paused, paused),
        (Gate::Window, window),
    ];
    for (gate, check) in CHECKS {
        if let Some(why) = check(q, remedy, policy) {
            return Err(format!("gate {}: {why}", gate.name()));
        }
    }
    Ok(())
}

/// Whether the health check shows what the symptom was about: silence, or a bad report. Of errors it
/// knows nothing.
fn recovered(symptom: Symptom, heard: Option<Heard>) -> Option<&'static str> {
    match (symptom, heard?) {
        (_, Heard::NotNow) => Some("it says that it does not serve now"),
        (Symptom::Silence | Symptom::SaysIll, Heard::Well) => Some("it answers well again"),
        (_, Heard::Blames) => Some("it blames a dependency"),
        _ => None,
    }
}
