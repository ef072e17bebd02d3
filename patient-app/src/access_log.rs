//! Lines of JSON on standard output: the access log, and events of the process.
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::time::Instant;

use hyper::{Request, StatusCode};
use serde::Serialize;

use crate::clock;

/// Prints one JSON object as a line. A closed output is no reason to fail.
pub fn announce(line: &impl Serialize) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let mut out = stdout().lock();
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
}

/// The log line of one request, printed when dropped. So a request that its client gave up is
/// logged too, without a status.
#[derive(Debug)]
pub(crate) struct Entry {
    started: Instant,
    line: Line,
}

#[derive(Debug, Serialize)]
struct Line {
    /// Milliseconds since 1970.
    time: u64,
    remote: SocketAddr,
    method: String,
    path: String,
    /// Missing if the connection ended without a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    duration_ms: f64,
    /// Size of the response's body.
    bytes: u64,
}

impl Entry {
    pub(crate) fn begin<B>(remote: SocketAddr, request: &Request<B>) -> Self {
        let line = Line {
            time: clock::unix_millis(),
            // An IPv4 client of a dual-stack socket is an IPv4 client.
            remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            status: None,
            duration_ms: 0.0,
            bytes: 0,
        };
        Self { started: Instant::now(), line }
    }

    pub(crate) const fn answered(&mut self, status: StatusCode, bytes: u64) {
        self.line.status = Some(status.as_u16());
        self.line.bytes = bytes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let micros = self.started.elapsed().as_micros() as f64;
        self.line.duration_ms = micros / 1000.0;
        announce(&self.line);
    }
}
