//! Client of one app, which may be broken, slow or hostile: `GET` its health check, or call that of
//! gRPC; `POST` its remedy; `GET` its own dump before a hard one.
mod app;
mod client;
pub mod dump;
mod exchange;
mod first;
mod grpc;
mod search;
pub mod soft;
mod tls;

#[cfg(any(test, feature = "testing"))]
pub mod hostile;
#[cfg(test)]
mod tests;

pub use app::App;
pub use client::{Connection, Endpoint, InvalidEndpoint, Stream, read};
pub use exchange::{Head, converse};
pub use search::KNOWN_PATHS;
