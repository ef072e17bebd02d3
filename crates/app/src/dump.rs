//! The app's own dump of its state, such as `/threaddump` or `/debug/pprof/goroutine?debug=1`: one
//! `GET` before a hard remedy, for targets whose owner names the path.
//!
//! It always uses a fresh connection, never retries and follows no redirect. An app that hangs
//! rarely answers: then the time is up, and what came until then is returned.
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, StatusCode,
    header::{self, HeaderValue},
};
use paramedic_core::health::{Responses, Transport, count};
use tokio::time::timeout;

use crate::client::{Connection, Endpoint, failed};

/// Maximum size of a dump, in bytes; the rest is not read.
pub const MAX_DUMP: usize = 256 << 10;

/// Spring's actuator writes its threads as text for the first, as JSON otherwise.
const ACCEPT: HeaderValue =
    HeaderValue::from_static("text/plain, application/json;q=0.9, */*;q=0.8");

/// The result of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The body, or why it could not be read.
    pub result: Result<Body, DumpError>,
    /// The target's responses to it, to be subtracted from the kernel's counts.
    pub responses: Responses,
}

/// The beginning of a response's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// At most [`MAX_DUMP`] bytes.
    pub bytes: Vec<u8>,
    /// Whether more was to come.
    pub cut: bool,
}

/// Why there is no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// No HTTP response.
    #[error(transparent)]
    Transport(#[from] Transport),
    /// Another status than 2xx.
    #[error("the app answered HTTP {0}: correct the path of the dump")]
    Status(u16),
}

/// Reads the dump at `from` within `limit`. Cancel-safe.
pub async fn read(from: &Endpoint, limit: Duration) -> Dump {
    let (mut status, mut body) = (None, Body::default());
    let ended = timeout(limit, get(from, &mut status, &mut body)).await;
    let mut responses = Responses::default();
    if let Some(status) = status {
        count(&mut responses, status);
    }
    let result = match (status, ended) {
        (Some(status), _) if !status.is_success() => Err(DumpError::Status(status.as_u16())),
        (Some(_), Ok(Ok(()))) => Ok(body),
        // Half a dump names half of the threads.
        (Some(_), _) if !body.bytes.is_empty() => Ok(Body { cut: true, ..body }),
        (_, Ok(Err(error))) => Err(error.into()),
        _ => Err(Transport::Timeout.into()),
    };
    Dump { result, responses }
}

/// Sends the request. `status` and `body` have what came, also if this is dropped.
async fn get(
    from: &Endpoint,
    status: &mut Option<StatusCode>,
    body: &mut Body,
) -> Result<(), Transport> {
    let mut request = from
        .request()
        .method(Method::GET)
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .body(Full::new(Bytes::new()))
        .map_err(|_| Transport::Agent("its request is not valid HTTP"))?;
    request.headers_mut().insert(header::ACCEPT, ACCEPT);
    let mut connection = Connection::open(from).await?;
    let response = connection.send(request).await?;
    *status = Some(response.status());
    let mut frames = response.into_body();
    while let Some(frame) = frames.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        let room = MAX_DUMP - body.bytes.len();
        body.bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            body.cut = true;
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::{Server, free_address};

    const LIMIT: Duration = Duration::from_secs(1);

    fn dump_of(server: &Server) -> Endpoint {
        Endpoint::new(server.address, false, "patient:5000", "/debug/pprof/goroutine?debug=1")
            .unwrap()
    }

    async fn answered(answer: &'static str) -> Dump {
        read(&dump_of(&Server::answering(answer).await), LIMIT).await
    }

    #[tokio::test]
    async fn the_request_is_a_get_with_its_query_and_the_body_is_kept() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n3 goroutines\n";
        let mut server = Server::answering(answer).await;
        let dump = read(&dump_of(&server), LIMIT).await;
        let body = Body { bytes: b"3 goroutines\n".to_vec(), cut: false };
        assert_eq!((dump.result, dump.responses), (Ok(body), [0, 1, 0, 0, 0]));
        let request = server.request().await;
        assert!(
            request.starts_with("GET /debug/pprof/goroutine?debug=1 HTTP/1.1\r\n"),
            "{request}"
        );
        assert_eq!(request.matches("accept: ").count(), 1, "{request}");
        assert!(request.contains("accept: text/plain"), "{request}");
    }

    #[tokio::test]
    async fn another_status_than_2xx_is_an_error() {
        for (answer, status, class) in [
            ("HTTP/1.1 404 N\r\ncontent-length: 0\r\n\r\n", 404, 3),
            ("HTTP/1.1 302 F\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", 302, 2),
            ("HTTP/1.1 500 S\r\ncontent-length: 9\r\n\r\nx", 500, 4),
        ] {
            let dump = answered(answer).await;
            assert_eq!(dump.result, Err(DumpError::Status(status)), "{answer}");
            assert_eq!(dump.responses[class], 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_kept_as_far_as_it_came() {
        let dump = answered("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nhalf").await;
        assert_eq!(dump.result, Ok(Body { bytes: b"half".to_vec(), cut: true }));
    }

    #[tokio::test]
    async fn a_long_dump_is_cut() {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 2 * MAX_DUMP);
        let answer: &'static str = (head + &"x".repeat(2 * MAX_DUMP)).leak();
        let body = answered(answer).await.result.unwrap();
        assert_eq!((body.bytes.len(), body.cut), (MAX_DUMP, true));
    }

    #[tokio::test]
    async fn an_app_that_hangs_costs_no_more_than_the_limit() {
        let server = Server::silent().await;
        let limit = Duration::from_millis(200);
        let begun = std::time::Instant::now();
        let dump = read(&dump_of(&server), limit).await;
        assert_eq!(dump.result, Err(DumpError::Transport(Transport::Timeout)));
        assert!(begun.elapsed() < limit * 5, "{:?}", begun.elapsed());
        let nowhere = Endpoint::new(free_address().await, false, "x", "/dump").unwrap();
        let refused = DumpError::Transport(Transport::ConnectRefused);
        assert_eq!(read(&nowhere, LIMIT).await.result, Err(refused));
    }
}
