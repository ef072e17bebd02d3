//! The agent's port for the metrics API, separate from `:9100` because it serves one client only.
//!
//! The two sides authenticate in different ways, so that agents need no private key from outside:
//!
//! - The metrics API presents a client certificate of its own authority, whose certificates are in
//!   a ConfigMap mounted into the agent.
//! - The agent sends the token of its pod as the first line of the stream, and so only to a client
//!   that has authenticated. Its certificate is created at start and proves nothing. A man in the
//!   middle has no client certificate, and gets neither token nor readings.
use std::{
    convert::Infallible, future::pending, io, net::SocketAddr, path::PathBuf, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame as BodyFrame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use paramedic_listen::{AcceptLoop, Accepted, Listener, Stopping};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::{CLIENT_NAME, Feed, Hello, PATH};

/// Maximum number of streams: two replicas, twice during an update, and room.
const STREAMS: usize = 8;
/// Maximum number of clients that are not authenticated yet. They cannot take the place of a
/// stream, and cost the node little time.
const STRANGERS: usize = 32;
/// Timeout of the TLS handshake and of the request.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A stream ends after this long. The client then reconnects, with current tokens and certificates.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// The files that the cluster provides for this port and may replace at any time.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The CA certificates of the metrics API, in PEM.
    pub authority: PathBuf,
    /// The agent's token for [`AUDIENCE`](super::AUDIENCE).
    pub token: PathBuf,
}

/// The port, bound to its address.
#[derive(Debug)]
pub struct Port {
    listener: Listener,
    authentication: Authentication,
}

/// What the port proves itself and its clients with.
#[derive(Debug)]
struct Authentication {
    credentials: Credentials,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
}

/// Why a client is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("cannot read {path}: {source}; the metrics API writes it when it runs")]
    Unreadable { path: String, source: io::Error },
    #[error("{0} has no certificate in PEM")]
    NoAuthority(String),
    #[error("{0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("no TLS handshake within {HANDSHAKE:?}")]
    TooSlow,
    #[error("its certificate is not that of {CLIENT_NAME}")]
    AnotherName,
}

impl Port {
    /// Binds the address, within a tokio runtime. It serves no requests before [`Port::run`].
    ///
    /// # Errors
    /// If the address cannot be bound, or no key can be created.
    pub fn bind(address: SocketAddr, credentials: Credentials) -> io::Result<Self> {
        let listener = Listener::bind(address)?;
        let made = rcgen::generate_simple_self_signed(vec!["paramedic-agent".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let certificate = made.cert.der().clone();
        let provider = Arc::new(ring::default_provider());
        let authentication = Authentication { credentials, certificate, key, provider };
        Ok(Self { listener, authentication })
    }

    /// The address on which it listens.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Serves until `shutdown` resolves. Then streams have a few seconds to end.
    pub async fn run(self, feed: Feed, shutdown: impl Future<Output = ()>) {
        let Self { listener, authentication } = self;
        let (authentication, places) =
            (Arc::new(authentication), Arc::new(Semaphore::new(STREAMS)));
        let serve = |accepted| {
            let (authentication, places) = (Arc::clone(&authentication), Arc::clone(&places));
            let feed = feed.clone();
            async move { authentication.connection(accepted, feed, &places).await }
        };
        AcceptLoop::new(listener).limit(STRANGERS).run(shutdown, serve).await;
    }
}

impl Authentication {
    async fn connection(&self, accepted: Accepted, feed: Feed, places: &Semaphore) {
        let Accepted { stream, peer, place: stranger, stopping } = accepted;
        let admitted = self.admit(stream).await;
        drop(stranger);
        match (admitted, places.try_acquire()) {
            (Ok(stream), Ok(_place)) => self.serve(stream, feed, stopping).await,
            (Ok(_), Err(_)) => warn!(%peer, "too many streams; refused one"),
            (Err(why), _) => debug!(%peer, %why, "refused a client that is not the metrics API"),
        }
    }

    /// Authenticates the client: only the metrics API is accepted.
    async fn admit(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
        let acceptor = TlsAcceptor::from(Arc::new(self.config().await?));
        let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await;
        let stream = stream.map_err(|_| Refused::TooSlow)?.map_err(Refused::Handshake)?;
        let certificates = stream.get_ref().1.peer_certificates();
        let leaf = certificates.and_then(<[_]>::first).ok_or(Refused::AnotherName)?;
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|_| Refused::AnotherName)?;
        let name = ServerName::try_from(CLIENT_NAME).map_err(|_| Refused::AnotherName)?;
        leaf.verify_is_valid_for_subject_name(&name).map_err(|_| Refused::AnotherName)?;
        Ok(stream)
    }

    /// Reads the CA for each connection: connections are few, and the CA changes.
    async fn config(&self) -> Result<ServerConfig, Refused> {
        let path = &self.credentials.authority;
        let pem = tokio::fs::read(path)
            .await
            .map_err(|source| Refused::Unreadable { path: path.display().to_string(), source })?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        if roots.is_empty() {
            return Err(Refused::NoAuthority(path.display().to_string()));
        }
        let (roots, provider) = (Arc::new(roots), Arc::clone(&self.provider));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        Ok(config)
    }

    async fn serve(&self, stream: TlsStream<TcpStream>, feed: Feed, mut stopping: Stopping) {
        let closing = stopping.clone();
        let service = service_fn(|request| self.answer(request, feed.clone(), closing.clone()));
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .serve_connection(TokioIo::new(stream), service);
        // A reader that stops reading must not keep its slot forever.
        match timeout(2 * LIFE, stopping.serve(&mut connection, pending())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "metrics API disconnected"),
            Err(_) => debug!("the metrics API does not read its stream; closed"),
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        feed: Feed,
        stopping: Stopping,
    ) -> Result<Response<Lines>, Infallible> {
        if request.method() != Method::GET || request.uri().path() != PATH {
            return Ok(empty(StatusCode::NOT_FOUND));
        }
        let token = match tokio::fs::read_to_string(&self.credentials.token).await {
            Ok(token) => token,
            Err(error) => {
                let path = self.credentials.token.display();
                warn!(%error, %path, "cannot read the token for the metrics API; the manifests mount one");
                return Ok(empty(StatusCode::SERVICE_UNAVAILABLE));
            }
        };
        let mut answer = Response::new(lines(token.trim(), &feed, stopping));
        let kind = HeaderValue::from_static("application/x-ndjson");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(answer)
    }
}

type Lines = UnsyncBoxBody<Bytes, Infallible>;

fn empty(status: StatusCode) -> Response<Lines> {
    let mut answer = Response::new(Empty::new().boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// The hello at once, then every frame, until the maximum lifetime of a stream or the end of the
/// port.
fn lines(token: &str, feed: &Feed, stopping: Stopping) -> Lines {
    let end = Instant::now() + LIFE;
    let hello = serde_json::to_vec(&Hello { token: token.to_owned() }).map(|mut line| {
        line.push(b'\n');
        Bytes::from(line)
    });
    let begin = (hello.ok(), feed.listen(), stopping);
    let frames = stream::unfold(begin, move |(hello, mut frames, mut stopping)| async move {
        if let Some(hello) = hello {
            return Some((Ok(BodyFrame::data(hello)), (None, frames, stopping)));
        }
        let changed = tokio::select! {
            changed = frames.changed() => changed.is_ok(),
            () = stopping.requested() => false,
        };
        if !changed || Instant::now() >= end {
            return None;
        }
        let line = frames.borrow_and_update().clone();
        Some((Ok(BodyFrame::data(line)), (None, frames, stopping)))
    });
    StreamBody::new(frames).boxed_unsync()
}
