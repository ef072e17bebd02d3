//! patient-app: the small HTTP service that Paramedic's demo, tests and measurements treat.
//!
//! Without an illness it is an ordinary service: it answers, counts its own errors, reports its
//! vital signs and can be reset by `POST /heal`. On request it falls ill in the ways in which
//! services do: failing, hanging, leaking, burning CPU, slow, resetting connections, or reporting
//! wrong numbers. Every illness ends on request, and `/illness` and `/clock` always report the true
//! state, so that a measurement has a reference.
//!
//! The modules are in reading order.
mod config;
mod clock;
mod dice;
mod illness;
mod vitals;
mod health;
mod upstream;
mod state;
mod routes;
mod access_log;
mod server;
mod signals;
pub mod kill;

pub use access_log::announce;
pub use config::Config;
pub use server::{BindError, Bound, bind};
pub use signals::Signals;
