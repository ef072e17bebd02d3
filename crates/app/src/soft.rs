//! The soft remedy by HTTP: asks the app to reset itself, by the request that its owner names, or
//! `POST /heal {"action":"reset_errors"}`.
//!
//! It always uses a fresh connection and never retries: the caller decides that, with
//! [`SoftError::is_retryable`]. A 2xx says that the app agreed, not that it is well: verification
//! decides that. So the body of the response is ignored.
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};
use paramedic_core::{
    health::{Responses, Transport, count},
    target::SoftRequest,
};
use tokio::time::{Instant, timeout};

use crate::client::{Connection, Endpoint, read};

/// Timeout of the whole exchange.
pub const BUDGET: Duration = Duration::from_secs(3);

/// The result of one reset request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Whether the app agreed.
    pub result: Result<(), SoftError>,
    /// Its duration, even if it failed.
    pub latency: Duration,
    /// The target's responses to it, to be subtracted from the kernel's counts.
    pub responses: Responses,
}

/// Why the app did not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SoftError {
    /// No HTTP response. The app may have acted nevertheless.
    #[error(transparent)]
    Transport(#[from] Transport),
    /// The app has no such endpoint (404, 405 or 501).
    #[error("the app offers no soft remedy here (HTTP {0}): name the request if it does elsewhere")]
    Unsupported(u16),
    /// A redirect, which is never followed.
    #[error("redirected (HTTP {0}), which is never followed: name the path that it leads to")]
    Redirect(u16),
    /// The app understood and refused.
    #[error("the app refused to reset (HTTP {0}): does it know this request?")]
    Refused(u16),
    /// The app failed, or asks to retry later.
    #[error("the app failed to reset (HTTP {0})")]
    Failed(u16),
}

impl SoftError {
    /// A label for metrics: finite, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transport(error) => error.name(),
            Self::Unsupported(_) => "unsupported",
            Self::Redirect(_) => "redirect",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether a retry may succeed a moment later. A reset is safe to repeat, so it does not matter
    /// whether the first one arrived.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Transport(error) => {
                !matches!(error, Transport::NotHttp | Transport::NotTls | Transport::TooLarge)
            }
            Self::Failed(_) => true,
            Self::Unsupported(_) | Self::Redirect(_) | Self::Refused(_) => false,
        }
    }
}

/// Sends this request to the app behind `heal`, whose path is that of the request. Cancel-safe.
pub async fn reset(heal: &Endpoint, request: &SoftRequest) -> Reset {
    let begun = Instant::now();
    let mut status = None;
    let exchange = timeout(BUDGET, send(heal, request, &mut status)).await;
    let latency = begun.elapsed();
    let mut responses = Responses::default();
    let result = match (status, exchange) {
        // The head is the response, even if its body never ends.
        (Some(status), _) => {
            count(&mut responses, status);
            judge(status)
        }
        (None, Ok(Err(error))) => Err(error.into()),
        (None, _) => Err(Transport::Timeout.into()),
    };
    Reset { result, latency, responses }
}

/// Sends the request; `status` is set as soon as the head of the response is there.
async fn send(
    heal: &Endpoint,
    request: &SoftRequest,
    status: &mut Option<StatusCode>,
) -> Result<(), Transport> {
    let mut head = heal
        .request()
        .method(request.method.name())
        .header(header::CONNECTION, HeaderValue::from_static("close"));
    if !request.body.is_empty() {
        let kind = if request.is_json() { "application/json" } else { "text/plain; charset=utf-8" };
        head = head.header(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    let request = head
        .body(Full::new(Bytes::from(request.body.clone())))
        .map_err(|_| Transport::Agent("its request is not valid HTTP"))?;
    let mut connection = Connection::open(heal).await?;
    let response = connection.send(request).await?;
    *status = Some(response.status());
    // Read only so that closing does not send the target a reset.
    read(response.into_body()).await.map(drop)
}

const fn judge(status: StatusCode) -> Result<(), SoftError> {
    match status.as_u16() {
        200..=299 => Ok(()),
        code @ (404 | 405 | 501) => Err(SoftError::Unsupported(code)),
        code @ 300..=399 => Err(SoftError::Redirect(code)),
        code @ (408 | 425 | 429 | 500..=599) => Err(SoftError::Failed(code)),
        code => Err(SoftError::Refused(code)),
    }
}

#[cfg(test)]
mod tests {
    use paramedic_core::target::Soft;

    use super::*;
    use crate::hostile::{Server, free_address};

    fn named(soft: &Soft) -> &SoftRequest {
        let Soft::Http(request) = soft else { panic!("{soft}") };
        request
    }

    async fn reset_errors(heal: &Endpoint) -> Reset {
        reset(heal, named(&Soft::default())).await
    }

    fn heal(server: &Server) -> Endpoint {
        Endpoint::new(server.address, false, "patient:5000", "/heal").unwrap()
    }

    async fn answered(answer: &'static str) -> Reset {
        reset_errors(&heal(&Server::answering(answer).await)).await
    }

    #[tokio::test]
    async fn the_request_is_post_heal_with_reset_errors() {
        let mut server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        let reset = reset_errors(&heal(&server)).await;
        assert_eq!(reset.result, Ok(()));
        assert_eq!(reset.responses, [0, 1, 0, 0, 0]);
        let request = server.request().await;
        assert!(request.starts_with("POST /heal HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("host: patient:5000\r\n"), "{request}");
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"action\":\"reset_errors\"}"), "{request}");
    }

    #[tokio::test]
    async fn the_request_is_the_one_that_the_owner_names() {
        for (text, line, kind, body) in [
            ("http POST /actuator/refresh", "POST /actuator/refresh", None, ""),
            ("http PUT /cache?all=1 [1]", "PUT /cache?all=1", Some("application/json"), "[1]"),
            ("http DELETE /sessions now", "DELETE /sessions", Some("text/plain"), "now"),
        ] {
            let soft = Soft::read(text).unwrap();
            let request = named(&soft);
            let mut server = Server::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
            let endpoint = Endpoint::new(server.address, false, "shop", &request.path).unwrap();
            assert_eq!(reset(&endpoint, request).await.result, Ok(()));
            let seen = server.request().await;
            assert!(seen.starts_with(&format!("{line} HTTP/1.1\r\n")), "{seen}");
            assert!(seen.ends_with(&format!("\r\n\r\n{body}")), "{seen}");
            let has = |kind| seen.contains(&format!("content-type: {kind}"));
            assert!(kind.map_or(!seen.contains("content-type"), has), "{seen}");
        }
    }

    #[tokio::test]
    async fn the_status_decides_whether_to_retry() {
        for (answer, error, retry, class) in [
            ("HTTP/1.1 400 B\r\ncontent-length: 0\r\n\r\n", SoftError::Refused(400), false, 3),
            ("HTTP/1.1 404 N\r\ncontent-length: 0\r\n\r\n", SoftError::Unsupported(404), false, 3),
            ("HTTP/1.1 405 N\r\ncontent-length: 0\r\n\r\n", SoftError::Unsupported(405), false, 3),
            ("HTTP/1.1 429 T\r\ncontent-length: 0\r\n\r\n", SoftError::Failed(429), true, 3),
            ("HTTP/1.1 302 F\r\nlocation: /x\r\n\r\n", SoftError::Redirect(302), false, 2),
            ("HTTP/1.1 503 S\r\ncontent-length: 9\r\n\r\nx", SoftError::Failed(503), true, 4),
        ] {
            let reset = answered(answer).await;
            assert_eq!(reset.result, Err(error), "{answer}");
            assert_eq!(error.is_retryable(), retry, "{answer}");
            let mut responses = Responses::default();
            responses[class] = 1;
            assert_eq!(reset.responses, responses, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_2xx_head_is_agreement_whatever_follows() {
        for answer in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        ] {
            assert_eq!(answered(answer).await.result, Ok(()), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_missing_response_is_an_error_and_not_retried() {
        let server = Server::answering("").await;
        let reset = reset_errors(&heal(&server)).await;
        assert_eq!(reset.result, Err(SoftError::Transport(Transport::Closed)));
        assert_eq!(reset.responses, [0; 5]);
        assert_eq!(server.accepted(), 1);

        let nowhere = Endpoint::new(free_address().await, false, "x", "/heal").unwrap();
        let refused = SoftError::Transport(Transport::ConnectRefused);
        assert_eq!(reset_errors(&nowhere).await.result, Err(refused));
        assert!(refused.is_retryable());
        assert_eq!(refused.name(), "connect_refused");

        let garbage = answered("SSH-2.0-OpenSSH_9.9\r\n").await.result.unwrap_err();
        assert_eq!(garbage, SoftError::Transport(Transport::NotHttp));
        assert!(!garbage.is_retryable());
    }

    #[tokio::test]
    async fn a_silent_app_times_out() {
        let server = Server::silent().await;
        let reset = reset_errors(&heal(&server)).await;
        assert_eq!(reset.result, Err(SoftError::Transport(Transport::Timeout)));
        assert!(reset.latency >= BUDGET, "{:?}", reset.latency);
        assert_eq!(reset.responses, [0; 5]);
    }
}
