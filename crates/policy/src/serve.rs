//! `/livez` and `/readyz`, for the kubelet.
use std::{convert::Infallible, future::pending, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use paramedic_listen::{AcceptLoop, Accepted, Listener};
use tokio::sync::watch;
use tracing::debug;

/// Maximum number of connections.
const CONNECTIONS: usize = 32;
/// Timeout of a client's request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is pending before it is ready, one per line; empty if it is ready.
pub(crate) type Pending = watch::Receiver<String>;

/// Serves until it is dropped.
pub(crate) async fn serve(listener: Listener, pending_parts: Pending) {
    let serve = move |accepted| connection(accepted, pending_parts.clone());
    AcceptLoop::new(listener).limit(CONNECTIONS).run(pending(), serve).await;
}

async fn connection(accepted: Accepted, pending_parts: Pending) {
    let Accepted { stream, place, mut stopping, .. } = accepted;
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.uri().path(), &pending_parts.borrow());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = stopping.serve(&mut connection, pending()).await {
        debug!(%error, "client disconnected");
    }
    drop(place);
}

fn answer(path: &str, pending_parts: &str) -> Response<Full<Bytes>> {
    let (status, body) = match path {
        "/livez" => (StatusCode::OK, "ok\n"),
        "/readyz" if pending_parts.is_empty() => (StatusCode::OK, "ok\n"),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, pending_parts),
        _ => (StatusCode::NOT_FOUND, "/livez and /readyz\n"),
    };
    let mut response = Response::new(Full::from(body.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_nothing_is_pending() {
        let status = |path, parts| answer(path, parts).status().as_u16();
        assert_eq!(status("/livez", "the pods: pending\n"), 200);
        assert_eq!(status("/readyz", "the pods: pending\n"), 503);
        assert_eq!(status("/readyz", ""), 200);
        assert_eq!(status("/metrics", ""), 404);
    }
}
