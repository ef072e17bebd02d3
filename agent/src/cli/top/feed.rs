//! What an agent tells at `/events`, as far as a table needs it.
use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::net::lookup_host;

use crate::signal::health::{Connection, Endpoint};

/// An event that is longer is none of an agent: 500 targets make less than one.
const MOST: usize = 8 << 20;

/// What changed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Update {
    pub(super) about: Option<About>,
    /// The uids of all targets, if one came or went.
    pub(super) roster: Option<Vec<String>>,
    pub(super) targets: Vec<Target>,
    pub(super) incidents: Option<Vec<Incident>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct About {
    pub(super) node: String,
    pub(super) version: String,
    pub(super) dry_run: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) ceiling: String,
    pub(super) state: String,
    pub(super) features: Features,
    pub(super) decision: Option<Decision>,
    pub(super) reasons: Option<Vec<Reason>>,
    pub(super) absent: bool,
    pub(super) exhausted: bool,
    pub(super) refused_by: Option<String>,
    pub(super) refused_why: Option<String>,
    pub(super) left_alone: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Id {
    pub(super) uid: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Features {
    pub(super) http_request_rate: f64,
    pub(super) http_5xx_ratio: f64,
    pub(super) cpu_usage: f64,
    pub(super) memory_usage: f64,
    pub(super) error_count: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Decision {
    pub(super) action: String,
    pub(super) confidence: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reason {
    pub(super) feature: String,
    pub(super) value: f64,
    pub(super) share: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Incident {
    pub(super) name: String,
    pub(super) rung: String,
    pub(super) outcome: Option<String>,
    pub(super) wall_time: u64,
}

/// `http://HOST:PORT` or `HOST:PORT` as an address.
pub(super) async fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let plain = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if plain.contains('/') {
        bail!("{url:?} is no agent's URL: say http://HOST:PORT");
    }
    let plain = if plain.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        plain.to_owned()
    } else {
        format!("{plain}:9100")
    };
    let mut found = lookup_host(&plain).await.with_context(|| format!("cannot find {plain}"))?;
    found.next().with_context(|| format!("{plain} has no address"))
}

/// An agent that is listened to.
pub(super) struct Feed {
    /// Closed when dropped.
    _connection: Connection,
    body: Incoming,
    heard: Vec<u8>,
}

impl Feed {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let endpoint = Endpoint::new(address, &address.to_string(), "/events")?;
        let mut connection = Connection::open(address).await?;
        let request = endpoint.request().body(Full::default()).unwrap_or_default();
        let answer = connection.send(request).await?;
        let status = answer.status();
        ensure!(status.is_success(), "it answers {status} to /events");
        Ok(Self { _connection: connection, body: answer.into_body(), heard: Vec::new() })
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> anyhow::Result<Update> {
        loop {
            if let Some(end) = self.heard.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.heard.drain(..end + 2).collect();
                if let Some(data) = event.strip_prefix(b"data: ") {
                    return serde_json::from_slice(data).context("it tells something unknown");
                }
                // A sign of life.
                continue;
            }
            let frame = self.body.frame().await.context("the agent has ended")??;
            self.heard.extend_from_slice(&frame.into_data().unwrap_or_default());
            ensure!(self.heard.len() <= MOST, "it tells too much at once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_may_be_named_in_several_ways() {
        let is = |address: SocketAddr| address.to_string();
        for (url, meant) in [
            ("http://127.0.0.1:9100", "127.0.0.1:9100"),
            ("http://127.0.0.1:9101/", "127.0.0.1:9101"),
            ("127.0.0.1", "127.0.0.1:9100"),
            ("[::1]:9102", "[::1]:9102"),
        ] {
            assert_eq!(is(address(url).await.unwrap()), meant, "{url}");
        }
        for url in ["https://127.0.0.1:9100", "http://127.0.0.1:9100/metrics"] {
            assert!(address(url).await.is_err(), "{url}");
        }
    }
}
