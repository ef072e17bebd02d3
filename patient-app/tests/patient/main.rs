//! The patient over real sockets, within the test and as the real process.
mod support;

mod endpoints;
mod illnesses;
mod process;
