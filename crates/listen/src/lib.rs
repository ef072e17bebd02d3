//! Listening sockets, the accept loop of every server, and connections that are closed if the peer
//! stops reading.
//!
//! hyper alone, without a web framework, is the norm among node agents: a handful of fixed routes
//! need no router, and each layer of a framework is code that a privileged process runs on the
//! bytes of strangers.
mod accept_loop;
mod listener;
mod write_timeout;

pub use accept_loop::{AcceptLoop, Accepted, Stopping};
pub use listener::Listener;
pub use write_timeout::WriteTimeout;
