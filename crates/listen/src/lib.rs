//! Listening sockets, and connections that are closed if the peer stops reading.
mod listener;
mod write_timeout;

pub use listener::Listener;
pub use write_timeout::WriteTimeout;
