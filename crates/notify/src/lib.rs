//! Tells people what the agent did, and what it could not do: by webhook, Slack, Alertmanager or
//! PagerDuty.
//!
//! The loop hands facts to the [`Notifier`] and never waits. The pure [`teller`] decides what is worth
//! telling and groups it by problem. The [`Sender`] writes each notification to the journal and hands
//! it to one task per channel, which sends it until the receiver accepts or refuses it for good. No
//! decision depends on any of this: without it the agent would heal in the same way.
pub mod notification;
pub mod teller;
mod address;
mod channel;
mod delivery;
mod notifier;
mod payload;
mod post;
mod queue;
mod retry;
mod roots;
mod secret;
mod sender;
mod signature;
#[cfg(test)]
mod tests;

pub use channel::{Channel, Kind, SpecError, specs};
pub use notifier::Notifier;
pub use secret::Secret;
pub use sender::{Sender, start};
