//! Client middleware: counts every request, and reads the server's time from the response.
//!
//! Agents on different nodes must agree how long ago something was, and node clocks cannot be
//! trusted for that. The API server dates every response; between two responses the boot clock
//! counts.
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::http::{Request, Response, header::DATE};
use kube::{Client, client::Body};
use paramedic_core::boot_time::BootTime;
use paramedic_host::clock::Clock;
use tokio::time::timeout;
use tower_service::Service;

/// The API server's clock according to its responses; clones share it.
#[derive(Clone, Debug)]
pub struct ServerClock(Arc<AtomicI64>);

/// No response has had a date yet.
const UNKNOWN: i64 = i64::MIN;

impl Default for ServerClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl ServerClock {
    /// Seconds since 1970, if any response had a date.
    #[must_use]
    pub fn now(&self, now: BootTime) -> Option<i64> {
        let offset = self.0.load(Ordering::Relaxed);
        (offset != UNKNOWN).then(|| offset.saturating_add(seconds(now)))
    }

    fn dated(&self, unix: i64, now: BootTime) {
        self.0.store(unix.saturating_sub(seconds(now)), Ordering::Relaxed);
    }
}

fn seconds(now: BootTime) -> i64 {
    i64::try_from(now.since(BootTime::default()).as_secs()).unwrap_or(i64::MAX)
}

/// Receives the method and the status of every finished request (0: no response).
#[derive(Clone)]
pub struct Requests(Arc<Count>);

type Count = dyn Fn(&str, u16) + Send + Sync;

impl Requests {
    /// Calls `count` for each request.
    pub fn new(count: impl Fn(&str, u16) + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    /// Counts nothing.
    #[must_use]
    pub fn uncounted() -> Self {
        Self::new(|_, _| {})
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests")
    }
}

/// The same client, metered.
pub(super) fn metered(
    client: Client,
    clock: Clock,
    server: ServerClock,
    requests: Requests,
) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Meter { client, clock, server, requests }, namespace)
}

/// A response must start within this time: a watch without a response would be awaited forever.
const BEGINS: Duration = Duration::from_secs(30);

struct Meter {
    client: Client,
    clock: Clock,
    server: ServerClock,
    requests: Requests,
}

impl Service<Request<Body>> for Meter {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = kube::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        // The inner client has its own queue.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, clock) = (self.client.clone(), self.clock);
        let (server, requests) = (self.server.clone(), self.requests.clone());
        Box::pin(async move {
            let method = request.method().as_str().to_owned();
            let answer = timeout(BEGINS, client.send(request)).await;
            let answer = answer.unwrap_or_else(|late| Err(kube::Error::Service(late.into())));
            let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            requests.0(&method, status);
            let date = answer.as_ref().ok().and_then(|answer| answer.headers().get(DATE));
            if let Some(unix) = date.and_then(|date| parse(date.to_str().ok()?)) {
                server.dated(unix, clock.now());
            }
            answer
        })
    }
}

/// Parses `Sun, 22 Nov 2026 21:10:04 GMT` (RFC 9110, section 5.6.7) as seconds since 1970.
fn parse(date: &str) -> Option<i64> {
    let time = k8s_openapi::jiff::fmt::rfc2822::parse(date).ok()?;
    Some(time.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_advances_between_responses() {
        let server = ServerClock::default();
        let at = |s| BootTime::from(Duration::from_secs(s));
        assert_eq!(server.now(at(5)), None);
        server.dated(1_000_000, at(5));
        assert_eq!(server.now(at(5)), Some(1_000_000));
        assert_eq!(server.clone().now(at(65)), Some(1_000_060));
        server.dated(900_000, at(70));
        assert_eq!(server.now(at(70)), Some(900_000), "the last answer counts");
    }

    #[test]
    fn http_dates_are_parsed() {
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for bad in ["", "yesterday", "Sun, 06 Nov 1994", "1994-11-06T08:49:37Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
