//! Polls one app, one request at a time.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    header::{self, HeaderValue},
};
use paramedic_core::{
    health::{
        BUDGET, Health, HealthError, Poll, Responses, Transport, WAIT_LIMIT, classify, count,
    },
    moment::Moment,
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

/// A time-out noticed later than this says that the agent did not run, not that the target hung.
const LATE: Duration = Duration::from_millis(250);
/// A server that gives whatever comes first gives JSON; one that has no JSON may give text.
const ACCEPT: HeaderValue = HeaderValue::from_static(
    "application/json, application/health+json;q=0.9, text/plain;q=0.8, */*;q=0.1",
);

/// One target's app, as a client of it. It holds no connection but that of a question which waits
/// for its answer.
#[derive(Debug)]
pub struct App {
    routes: Vec<Route>,
    search: Search,
    /// What the first path gave in the search that is under way.
    first: Option<Said>,
    /// Asked in an earlier poll, and not answered within it.
    waiting: Option<Question>,
}

#[derive(Clone, Debug)]
struct Route {
    path: Arc<str>,
    endpoint: Endpoint,
}

/// A question on its way. Dropped, it drops its connection.
#[derive(Debug)]
struct Question {
    route: usize,
    since: Instant,
    head: Head,
    /// On a task of its own: the connection ends with the answer and not with the next poll.
    task: JoinHandle<Outcome>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What one path gave.
#[derive(Clone, Debug)]
struct Said {
    path: Arc<str>,
    latency: Duration,
    result: Result<Health, HealthError>,
}

/// What one poll drew from the target.
#[derive(Default)]
struct Drawn {
    responses: Responses,
    unavailable: u32,
    hung_up: u32,
}

impl App {
    /// A client that has not connected yet: of `probe` and of nothing else, or of the first of
    /// [`KNOWN_PATHS`] that answers at `address`.
    ///
    /// # Errors
    /// If the host or the path cannot stand in an HTTP request.
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

    /// Asks the app how it is, `now`, or goes on waiting for the answer to an earlier question.
    /// May be dropped at any await, and what waits is dropped with it.
    pub async fn poll(&mut self, now: Moment) -> Poll {
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
            // Its silence was told, and what came of it says nothing of now.
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

/// The `Host` header of the same host at another port.
fn host_at(host: &str, port: u16, there: u16) -> String {
    match host.strip_suffix(&format!(":{port}")) {
        Some(name) if port != there => format!("{name}:{there}"),
        _ => host.to_owned(),
    }
}

/// Why there is no answer after `elapsed`, where it was to be noticed after `limit`.
pub(crate) fn overdue(elapsed: Duration, limit: Duration) -> Transport {
    if elapsed > limit + LATE {
        Transport::Agent("it did not run for a while: does it lack CPU?")
    } else {
        Transport::Timeout
    }
}
