//! Polls one app, one request at a time.
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
        BUDGET, Health, HealthError, Poll, Responses, Transport, WAIT_LIMIT, classify, count,
    },
    target::HealthProbe,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    client::{Endpoint, InvalidEndpoint},
    exchange::{Head, Outcome, exchange},
    search::{KNOWN_PATHS, Search, Step},
};

/// A timeout noticed later than this shows that the agent did not run, not that the target hung.
const LATE: Duration = Duration::from_millis(250);
/// A server with several formats sends JSON first; one without JSON may send text.
const ACCEPT: HeaderValue = HeaderValue::from_static(
    "application/json, application/health+json;q=0.9, text/plain;q=0.8, */*;q=0.1",
);

/// A client of one target's app. Its only connection is that of a request without a response so
/// far.
#[derive(Debug)]
pub struct App {
    routes: Vec<Route>,
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

/// A request in flight. Dropping it closes its connection.
#[derive(Debug)]
struct Question {
    route: usize,
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
        let routes = match probe {
            Some(probe) => {
                let there = SocketAddr::new(address.ip(), probe.port);
                let host = host_at(host, address.port(), probe.port);
                vec![route(there, probe.tls, &host, &probe.path)?]
            }
            None => KNOWN_PATHS
                .into_iter()
                .map(|path| route(address, tls, host, path))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { search: Search::new(routes.len()), routes, first: None, waiting: None })
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
            drawn.take(&question.head);
            let path = Arc::clone(&self.routes[question.route].path);
            let Ok(ended) = ended else {
                let latency = question.since.elapsed();
                let result = Err(overdue(begun.elapsed(), BUDGET).into());
                self.waiting = Some(question);
                let guess = self.first.as_ref().filter(|_| self.search.is_guessing());
                return last.or_else(|| guess.cloned()).unwrap_or(Said { path, latency, result });
            };
            let outcome = ended.unwrap_or_else(|_| Outcome {
                result: Err(Transport::Agent("its task has failed")),
                latency: question.since.elapsed(),
                hung_up: false,
            });
            drawn.hung_up += u32::from(outcome.hung_up);
            // Its silence was reported, and its late result says nothing about now.
            if is_old && outcome.result.is_err() && !self.search.is_guessing() {
                continue;
            }
            let latency = outcome.latency;
            let result = match outcome.result {
                Ok(answer) => classify::read(&answer),
                Err(Transport::Timeout) => Err(overdue(latency, WAIT_LIMIT).into()),
                Err(error) => Err(error.into()),
            };
            let step = self.search.heard(&result, Instant::now());
            let said = Said { path, latency, result: result.map(|reading| reading.health) };
            match step {
                Step::Take => return said,
                Step::GiveUp => return self.first.take().unwrap_or(said),
                Step::Next => {}
            }
            if question.route == 0 {
                self.first = Some(said.clone());
            }
            if begun.elapsed() >= BUDGET {
                return said;
            }
            last = Some(said);
        }
    }

    fn ask(&mut self) -> Result<Question, Said> {
        let since = Instant::now();
        let number = self.search.next(since);
        let route = &self.routes[number];
        let Some(request) = request(&route.endpoint) else {
            let result = Err(Transport::Agent("its request is not valid HTTP").into());
            return Err(Said { path: Arc::clone(&route.path), latency: Duration::ZERO, result });
        };
        let (endpoint, head) = (route.endpoint.clone(), Head::default());
        let told = head.clone();
        let task =
            tokio::spawn(async move { exchange(&endpoint, request, WAIT_LIMIT, &told).await });
        Ok(Question { route: number, since, head, task })
    }
}

impl Drawn {
    fn take(&mut self, head: &Head) {
        if let Some(status) = head.take() {
            count(&mut self.responses, status);
            self.unavailable += u32::from(matches!(status.as_u16(), 502..=504));
        }
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
