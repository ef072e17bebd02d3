//! HTTP towards one target, which may be broken, slow or hostile.
//!
//! One connection at a time and no pool: hyper's bare HTTP/1.1 over one stream, TCP or TLS, to one
//! address that was given and is never followed elsewhere. Everything a target can make the agent
//! keep is bounded here; the time it can take is bounded by the callers.
use std::{error::Error as _, io, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Body, Incoming},
    client::conn::http1,
    header::{self, HeaderValue},
    http::request,
};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::tls::{self, Name};

/// Most bytes of a response's body.
pub const BODY_LIMIT: usize = 64 * 1024;
/// Most bytes of a response's head; hyper's own default allows 100 headers in it.
pub(super) const HEAD_LIMIT: usize = 16 * 1024;
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("paramedic/", env!("CARGO_PKG_VERSION")));

/// How many responses of each class a call drew from the target: 1xx, 2xx, 3xx, 4xx, 5xx.
///
/// For taking the agent's own calls out of what the kernel counted. A response counts once its
/// head is complete, whatever becomes of its body; interim 1xx heads are not seen.
pub type Responses = [u32; 5];

/// One URL of a target: where to connect, what to ask for, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address: SocketAddr,
    /// Over TLS, under this name.
    tls: Option<Name>,
    host: HeaderValue,
    path: Uri,
}

/// What an owner wrote cannot be asked for over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The host is no header value.
    #[error("the host is empty or holds characters that no Host header may: correct the URL")]
    Host,
    /// The path is no path.
    #[error("the path must begin with `/` and be a plain URL path: correct the annotation or flag")]
    Path,
}

impl Endpoint {
    /// `path` (with an optional query) at `address`, asked for under the name `host`, over TLS or
    /// plainly.
    ///
    /// # Errors
    /// If `host` or `path` cannot stand in an HTTP request.
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

    pub(crate) fn request(&self) -> request::Builder {
        Request::builder()
            .uri(self.path.clone())
            .header(header::HOST, self.host.clone())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
    }

    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) async fn connect(&self) -> Result<TcpStream, Transport> {
        let failed = |error| Transport::connecting(&error);
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }

    /// What requests go over once there is a connection.
    pub(super) async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Transport> {
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(name) => Ok(Box::new(tls::connect(name, stream).await?)),
        }
    }
}

/// A TCP stream, or TLS over one.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why no complete response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Transport {
    /// Connecting, head and body together took longer than the call may.
    #[error("no complete answer in time")]
    Timeout,
    /// Nobody listens there.
    #[error("connection refused: nothing listens on the port")]
    ConnectRefused,
    /// No connection for another reason.
    #[error("cannot connect: {0}")]
    ConnectFailed(io::ErrorKind),
    /// The target reset the connection.
    #[error("the target reset the connection")]
    Reset,
    /// The target closed the connection before the response was complete.
    #[error("the target closed the connection before its answer was complete")]
    Closed,
    /// What came is not HTTP/1.x.
    #[error("the answer is not HTTP/1.x: is the port right, and does it speak TLS (https)?")]
    NotHttp,
    /// What came is not TLS, or not a version that the agent speaks.
    #[error("no TLS 1.2 or 1.3 there: is the port right, and is it plain http?")]
    NotTls,
    /// Head or body exceed what the agent accepts.
    #[error("the answer is larger than the agent accepts")]
    TooLarge,
    /// Not the target's doing: the agent could not open a socket, or was itself kept from running.
    #[error("the agent itself could not ask: {0}")]
    Agent(&'static str),
}

impl Transport {
    /// A label for metrics: finite, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectFailed(_) => "connect_failed",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::NotHttp => "not_http",
            Self::NotTls => "not_tls",
            Self::TooLarge => "too_large",
            Self::Agent(_) => "agent",
        }
    }

    /// Whether the agent, which drops its connection now, hangs up on a target that may not have
    /// finished: the target's kernel can then count one reset received, which is the agent's and
    /// no illness.
    pub(super) const fn hangs_up(self) -> bool {
        matches!(self, Self::Timeout | Self::NotHttp | Self::NotTls | Self::TooLarge)
    }

    /// Whether the target gave no answer at all.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::ConnectRefused
                | Self::ConnectFailed(_)
                | Self::Reset
                | Self::Closed
        )
    }

    fn connecting(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED) => Self::ConnectRefused,
            Some(Errno::EMFILE | Errno::ENFILE) => {
                Self::Agent("too many open files: raise the limit")
            }
            Some(Errno::ENOBUFS | Errno::ENOMEM) => Self::Agent("the node is out of memory"),
            Some(Errno::EADDRNOTAVAIL | Errno::ENETUNREACH) => {
                Self::Agent("no local address or route to the target")
            }
            Some(Errno::EPERM | Errno::EACCES) => Self::Agent("a local policy forbids to connect"),
            _ => Self::ConnectFailed(error.kind()),
        }
    }

    /// An error of a connection that stood.
    pub(super) const fn broken(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            // hyper's words for chunks that are none.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::NotHttp,
            _ => Self::Closed,
        }
    }
}

impl From<hyper::Error> for Transport {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse_too_large() {
            return Self::TooLarge;
        }
        if error.is_parse() {
            return Self::NotHttp;
        }
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.map_or(Self::Closed, |cause| Self::broken(cause.kind()))
    }
}

/// One open connection. hyper closes it as soon as this, or a body that is still unread, is
/// dropped.
#[derive(Debug)]
pub(crate) struct Connection(http1::SendRequest<Full<Bytes>>);

impl Connection {
    pub(crate) async fn open(to: &Endpoint) -> Result<Self, Transport> {
        let stream = to.secure(to.connect().await?).await?;
        let (requests, connection) = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            // Whoever waits for a response is told of the error; with nobody waiting, the peer
            // merely ended an idle connection.
            let _ = connection.await;
        });
        Ok(Self(requests))
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Transport> {
        self.0.ready().await?;
        Ok(self.0.send_request(request).await?)
    }
}

/// The whole body, if it is within [`BODY_LIMIT`].
pub(crate) async fn read(mut body: Incoming) -> Result<Vec<u8>, Transport> {
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(Transport::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_LIMIT {
            return Err(Transport::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Counts one response under its class.
pub(crate) fn count(responses: &mut Responses, status: StatusCode) {
    let class = usize::from(status.as_u16() / 100);
    if let Some(count) = class.checked_sub(1).and_then(|i| responses.get_mut(i)) {
        *count += 1;
    }
}
