//! The stream of one agent: connects, authenticates the agent and stores its frames.
//!
//! The agent's certificate is not checked; its token authenticates it, and the agent sends the
//! token only to the metrics API (see `paramedic_pod_metrics::Port`). The token must belong to the
//! very pod that the API server reports at this address: a token is good for the agent's own node
//! only.
use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Incoming, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, api::PostParams};
use paramedic_api_server::{ApiError, within};
use paramedic_pod_metrics::{AUDIENCE, Frame, FrameError, Hello, PATH};
use parking_lot::Mutex;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use super::{
    agents::Agent,
    store::{SILENT, Store},
};

/// Timeout of connecting and of each further step.
const STEP: Duration = Duration::from_secs(5);
/// Delays after failures: 1 s, then doubling to 15 s. Jitter adds up to as much again, so that the
/// agents are not all called at once.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(1))
    .with_max_delay(LONGEST_DELAY)
    .without_max_times()
    .with_jitter();
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// A new authority needs this long to reach every agent as a file. Failures before that are not
/// reported.
const GRACE: Duration = Duration::from_secs(120);
/// Maximum length of a line. A thousand readings take 150 KB.
const LINE_MOST: usize = 512 * 1024;

/// What all streams share.
pub(super) struct Stream {
    pub(super) store: Arc<Mutex<Store>>,
    pub(super) reviews: Api<TokenReview>,
    /// The user name in the agents' tokens.
    pub(super) agent_user: String,
    /// The client certificate; changes on renewal.
    pub(super) tls: watch::Receiver<Option<Arc<ClientConfig>>>,
}

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("this server has no certificate yet")]
    NotReady,
    #[error("{0} took longer than {STEP:?}")]
    TooSlow(&'static str),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("it responds {0}")]
    Status(StatusCode),
    #[error("it sent nothing for {SILENT:?}")]
    Silent,
    #[error("it ended before its first frame")]
    Wordless,
    #[error("it sends a line of more than {LINE_MOST} bytes")]
    LongLine,
    #[error("its first line is not a token: {0}")]
    NoToken(serde_json::Error),
    #[error("its token cannot be reviewed: {0}")]
    NoReview(#[from] ApiError),
    #[error("its token was rejected: {0}")]
    Impostor(String),
    #[error("its frame was rejected: {0}")]
    Frame(#[from] FrameError),
}

impl Stream {
    /// Follows the agent, forever.
    pub(super) async fn follow(&self, agent: &Agent) {
        let (node, address) = (&agent.node, agent.address);
        let mut tls = self.tls.clone();
        let mut delays = BACKOFF.build();
        let mut lost = Instant::now();
        let mut told = false;
        loop {
            let begun = Instant::now();
            let mut heard = false;
            let ended = self.hear(agent, &mut tls, &mut heard).await;
            if heard {
                (delays, lost, told) = (BACKOFF.build(), Instant::now(), false);
            }
            match ended {
                Ok(()) => debug!(node, %address, "agent stream ended; reconnecting"),
                Err(Broken::NotReady) => {
                    // The certificate is available as soon as the authority is.
                    if tls.changed().await.is_err() {
                        return;
                    }
                    lost = Instant::now();
                    continue;
                }
                Err(why) if !told && lost.elapsed() >= GRACE => {
                    told = true;
                    warn!(node, %address, %why, "agent stream lost; no metrics for its pods");
                }
                Err(why) => debug!(node, %address, %why, "agent stream lost; reconnecting"),
            }
            let delay = delays.next().unwrap_or(LONGEST_DELAY);
            // A stream that ends after a long life is not a failure: reconnect at once.
            if !heard || begun.elapsed() < delay {
                sleep(delay).await;
            }
        }
    }

    /// One stream, to its end. Sets `heard` at the first accepted frame: a valid token alone
    /// provides no values.
    async fn hear(
        &self,
        agent: &Agent,
        tls: &mut watch::Receiver<Option<Arc<ClientConfig>>>,
        heard: &mut bool,
    ) -> Result<(), Broken> {
        let config = tls.borrow_and_update().clone().ok_or(Broken::NotReady)?;
        let mut lines = Lines::open(agent, config).await?;
        let Some(hello) = lines.next().await? else { return Err(Broken::Silent) };
        let hello: Hello = serde_json::from_slice(&hello).map_err(Broken::NoToken)?;
        self.review(agent, hello.token).await?;
        while let Some(line) = lines.next().await? {
            let frame = Frame::parse(&line)?;
            self.store.lock().hear(&agent.node, frame, Instant::now());
            if !std::mem::replace(heard, true) {
                info!(node = agent.node, address = %agent.address, "receiving from the agent");
            }
        }
        if *heard { Ok(()) } else { Err(Broken::Wordless) }
    }

    /// Whether the token belongs to the pod at this address.
    async fn review(&self, agent: &Agent, token: String) -> Result<(), Broken> {
        let spec = TokenReviewSpec { token, audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = within(self.reviews.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        let impostor = |why: &str| Err(Broken::Impostor(why.to_owned()));
        if status.authenticated != Some(true) {
            return impostor(status.error.as_deref().unwrap_or("the API server does not know it"));
        }
        if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
            return impostor("it has another audience");
        }
        let user = status.user.unwrap_or_default();
        if user.username.as_deref() != Some(&self.agent_user) {
            return impostor("it does not belong to an agent");
        }
        let extra = user.extra.unwrap_or_default();
        let is = |key: &str, expected: &str| {
            extra.get(key).is_some_and(|values| values.len() == 1 && values[0] == expected)
        };
        if !is("authentication.kubernetes.io/pod-uid", &agent.pod_uid) {
            return impostor("it belongs to another pod");
        }
        // Before Kubernetes 1.32 tokens do not name the node, so the pod's uid is compared.
        let named = extra.contains_key("authentication.kubernetes.io/node-name");
        if named && !is("authentication.kubernetes.io/node-name", &agent.node) {
            return impostor("it belongs to another node");
        }
        Ok(())
    }
}

/// The lines of a response.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// Up to here there is no end of line.
    searched: usize,
}

impl Lines {
    async fn open(agent: &Agent, config: Arc<ClientConfig>) -> Result<Self, Broken> {
        let stream = step("connecting", TcpStream::connect(agent.address)).await??;
        let name = ServerName::IpAddress(agent.address.ip().into());
        let tls = TlsConnector::from(config).connect(name, stream);
        let stream = step("the handshake", tls).await??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the stream, which holds the only other end.
        tokio::spawn(connection);
        let request =
            Request::get(PATH).header(HOST, "paramedic-agent").body(Empty::<Bytes>::new())?;
        let answer = step("the answer", sender.send_request(request)).await??;
        if answer.status() != StatusCode::OK {
            return Err(Broken::Status(answer.status()));
        }
        Ok(Self { body: answer.into_body(), buffer: BytesMut::new(), searched: 0 })
    }

    /// The next line; `None` at a proper end.
    async fn next(&mut self) -> Result<Option<BytesMut>, Broken> {
        loop {
            let unseen = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_MOST {
                return Err(Broken::LongLine);
            }
            let piece = timeout(SILENT, self.body.frame()).await.map_err(|_| Broken::Silent)?;
            match piece {
                Some(piece) => {
                    if let Ok(data) = piece?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

async fn step<T>(what: &'static str, doing: impl Future<Output = T>) -> Result<T, Broken> {
    timeout(STEP, doing).await.map_err(|_| Broken::TooSlow(what))
}
