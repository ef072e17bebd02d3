//! Reads an agent's `/events`, as far as the table needs it.
use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use paramedic_app::{Connection, Endpoint};
use serde::Deserialize;
use tokio::{
    net::lookup_host,
    sync::mpsc,
    time::{sleep, timeout},
};

/// Maximum size of an event: 500 targets need less than one.
const MOST: usize = 8 << 20;
/// Timeout of a response.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum time between two events, which come twice a second. An agent whose loop hangs still
/// sends keep-alive comments, which do not count.
const SILENCE: Duration = Duration::from_secs(6);
/// Delay before reconnecting after an agent closed the stream or fell silent.
const RETRY: Duration = Duration::from_secs(1);

/// A server-sent event.
#[derive(Debug, Default, Deserialize)]
pub(in crate::cli) struct Update {
    pub(in crate::cli) about: Option<BuildInfo>,
    /// The uids of all targets, if a target was added or removed.
    pub(in crate::cli) roster: Option<Vec<String>>,
    pub(in crate::cli) targets: Vec<Target>,
    pub(in crate::cli) incidents: Option<Vec<Incident>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct BuildInfo {
    pub(in crate::cli) node: String,
    pub(in crate::cli) version: String,
    pub(in crate::cli) dry_run: bool,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Target {
    pub(in crate::cli) id: Id,
    pub(in crate::cli) name: String,
    pub(in crate::cli) ceiling: String,
    #[serde(default)]
    pub(in crate::cli) capped: Option<String>,
    pub(in crate::cli) state: String,
    pub(in crate::cli) features: Features,
    pub(in crate::cli) decision: Option<Decision>,
    pub(in crate::cli) reasons: Option<Vec<Reason>>,
    pub(in crate::cli) absent: bool,
    pub(in crate::cli) exhausted: bool,
    pub(in crate::cli) refused_by: Option<String>,
    pub(in crate::cli) refused_why: Option<String>,
    pub(in crate::cli) left_alone: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Id {
    pub(in crate::cli) uid: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Features {
    /// `None` where the kernel does not see the target's HTTP.
    pub(in crate::cli) http_request_rate: Option<f64>,
    pub(in crate::cli) http_5xx_ratio: Option<f64>,
    pub(in crate::cli) cpu_usage: f64,
    pub(in crate::cli) memory_usage: f64,
    pub(in crate::cli) error_count: f64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Decision {
    pub(in crate::cli) action: String,
    pub(in crate::cli) confidence: f64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Reason {
    pub(in crate::cli) feature: String,
    pub(in crate::cli) value: f64,
    pub(in crate::cli) share: f64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Incident {
    pub(in crate::cli) name: String,
    pub(in crate::cli) remedy: String,
    pub(in crate::cli) outcome: Option<String>,
    pub(in crate::cli) wall_time: u64,
}

/// Parses `http://HOST:PORT` or `HOST:PORT`.
pub(super) async fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let plain = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if plain.contains('/') {
        bail!("{url:?} is not an agent's URL: use http://HOST:PORT");
    }
    let plain = if plain.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        plain.to_owned()
    } else {
        format!("{plain}:9100")
    };
    let mut found = lookup_host(&plain).await.with_context(|| format!("cannot find {plain}"))?;
    found.next().with_context(|| format!("{plain} has no address"))
}

/// Forwards the agent's events, or the error if there are none; then it reconnects, while the
/// receiver exists. It is a separate task, so that no key waits for it.
pub(super) fn follow(
    mut feed: Feed,
    address: SocketAddr,
) -> mpsc::Receiver<anyhow::Result<Update>> {
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let update = feed.next().await;
            let is_lost = update.is_err();
            if tell.send(update).await.is_err() {
                return;
            }
            if !is_lost {
                continue;
            }
            feed = loop {
                sleep(RETRY).await;
                match Feed::open(address).await {
                    Ok(again) => break again,
                    Err(error) => {
                        if tell.send(Err(error)).await.is_err() {
                            return;
                        }
                    }
                }
            };
        }
    });
    told
}

/// A connection to an agent's events.
pub(in crate::cli) struct Feed {
    /// Closed when dropped.
    _connection: Connection,
    body: Incoming,
    heard: Vec<u8>,
}

impl Feed {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let Ok(feed) = timeout(PATIENCE, Self::ask(address)).await else {
            bail!("no response within {} s", PATIENCE.as_secs());
        };
        feed
    }

    async fn ask(address: SocketAddr) -> anyhow::Result<Self> {
        let endpoint = Endpoint::new(address, false, &address.to_string(), "/events")?;
        let mut connection = Connection::open(&endpoint).await?;
        let request = endpoint.request().body(Full::default()).unwrap_or_default();
        let answer = connection.send(request).await?;
        let status = answer.status();
        ensure!(status.is_success(), "response {status} to /events");
        Ok(Self { _connection: connection, body: answer.into_body(), heard: Vec::new() })
    }

    /// The next event.
    async fn next(&mut self) -> anyhow::Result<Update> {
        let Ok(update) = timeout(SILENCE, self.read()).await else {
            bail!("no event for {} s", SILENCE.as_secs());
        };
        update
    }

    async fn read(&mut self) -> anyhow::Result<Update> {
        loop {
            if let Some(end) = self.heard.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.heard.drain(..end + 2).collect();
                if let Some(data) = event.strip_prefix(b"data: ") {
                    return serde_json::from_slice(data).context("unknown event");
                }
                // A keep-alive comment.
                continue;
            }
            let frame = self.body.frame().await.context("the agent has ended")??;
            self.heard.extend_from_slice(&frame.into_data().unwrap_or_default());
            ensure!(self.heard.len() <= MOST, "event too large");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// An agent that sends `words` to its first client and keep-alive comments from then on, and
    /// nothing to any other client.
    pub(in super::super) async fn says(words: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(words.as_bytes()).await.unwrap();
            let mut others = Vec::new();
            loop {
                tokio::select! {
                    other = listener.accept() => others.push(other),
                    () = sleep(Duration::from_secs(2)) => {
                        // The client may have left.
                        let _ = stream.write_all(b": nothing new\n\n").await;
                    }
                }
            }
        });
        address
    }

    /// A response with one event.
    pub(in super::super) const EVENT: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
        data: {\"at\":1,\"roster\":[],\"targets\":[]}\n\n";

    #[tokio::test]
    async fn a_silent_agent_is_reported_and_reconnected() {
        let address = says(EVENT).await;
        let mut told = follow(Feed::open(address).await.unwrap(), address);
        assert!(told.recv().await.unwrap().unwrap().roster.is_some());
        // Only now: a paused clock that jumps would be faster than the first event.
        tokio::time::pause();
        for why in ["no event for 6 s", "no response within 5 s"] {
            assert_eq!(told.recv().await.unwrap().unwrap_err().to_string(), why);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_port_times_out() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = Feed::open(silent.local_addr().unwrap()).await.err().unwrap().to_string();
        assert_eq!(error, "no response within 5 s");
    }

    #[tokio::test]
    async fn address_accepts_urls_and_host_and_port() {
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
