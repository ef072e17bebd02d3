//! Resizing in place: more CPU for a target that its quota throttles, and more memory before the OOM
//! killer acts, within what its owner permits.
//!
//! This is a side track and no rung of the ladder of remedies: a rule decides and no model, nothing
//! is interrupted, and what is done is taken back later. A limit grows only under stress, and never
//! beyond the owner's factor times the template's value. After thirty quiet minutes it shrinks
//! again, half of the way at a time, and never below what the target uses.
//!
//! [`rule`] says when, [`plan`] by how much, [`track`] keeps what is in progress for one target.
//! Nothing here is hidden in memory: what a limit was and is stands in the pod, its template and the
//! journal.
mod amount;
mod answer;
mod ceilings;
mod plan;
pub mod rule;
mod track;

pub use amount::Resource;
pub use answer::{Answer, NoResize, Reason, ResizeOutcome};
pub use ceilings::{Ceilings, Factor, NotCeilings};
pub use plan::{Direction, Step, Wish, down, step, up};
pub use rule::Seen;
pub use track::{Concluded, Recalled, Track};
