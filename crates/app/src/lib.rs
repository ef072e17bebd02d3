//! HTTP client for one app, which may be broken, slow or hostile: `GET` its health check, `POST`
//! its remedy.
mod app;
mod client;
mod exchange;
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
