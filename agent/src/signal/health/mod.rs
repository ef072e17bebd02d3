//! The app's own word: `GET /health`.
//!
//! A poll is one question within one second, over a connection that is kept between polls. A
//! server that ended the kept connection in the meantime has done nothing wrong, so such a poll
//! asks once more on a fresh one; every other trouble has a name and is the caller's to weigh.
//! Two of those names are nobody's illness: [`HealthError::NotFound`] (the app has no such
//! endpoint: watch it through the kernel alone) and the agent's own trouble, which
//! [`HealthError::is_failure`] tells apart.
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming};
use tokio::time::{Instant, timeout};

use crate::moment::Moment;

mod client;
mod parse;

#[cfg(test)]
pub(crate) mod hostile;
#[cfg(any())]
mod tests;

pub use client::{BODY_LIMIT, Endpoint, InvalidEndpoint, Responses, Transport};
pub(crate) use client::{Connection, count, read};
pub use parse::{Component, Fault, Field, Health, NotJson, Says};

/// Connecting, asking and reading the whole answer may take this long.
pub const BUDGET: Duration = Duration::from_secs(1);
/// A time-out noticed later than this says that the agent did not run, not that the target hung.
const LATE: Duration = Duration::from_millis(250);

/// What one poll of `/health` found.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// When it began.
    pub at: Moment,
    /// How long it took, failed or not; at most about [`BUDGET`].
    pub latency: Duration,
    /// The responses that it drew from the target, to be subtracted from the kernel's counts.
    pub responses: Responses,
    /// The path that was asked.
    pub path: Arc<str>,
    /// The reading.
    pub result: Result<Health, HealthError>,
}

/// What a poll came to, as metrics, logs and pages call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// The app says that it is well.
    Well,
    /// It serves, and warns.
    Warns,
    /// It says that it is ill itself.
    Ill,
    /// It blames a dependency.
    Blames,
    /// It starts, drains or is in maintenance.
    NotNow,
    /// It answered something that cannot be read: no evidence of anything.
    Unreadable,
    /// It did not answer.
    Silent,
    /// The agent could not ask.
    NotAsked,
}

impl Heard {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Well,
        Self::Warns,
        Self::Ill,
        Self::Blames,
        Self::NotNow,
        Self::Unreadable,
        Self::Silent,
        Self::NotAsked,
    ];

    /// The name in metrics, JSON and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Warns => "warns",
            Self::Ill => "ill",
            Self::Blames => "blames_dependency",
            Self::NotNow => "not_now",
            Self::Unreadable => "unreadable",
            Self::Silent => "silent",
            Self::NotAsked => "not_asked",
        }
    }
}

impl Poll {
    /// What it came to.
    #[must_use]
    pub const fn heard(&self) -> Heard {
        match &self.result {
            Ok(health) => match &health.says {
                Says::Well => Heard::Well,
                Says::Warns => Heard::Warns,
                Says::Ill => Heard::Ill,
                Says::Blames(_) => Heard::Blames,
                Says::NotNow => Heard::NotNow,
            },
            Err(HealthError::Transport(Transport::Agent(_))) => Heard::NotAsked,
            Err(error) if error.is_silence() => Heard::Silent,
            Err(_) => Heard::Unreadable,
        }
    }

    /// The same in words.
    #[must_use]
    pub fn word(&self) -> Word {
        let said = |health: &Health| (health.says.clone(), health.left_out);
        let result = self.result.as_ref().map(said).map_err(|error| *error);
        Word { heard: self.heard(), path: Arc::clone(&self.path), result }
    }

    /// A poll that took no time and drew nothing, for tests.
    #[cfg(test)]
    pub(crate) fn for_tests(at: Moment, result: Result<Health, HealthError>) -> Self {
        let path = "/health".into();
        Self { at, latency: Duration::ZERO, responses: [0; 5], path, result }
    }
}

/// What a poll came to, for people: without its numbers.
#[derive(Clone, Debug)]
pub struct Word {
    /// In one word.
    pub heard: Heard,
    /// The path that was asked.
    pub path: Arc<str>,
    result: Result<(Says, Option<(Field, Fault)>), HealthError>,
}

impl Word {
    /// Whether this says something else than `before` did; where in a body a mistake stands does not
    /// matter.
    #[must_use]
    pub fn is_news(&self, before: &Self) -> bool {
        let same = match (&self.result, &before.result) {
            (Ok(now), Ok(then)) => now == then,
            (Err(now), Err(then)) => now.name() == then.name(),
            _ => false,
        };
        !same || self.heard != before.heard || self.path != before.path
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (says, left_out) = match &self.result {
            Ok(said) => said,
            Err(error) => return error.fmt(f),
        };
        match says {
            Says::Well => f.write_str("the app says that it is well")?,
            Says::Warns => f.write_str("the app serves, and warns")?,
            Says::Ill => f.write_str("the app says that it is ill")?,
            Says::Blames(component) => write!(f, "the app blames {:?}", component.as_str())?,
            Says::NotNow => {
                f.write_str("the app does not serve now: it starts, drains or is in maintenance")?;
            }
        }
        if let Some((field, fault)) = left_out {
            write!(f, "; its field `{}` {fault} and is left out", field.name())?;
        }
        Ok(())
    }
}

/// Why a poll has no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// No complete HTTP response.
    #[error(transparent)]
    Transport(#[from] Transport),
    /// The app has no health endpoint (404, 405 or 501).
    #[error("no health endpoint here (HTTP {0}): if there is one elsewhere, set its path")]
    NotFound(u16),
    /// A redirect, which is never followed.
    #[error("redirected (HTTP {0}), which is never followed: set the path that it leads to")]
    Redirect(u16),
    /// Any other status but 2xx.
    #[error("answered HTTP {0}")]
    StatusNotOk(u16),
    /// The body is no JSON object.
    #[error("the body is no health report: {0}")]
    NotJson(#[from] NotJson),
    /// A field holds what it cannot mean.
    #[error("the field `{}` {fault}", field.name())]
    BadField {
        /// Which field.
        field: Field,
        /// What is wrong with it.
        fault: Fault,
    },
}

impl HealthError {
    /// A label for metrics: finite, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transport(error) => error.name(),
            Self::NotFound(_) => "not_found",
            Self::Redirect(_) => "redirect",
            Self::StatusNotOk(_) => "status_not_ok",
            Self::NotJson(_) => "not_json",
            Self::BadField { .. } => "bad_field",
        }
    }

    /// Whether the target gave no answer at all, as opposed to one that cannot be read. The
    /// agent's own trouble is neither.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        matches!(
            self,
            Self::Transport(
                Transport::Timeout
                    | Transport::ConnectRefused
                    | Transport::ConnectFailed(_)
                    | Transport::Reset
                    | Transport::Closed
            )
        )
    }
}

/// One target's app, as a client of it.
#[derive(Debug)]
pub struct App {
    health: Endpoint,
    heal: Endpoint,
    /// Idle, its last response read to the end; taken for the length of a poll, so that a poll
    /// which is dropped half-way takes it along.
    kept: Option<Connection>,
}

impl App {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// If the host or a path cannot stand in an HTTP request.
    pub fn new(
        address: SocketAddr,
        _tls: bool,
        host: &str,
        probe: Option<&crate::target::HealthProbe>,
    ) -> Result<Self, InvalidEndpoint> {
        let health_path = probe.map_or("/health", |probe| probe.path.as_str());
        Ok(Self {
            health: Endpoint::new(address, host, health_path)?,
            heal: Endpoint::new(address, host, "/heal")?,
            kept: None,
        })
    }

    /// Where the soft remedy is asked for.
    #[must_use]
    pub const fn heal_endpoint(&self) -> &Endpoint {
        &self.heal
    }

    /// Asks the app how it is, `now`. May be dropped at any await.
    pub async fn poll(&mut self, now: Moment) -> Poll {
        let begun = Instant::now();
        let mut responses = Responses::default();
        let result = timeout(BUDGET, self.ask(&mut responses)).await;
        let latency = begun.elapsed();
        let result = result.unwrap_or_else(|_| Err(overdue(latency).into()));
        let path = "/health".into();
        Poll { at: now, latency, responses, path, result }
    }

    async fn ask(&mut self, responses: &mut Responses) -> Result<Health, HealthError> {
        let (connection, response) = self.send().await?;
        let status = response.status();
        count(responses, status);
        // A refusal's body is read as well, and its connection kept: to hang up on unread bytes
        // would send the target a reset.
        let body = read(response.into_body()).await;
        if body.is_ok() {
            self.kept = Some(connection);
        }
        judge(status)?;
        parse::parse(&body?)
    }

    async fn send(&mut self) -> Result<(Connection, Response<Incoming>), Transport> {
        if let Some(mut kept) = self.kept.take() {
            match kept.send(self.request()?).await {
                Err(error) if error.peer_left() => {}
                answer => return answer.map(|response| (kept, response)),
            }
        }
        let mut fresh = Connection::open(self.health.address()).await?;
        let response = fresh.send(self.request()?).await?;
        Ok((fresh, response))
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, Transport> {
        self.health
            .request()
            .body(Full::default())
            .map_err(|_| Transport::Agent("its request is not valid HTTP"))
    }
}

const fn judge(status: StatusCode) -> Result<(), HealthError> {
    match status.as_u16() {
        200..=299 => Ok(()),
        code @ (404 | 405 | 501) => Err(HealthError::NotFound(code)),
        code @ 300..=399 => Err(HealthError::Redirect(code)),
        code => Err(HealthError::StatusNotOk(code)),
    }
}

fn overdue(latency: Duration) -> Transport {
    if latency > BUDGET + LATE {
        Transport::Agent("it did not run for a while: does it lack CPU?")
    } else {
        Transport::Timeout
    }
}
