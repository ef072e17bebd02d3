//! One request over one connection, which ends with it.
//!
//! An idle connection would take a single-threaded server out of service: while it reads from us it
//! accepts no other. So each request opens a connection, says `Connection: close`, and closes it as
//! soon as the response is read. Nothing is then left unread on either side: closing with unread
//! bytes sends a reset.
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use paramedic_core::health::{
    self, BODY_LIMIT, HealthError, Transport,
    classify::{self, Answer, Reading},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    client::{Endpoint, HEAD_LIMIT, Stream, failed, read},
    first::{First, Noted},
    grpc::{self, Call},
};

/// How long the target has to close its side after the response: a server that was asked to close
/// does so at once.
const FAREWELL: Duration = Duration::from_millis(100);
/// Over TLS, how long it may close before us: the end of our side is a message, which a server that
/// closes at once would leave unread.
const FIRST: Duration = Duration::from_millis(50);

/// The result of one request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Reply, Transport>,
    /// From the start of connecting to the last byte of the response.
    pub(crate) latency: Duration,
    /// The agent closed the connection before the exchange was complete.
    pub(crate) hung_up: bool,
    /// What the target sent first.
    pub(crate) first: First,
}

/// A request of either protocol.
#[derive(Debug)]
pub(crate) enum Ask {
    Http(Request<Full<Bytes>>),
    Grpc(Call),
}

/// A complete response.
#[derive(Debug)]
pub(crate) enum Reply {
    Http(Answer),
    Grpc(health::grpc::Answer),
}

impl Reply {
    /// The meaning of the response.
    ///
    /// # Errors
    /// If it is unreadable.
    pub(crate) fn read(&self) -> Result<Reading, HealthError> {
        match self {
            Self::Http(answer) => classify::read(answer),
            Self::Grpc(answer) => health::grpc::read(answer),
        }
    }
}

/// What the kernel side counts of a response whose body is still awaited. It can be taken once.
#[derive(Clone, Debug, Default)]
pub struct Head(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    status: AtomicU16,
    late: AtomicU16,
}

impl Head {
    /// The status, or the one that a code of gRPC in the head counts as.
    pub(crate) fn tell(&self, status: StatusCode) {
        self.0.status.store(status.as_u16(), Ordering::Release);
    }

    /// The status that a fault of gRPC in the trailers counts as.
    pub(crate) fn tell_late(&self, status: StatusCode) {
        self.0.late.store(status.as_u16(), Ordering::Release);
    }

    /// The status, as soon as it is known, and only the first time.
    #[must_use]
    pub fn take(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.0.status.swap(0, Ordering::AcqRel)).ok()
    }

    /// The same for the fault in the trailers, if there is one.
    pub(crate) fn take_late(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.0.late.swap(0, Ordering::AcqRel)).ok()
    }
}

/// Connects, sends, reads the response and closes, all within `limit`. Dropping it drops the
/// connection.
pub(crate) async fn exchange(to: &Endpoint, ask: Ask, limit: Duration, head: &Head) -> Outcome {
    let begun = Instant::now();
    let deadline = begun + limit;
    let mut first = First::default();
    let is_http1 = matches!(ask, Ask::Http(_));
    let connected = timeout_at(deadline, to.connect()).await.unwrap_or(Err(Transport::Timeout));
    let tcp = match connected {
        Ok(tcp) => tcp,
        Err(error) => {
            return Outcome { result: Err(error), latency: begun.elapsed(), hung_up: false, first };
        }
    };
    let conversation = async {
        let mut stream = to.secure(tcp).await?;
        let reply = match ask {
            Ask::Http(request) => {
                let noted = Noted::new(&mut *stream, &mut first, usize::MAX);
                Reply::Http(get(noted, request, head).await?)
            }
            Ask::Grpc(call) => {
                let mut noted = Noted::new(&mut *stream, &mut first, grpc::LIMIT);
                let result = grpc::converse(&mut noted, call, head).await;
                if result.is_err() {
                    // What it sent before it closed shows its protocol.
                    let _ = timeout(FAREWELL, noted.read(&mut [0; 16])).await;
                }
                Reply::Grpc(result?)
            }
        };
        Ok((reply, stream))
    };
    let result = timeout_at(deadline, conversation).await.unwrap_or(Err(Transport::Timeout));
    let latency = begun.elapsed();
    let error = |error| match (is_http1, first.is_http2()) {
        (true, true) => Transport::Http2,
        (false, false) if first.is_full() => Transport::NotHttp2,
        _ => error,
    };
    match result.map_err(error) {
        Ok((reply, stream)) => {
            let hung_up = !part(stream, to.is_tls()).await;
            Outcome { result: Ok(reply), latency, hung_up, first }
        }
        Err(error) => Outcome { result: Err(error), latency, hung_up: error.hangs_up(), first },
    }
}

/// Sends a request over an open stream and reads the response, and leaves the stream open. The caller
/// bounds the time.
///
/// # Errors
/// If no complete response comes, or one that is too large.
pub async fn converse(
    stream: &mut dyn Stream,
    request: Request<Full<Bytes>>,
    head: &Head,
) -> Result<Answer, Transport> {
    let mut first = First::default();
    let result = get(Noted::new(stream, &mut first, usize::MAX), request, head).await;
    result.map_err(|error| if first.is_http2() { Transport::Http2 } else { error })
}

async fn get(
    stream: Noted<'_>,
    request: Request<Full<Bytes>>,
    head: &Head,
) -> Result<Answer, Transport> {
    let (mut requests, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let mut connection = pin!(async move {
        // Any error reaches the receiver of the response. `part` handles the end.
        let _ = connection.without_shutdown().await;
    });
    let mut asked = pin!(async move {
        let response = requests.send_request(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = response.into_parts();
        head.tell(parts.status);
        let body = read(body).await?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    });
    tokio::select! {
        answer = &mut asked => answer,
        () = &mut connection => asked.await,
    }
}

/// Closes a connection after its response was read. Returns whether nothing was left unread.
async fn part(mut stream: Box<dyn Stream>, is_tls: bool) -> bool {
    if is_tls && let Ok(is_empty) = timeout(FIRST, drain(&mut *stream)).await {
        return is_empty;
    }
    // A connection that the target has already closed cannot be closed again.
    let _ = timeout(FAREWELL, stream.shutdown()).await;
    // A target that keeps its side open gets an orderly close nevertheless: nothing was unread.
    timeout(FAREWELL, drain(&mut *stream)).await.unwrap_or(true)
}

/// Reads to the end, but not forever.
async fn drain(stream: &mut dyn Stream) -> bool {
    let mut left = [0; 1024];
    for _ in 0..BODY_LIMIT / left.len() {
        if !matches!(stream.read(&mut left).await, Ok(1..)) {
            return true;
        }
    }
    false
}
