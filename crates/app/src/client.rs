//! HTTP client for one target, which may be broken, slow or hostile.
//!
//! It has one connection at a time and no pool: hyper's bare HTTP/1.1 over one stream, TCP or TLS,
//! to one given address; it follows no redirect. Everything that a target can make the agent store
//! is bounded here; the callers bound the time.
use std::{error::Error as _, io, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, Uri,
    body::{Body, Incoming},
    client::conn::http1,
    header::{self, HeaderValue},
    http::request,
};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use paramedic_core::health::{BODY_LIMIT, Transport, grpc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::tls::{self, Name};

/// Maximum size of a response's head; hyper's own default permits 100 headers in it.
pub(crate) const HEAD_LIMIT: usize = 16 * 1024;
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("paramedic/", env!("CARGO_PKG_VERSION")));

/// One URL of a target: its address, path and host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address: SocketAddr,
    /// The TLS server name, if it uses TLS.
    tls: Option<Name>,
    host: HeaderValue,
    path: Uri,
}

/// Why the owner's URL is invalid for HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The host is not a valid header value.
    #[error("the host is empty or holds characters that no Host header may: correct the URL")]
    Host,
    /// The path is invalid.
    #[error("the path must begin with `/` and be a plain URL path: correct the annotation or flag")]
    Path,
}

impl Endpoint {
    /// `path` (with an optional query) at `address` with the host name `host`, with or without TLS.
    ///
    /// # Errors
    /// If `host` or `path` is invalid in an HTTP request.
    pub fn new(
        address: SocketAddr,
        tls: bool,
        host: &str,
        path: &str,
    ) -> Result<Self, InvalidEndpoint> {
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(InvalidEndpoint::Host);
        }
        let tls = tls.then(|| Name::new(host, address.ip()));
        let host = HeaderValue::from_str(host).map_err(|_| InvalidEndpoint::Host)?;
        if !path.starts_with('/') {
            return Err(InvalidEndpoint::Path);
        }
        let path = path.parse().map_err(|_| InvalidEndpoint::Path)?;
        Ok(Self { address, tls, host, path })
    }

    /// A request to it, without method and body.
    #[must_use]
    pub fn request(&self) -> request::Builder {
        Request::builder()
            .uri(self.path.clone())
            .header(header::HOST, self.host.clone())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
    }

    /// A call of gRPC to it; `None` if the host cannot be part of a URI.
    pub(crate) fn call(&self) -> Option<Request<()>> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.host.as_bytes())
            .path_and_query(self.path.path())
            .build()
            .ok()?;
        Request::post(uri)
            .header(header::CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE))
            .header(header::TE, HeaderValue::from_static("trailers"))
            .header(header::USER_AGENT, USER_AGENT)
            .body(())
            .ok()
    }

    pub(crate) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) async fn connect(&self) -> Result<TcpStream, Transport> {
        let failed = |error| connecting(&error);
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }

    /// Wraps a connection in TLS, if required.
    pub(crate) async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Transport> {
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(name) => Ok(Box::new(tls::connect(name, stream).await?)),
        }
    }
}

/// A TCP stream, or TLS over one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The error of a failed connect.
fn connecting(error: &io::Error) -> Transport {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Transport::ConnectRefused,
        Some(Errno::EMFILE | Errno::ENFILE) => {
            Transport::Agent("too many open files: raise the limit")
        }
        Some(Errno::ENOBUFS | Errno::ENOMEM) => Transport::Agent("the node is out of memory"),
        Some(Errno::EADDRNOTAVAIL | Errno::ENETUNREACH) => {
            Transport::Agent("no local address or route to the target")
        }
        Some(Errno::EPERM | Errno::EACCES) => Transport::Agent("a local policy forbids to connect"),
        _ => Transport::ConnectFailed(error.kind()),
    }
}

/// The error of an established connection.
pub(crate) const fn broken(kind: io::ErrorKind) -> Transport {
    match kind {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Transport::Reset,
        // hyper's error message for invalid chunks.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Transport::NotHttp,
        // The bound of `Noted`.
        io::ErrorKind::QuotaExceeded => Transport::TooLarge,
        _ => Transport::Closed,
    }
}

/// Converts hyper's error of an established connection.
pub(crate) fn failed(error: &hyper::Error) -> Transport {
    if error.is_parse_too_large() {
        return Transport::TooLarge;
    }
    if error.is_parse() {
        return Transport::NotHttp;
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.map_or(Transport::Closed, |cause| broken(cause.kind()))
}

/// An open connection. hyper closes it as soon as this, or an unread body, is dropped.
#[derive(Debug)]
pub struct Connection(http1::SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Why that failed.
    pub async fn open(to: &Endpoint) -> Result<Self, Transport> {
        let stream = to.secure(to.connect().await?).await?;
        let (requests, connection) = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            // A caller that waits for a response receives the error; otherwise the peer merely
            // closed an idle connection.
            let _ = connection.await;
        });
        Ok(Self(requests))
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Transport> {
        self.0.ready().await.map_err(|error| failed(&error))?;
        self.0.send_request(request).await.map_err(|error| failed(&error))
    }
}

/// The whole body, if it is within [`BODY_LIMIT`].
///
/// # Errors
/// If it is larger, or ends early.
pub async fn read(mut body: Incoming) -> Result<Vec<u8>, Transport> {
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(Transport::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > BODY_LIMIT {
            return Err(Transport::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
