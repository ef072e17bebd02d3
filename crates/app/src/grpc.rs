//! `grpc.health.v1.Health/Check` over HTTP/2 without TLS, one call over one connection.
//!
//! The call sets no deadline: a server that met it would send `DEADLINE_EXCEEDED`, which the kernel
//! side could not tell from that of a client of the target. The caller closes the connection
//! instead. What the target can send is bounded, frames of any kind together.
use std::pin::pin;

use bytes::Bytes;
use h2::{Reason, client};
use hyper::{HeaderMap, Request, StatusCode};
use paramedic_core::health::{
    BODY_LIMIT, Transport,
    grpc::{Answer, Code},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Duration, timeout},
};

use crate::{
    client::{HEAD_LIMIT, broken},
    exchange::Head,
};

/// A call: its head and its message.
pub(crate) type Call = (Request<()>, Bytes);

/// Maximum number of bytes that the target may send on a connection.
pub(crate) const LIMIT: usize = BODY_LIMIT + 2 * HEAD_LIMIT;
/// Size of windows and frames: the smallest that HTTP/2 permits.
const WINDOW: u32 = 65_535;
const FRAME: u32 = 16_384;
/// How long the last frame may take to be written.
const GOODBYE: Duration = Duration::from_millis(100);

/// Why there is no complete answer.
enum Failure {
    TooLarge,
    Closed,
    Http2(h2::Error),
}

impl From<Option<h2::Error>> for Failure {
    fn from(error: Option<h2::Error>) -> Self {
        error.map_or(Self::Closed, Self::Http2)
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

/// Calls over an open stream, and reads the response. The caller bounds the time and the number of
/// bytes.
///
/// # Errors
/// If no complete response comes, or one that is too large.
pub(crate) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    call: Call,
    head: &Head,
) -> Result<Answer, Transport> {
    let (requests, connection) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEAD_LIMIT as u32)
        .max_send_buffer_size(HEAD_LIMIT)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(|error| broke(&error))?;
    let mut connection = pin!(connection);
    let result = {
        let mut asked = pin!(ask(requests, call, head));
        let end = tokio::select! {
            biased;
            result = &mut asked => Err(result),
            end = &mut connection => Ok(end),
        };
        match end {
            Err(result) => result,
            // A response before it counts. An error of writing does not reach who waits for one.
            Ok(end) => tokio::select! {
                biased;
                result = asked => result,
                () = std::future::ready(()) => Err(end.err().into()),
            },
        }
    };
    // With the last stream gone, this sends GOAWAY and closes our side.
    let _ = timeout(GOODBYE, connection).await;
    match result {
        Ok(answer) => Ok(answer),
        Err(Failure::TooLarge) => Err(Transport::TooLarge),
        Err(Failure::Closed) => Err(Transport::Closed),
        Err(Failure::Http2(error)) => refusal(&error).ok_or_else(|| broke(&error)),
    }
}

async fn ask(
    requests: client::SendRequest<Bytes>,
    (request, message): Call,
    head: &Head,
) -> Result<Answer, Failure> {
    let mut requests = requests.ready().await?;
    let (response, mut sending) = requests.send_request(request, false)?;
    sending.send_data(message, true)?;
    let (parts, mut stream) = response.await?.into_parts();
    let early = Code::of(&parts.headers);
    head.tell(early.and_then(Code::fault).unwrap_or(parts.status));
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        if body.len() + data.len() > BODY_LIMIT {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    let late = stream.trailers().await?.as_ref().and_then(Code::of);
    if let Some(fault) = late.and_then(Code::fault) {
        head.tell_late(fault);
    }
    Ok(Answer { status: parts.status, headers: parts.headers, code: late.or(early), body })
}

/// What gRPC takes a refusal by HTTP/2 for: the server lives, and says why it serves nobody now.
fn refusal(error: &h2::Error) -> Option<Answer> {
    let code = match error.reason().filter(|_| error.is_remote())? {
        Reason::ENHANCE_YOUR_CALM => Code::RESOURCE_EXHAUSTED,
        Reason::REFUSED_STREAM => Code::UNAVAILABLE,
        // It shuts down.
        Reason::NO_ERROR if error.is_go_away() => Code::UNAVAILABLE,
        _ => return None,
    };
    let (status, headers) = (StatusCode::OK, HeaderMap::new());
    Some(Answer { status, headers, code: Some(code), body: Vec::new() })
}

/// Converts an error of HTTP/2.
fn broke(error: &h2::Error) -> Transport {
    match error.get_io() {
        Some(io) => broken(io.kind()),
        None if !error.is_remote() => Transport::NotHttp2,
        None if error.is_go_away() => Transport::Closed,
        None => Transport::Reset,
    }
}
