//! Requests to programs on stage.
use anyhow::{Context, Result};
use serde_json::Value;

/// Seconds after which a request is given up.
const TIMEOUT_S: u64 = 5;

/// `GET`, whatever the status; the body as JSON, `null` if it is none.
pub(crate) fn get(url: &str) -> Result<Value> {
    send(minreq::get(url))
}

/// `POST` of a JSON body.
pub(crate) fn post(url: &str, body: &Value) -> Result<Value> {
    send(
        minreq::post(url)
            .with_header("Content-Type", "application/json")
            .with_body(body.to_string()),
    )
}

/// `DELETE`.
pub(crate) fn delete(url: &str) -> Result<Value> {
    send(minreq::delete(url))
}

fn send(request: minreq::Request) -> Result<Value> {
    let answer = request.with_timeout(TIMEOUT_S).send()?;
    Ok(serde_json::from_slice(answer.as_bytes()).unwrap_or(Value::Null))
}

/// One field of a JSON answer as an unsigned number.
pub(crate) fn number(url: &str, field: &str) -> Result<u64> {
    get(url)?[field].as_u64().with_context(|| format!("{url} answers without a number {field:?}"))
}
