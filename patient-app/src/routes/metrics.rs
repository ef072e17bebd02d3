//! `GET /metrics`: all counters and measurements, true whatever `/health` says.
mod accept;
mod text;

use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue, VARY};
use serde_json::{Map, Value, json};

use super::reply::{Reply, failure, json, with_type};
use crate::illness::Name;
use crate::state::App;

pub(super) fn get(app: &App, headers: &HeaderMap) -> Reply {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut reply = if accept::prefers_text(accepted) {
        match text::page(app) {
            Ok(page) => with_type(StatusCode::OK, text::MEDIA_TYPE, page.into_bytes()),
            Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    } else {
        json(StatusCode::OK, &as_json(app))
    };
    reply.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    reply
}

fn as_json(app: &App) -> Value {
    let (health, vitals) = app.health();
    let responses: Map<_, _> =
        app.tally.responses().map(|(class, n)| (class.to_owned(), n.into())).collect();
    let illnesses = app.illnesses.snapshot();
    let active: Vec<_> = Name::ALL
        .into_iter()
        .filter(|name| illnesses.get(*name).is_some())
        .map(Name::as_str)
        .collect();
    json!({
        "status": health.status,
        "cpu_usage": health.cpu_usage,
        "memory_usage": health.memory_usage,
        "error_count": health.error_count,
        "uptime": health.uptime,
        "errors_total": app.tally.errors.get(),
        "heals_total": app.tally.heals.get(),
        "connection_resets_total": app.tally.resets.get(),
        "responses_total": responses,
        "cpu": vitals.cpu.map(|c| {
            json!({ "used_seconds": c.used, "limit_cores": c.limit, "scope": c.scope })
        }),
        "memory": vitals.memory.map(|m| {
            json!({ "used_bytes": m.used as u64, "limit_bytes": m.limit as u64, "scope": m.scope })
        }),
        "illnesses": active,
    })
}
