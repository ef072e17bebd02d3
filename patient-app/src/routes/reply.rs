//! Responses, and reading of request bodies.
use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// A response.
pub(crate) type Reply = Response<Full<Bytes>>;

/// The connection must be closed by a TCP reset, without a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset, as the illness demands")]
pub(crate) struct ResetConnection;

/// Maximum length of a body; the largest useful one has some 60 bytes.
const BODY_LIMIT: usize = 4096;

/// A longer body is read and discarded up to here, so that its sender gets the response; beyond it
/// the connection is closed.
const DISCARD_LIMIT: u64 = 1 << 20;

const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A JSON response.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    // Only maps with keys that are not strings can fail, and there are none.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    with_type(status, "application/json", text)
}

/// A JSON response with an error.
pub(super) fn failure(status: StatusCode, error: &impl Display) -> Reply {
    json(status, &json!({ "error": error.to_string() }))
}

/// A response of the given media type.
pub(super) fn with_type(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// The whole body of a request, or the response that refuses it.
pub(super) async fn read(body: Incoming) -> Result<Vec<u8>, Box<Reply>> {
    let late =
        |_| Box::new(failure(StatusCode::REQUEST_TIMEOUT, &"the body did not arrive in 5 s"));
    tokio::time::timeout(BODY_TIMEOUT, read_all(body)).await.map_err(late)?
}

async fn read_all(mut body: Incoming) -> Result<Vec<u8>, Box<Reply>> {
    let mut kept = Vec::new();
    let mut seen = 0_u64;
    if body.size_hint().lower() > DISCARD_LIMIT {
        return Err(too_large());
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Box::new(failure(StatusCode::BAD_REQUEST, &e)))?;
        let data = frame.into_data().unwrap_or_default();
        seen += data.len() as u64;
        if seen <= BODY_LIMIT as u64 {
            kept.extend_from_slice(&data);
        } else if seen > DISCARD_LIMIT {
            break;
        }
    }
    if seen > BODY_LIMIT as u64 { Err(too_large()) } else { Ok(kept) }
}

fn too_large() -> Box<Reply> {
    let message = format!("the body is longer than {BODY_LIMIT} bytes");
    Box::new(failure(StatusCode::PAYLOAD_TOO_LARGE, &message))
}
