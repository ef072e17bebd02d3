//! Listening sockets, and connections that are cut off when their peer takes nothing.
mod listener;
mod patience;

pub use listener::Listener;
pub use patience::Patience;
