//! Listening sockets, and connections that are closed if the peer stops reading.
mod listener;
mod patience;

pub use listener::Listener;
pub use patience::Patience;
