//! Polls one app, one request at a time.
//!
//! Which protocol an instance speaks is learnt once, from its own bytes: HTTP/1 by its first
//! response, gRPC by the frames with which a server of HTTP/2 answers a request in HTTP/1, or by its
//! answer to HTTP/2 if it closes without a byte. Until then both are possible.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    header::{self, HeaderValue},
};
use paramedic_core::{
    boot_time::BootTime,
    health::{
        BUDGET, Health, HealthError, Poll, Responses, Transport, WAIT_LIMIT, classify::Reading,
        count, grpc,
    },
    target::{HealthAsk, HealthProbe},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    client::{Endpoint, InvalidEndpoint},
    exchange::{Ask, Head, Outcome, exchange},
    first::First,
    search::{KNOWN_PATHS, Search, Step},
};

/// A timeout noticed later than this shows that the agent did not run, not that the target hung.
const LATE: Duration = Duration::from_millis(250);
/// A server with several formats sends JSON first; one without JSON may send text.
const ACCEPT: HeaderValue = HeaderValue::from_static(
    "application/json, application/health+json;q=0.9, text/plain;q=0.8, */*;q=0.1",
);

/// If a target closes connections without a byte, minimum time before HTTP/2 is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A client of one target's app. Its only connection is that of a request without a response so
/// far.
#[derive(Debug)]
pub struct App {
    /// Of HTTP/1.
    routes: Vec<Route>,
    /// Of gRPC.
    call: Option<Call>,
    protocol: Protocol,
    search: Search,
    /// The result of the first path in the present search.
    first: Option<Said>,
    /// A request of an earlier poll without a response so far.
    waiting: Option<Question>,
}

#[derive(Clone, Debug)]
struct Route {
    path: Arc<str>,
    endpoint: Endpoint,
}

#[derive(Clone, Debug)]
struct Call {
    /// The name of the path in logs.
    name: Arc<str>,
    endpoint: Endpoint,
    message: Bytes,
}

/// The protocol of an instance, as its responses show it; the owner's or the probe's word fixes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// It has shown none.
    Unknown {
        /// When HTTP/2 was last tried, because HTTP/1 got no byte.
        tried: Option<Instant>,
    },
    /// HTTP/2 is being tried.
    Trying,
    Http1,
    Grpc,
}

/// A request in flight. Dropping it closes its connection.
#[derive(Debug)]
struct Question {
    /// `None` is the call of gRPC.
    route: Option<usize>,
    path: Arc<str>,
    since: Instant,
    head: Head,
    /// A separate task, so that the connection closes with the response and not with the next poll.
    task: JoinHandle<Outcome>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The result of one path.
#[derive(Clone, Debug)]
struct Said {
    path: Arc<str>,
    latency: Duration,
    result: Result<Health, HealthError>,
}

/// The responses of the target to one poll.
#[derive(Default)]
struct Drawn {
    responses: Responses,
    unavailable: u32,
    in_trailers: u32,
    hung_up: u32,
}

impl App {
    /// A client that has not connected yet: for `probe` only, or for the first of [`KNOWN_PATHS`]
    /// that answers at `address`.
    ///
    /// # Errors
    /// If the host or the path is invalid in an HTTP request.
    pub fn new(
        address: SocketAddr,
        tls: bool,
        host: &str,
        probe: Option<&HealthProbe>,
    ) -> Result<Self, InvalidEndpoint> {
        let route = |address, tls, host: &str, path: &str| {
            let endpoint = Endpoint::new(address, tls, host, path)?;
            Ok(Route { path: path.into(), endpoint })
        };
        let call = |address, host: &str, service: &str| {
            let name = HealthAsk::Grpc(service.to_owned()).to_string().into();
            let endpoint = Endpoint::new(address, false, host, grpc::PATH)?;
            Ok(Call { name, endpoint, message: grpc::request(service).into() })
        };
        let (routes, call, protocol) = match probe {
            Some(probe) => {
                let there = SocketAddr::new(address.ip(), probe.port);
                let host = host_at(host, address.port(), probe.port);
                match &probe.asks {
                    HealthAsk::Path(path) => {
                        (vec![route(there, probe.tls, &host, path)?], None, Protocol::Http1)
                    }
                    HealthAsk::Grpc(service) => {
                        (Vec::new(), Some(call(there, &host, service)?), Protocol::Grpc)
                    }
                }
            }
            None => {
                let routes = KNOWN_PATHS.into_iter().map(|path| route(address, tls, host, path));
                let protocol =
                    if tls { Protocol::Http1 } else { Protocol::Unknown { tried: None } };
                (routes.collect::<Result<_, _>>()?, Some(call(address, host, "")?), protocol)
            }
        };
        let search = Search::new(routes.len());
        Ok(Self { routes, call, protocol, search, first: None, waiting: None })
    }

    /// Polls the app, or keeps waiting for the response to an earlier request. Cancel-safe:
    /// dropping it drops the waiting request.
    pub async fn poll(&mut self, now: BootTime) -> Poll {
        let mut drawn = Drawn::default();
        let said = self.hear(&mut drawn).await;
        Poll {
            at: now,
            latency: said.latency,
            responses: drawn.responses,
            unavailable: drawn.unavailable,
            in_trailers: drawn.in_trailers,
            hung_up: drawn.hung_up,
            path: said.path,
            result: said.result,
        }
    }

    async fn hear(&mut self, drawn: &mut Drawn) -> Said {
        let begun = Instant::now();
        let mut last = None;
        let mut waited = self.waiting.take();
        loop {
            let is_old = waited.as_ref().is_some_and(|waited| waited.task.is_finished());
            let mut question = match waited.take() {
                Some(waited) => waited,
                None => match self.ask() {
                    Ok(question) => question,
                    Err(said) => return said,
                },
            };
            let ended = timeout_at(begun + BUDGET, &mut question.task).await;
            if drawn.take(&question.head) && question.route.is_some() {
                self.protocol = Protocol::Http1;
            }
            let path = Arc::clone(&question.path);
            let Ok(ended) = ended else {
                let latency = question.since.elapsed();
                let result = Err(overdue(begun.elapsed(), BUDGET).into());
                self.waiting = Some(question);
                let guess = self.first.as_ref().filter(|_| self.is_guessing());
                return last.or_else(|| guess.cloned()).unwrap_or(Said { path, latency, result });
            };
            let outcome = ended.unwrap_or_else(|_| Outcome {
                result: Err(Transport::Agent("its task has failed")),
                latency: question.since.elapsed(),
                hung_up: false,
                first: First::default(),
            });
            drawn.hung_up += u32::from(outcome.hung_up);
            // Its silence was reported, and its late result says nothing about now.
            if is_old && outcome.result.is_err() && !self.is_guessing() {
                continue;
            }
            let latency = outcome.latency;
            let result = match outcome.result {
                Ok(reply) => reply.read(),
                Err(Transport::Timeout) => Err(overdue(latency, WAIT_LIMIT).into()),
                Err(error) => Err(error.into()),
            };
            let number = question.route;
            let step = match self.recognise(number, outcome.first, &result) {
                Some(step) => step,
                None => self.search.heard(&result, Instant::now()),
            };
            let said = Said { path, latency, result: result.map(|reading| reading.health) };
            match step {
                Step::Take => return said,
                Step::GiveUp => return self.first.take().unwrap_or(said),
                Step::Next => {}
            }
            if number == Some(0) {
                self.first = Some(said.clone());
            }
            if begun.elapsed() >= BUDGET {
                return said;
            }
            last = Some(said);
        }
    }

    /// Whether the question is one whose silence says nothing.
    fn is_guessing(&self) -> bool {
        self.protocol == Protocol::Trying || self.search.is_guessing()
    }

    /// Learns the protocol from an outcome. Returns what to do, unless the search knows.
    fn recognise(
        &mut self,
        route: Option<usize>,
        first: First,
        result: &Result<Reading, HealthError>,
    ) -> Option<Step> {
        let now = Instant::now();
        match (self.protocol, route, result) {
            (Protocol::Trying, None, _) if first.is_http2() => {
                self.protocol = Protocol::Grpc;
                Some(Step::Take)
            }
            (Protocol::Trying, ..) => {
                self.protocol = Protocol::Unknown { tried: Some(now) };
                Some(Step::GiveUp)
            }
            (_, None, _) => Some(Step::Take),
            (Protocol::Unknown { .. }, _, Err(HealthError::Transport(Transport::Http2))) => {
                self.protocol = Protocol::Grpc;
                Some(Step::Next)
            }
            (
                Protocol::Unknown { tried },
                Some(0),
                Err(HealthError::Transport(Transport::Closed | Transport::Reset)),
            ) if first.is_empty()
                && tried.is_none_or(|tried| now.saturating_duration_since(tried) >= AGAIN) =>
            {
                self.protocol = Protocol::Trying;
                Some(Step::Next)
            }
            _ => None,
        }
    }

    fn ask(&mut self) -> Result<Question, Said> {
        let since = Instant::now();
        let calls = matches!(self.protocol, Protocol::Grpc | Protocol::Trying);
        let (route, path, endpoint, ask) = match self.call.as_ref().filter(|_| calls) {
            Some(Call { name, endpoint, message }) => {
                let call = endpoint.call().map(|head| Ask::Grpc((head, message.clone())));
                (None, name, endpoint, call)
            }
            None => {
                let number = self.search.next(since);
                let Route { path, endpoint } = &self.routes[number];
                (Some(number), path, endpoint, request(endpoint).map(Ask::Http))
            }
        };
        let path = Arc::clone(path);
        let Some(ask) = ask else {
            let result = Err(Transport::Agent("its request is not valid HTTP").into());
            return Err(Said { path, latency: Duration::ZERO, result });
        };
        let (endpoint, head) = (endpoint.clone(), Head::default());
        let told = head.clone();
        let task = tokio::spawn(async move { exchange(&endpoint, ask, WAIT_LIMIT, &told).await });
        Ok(Question { route, path, since, head, task })
    }
}

impl Drawn {
    /// Counts what the head tells; returns whether it tells anything.
    fn take(&mut self, head: &Head) -> bool {
        let (status, late) = (head.take(), head.take_late());
        for status in status.iter().chain(&late) {
            count(&mut self.responses, *status);
            self.unavailable += u32::from(matches!(status.as_u16(), 502..=504));
        }
        self.in_trailers += u32::from(late.is_some());
        status.is_some()
    }
}

fn request(endpoint: &Endpoint) -> Option<Request<Full<Bytes>>> {
    let mut request = endpoint.request();
    let headers = request.headers_mut()?;
    headers.insert(header::ACCEPT, ACCEPT);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    request.body(Full::default()).ok()
}

/// The `Host` header of the same host with another port.
fn host_at(host: &str, port: u16, there: u16) -> String {
    match host.strip_suffix(&format!(":{port}")) {
        Some(name) if port != there => format!("{name}:{there}"),
        _ => host.to_owned(),
    }
}

/// The error of a missing response after `elapsed`, which should have been noticed after `limit`.
pub(crate) fn overdue(elapsed: Duration, limit: Duration) -> Transport {
    if elapsed > limit + LATE {
        Transport::Agent("it did not run for a while: does it lack CPU?")
    } else {
        Transport::Timeout
    }
}
