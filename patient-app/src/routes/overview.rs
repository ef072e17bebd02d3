//! `GET /`.
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::ENDPOINTS;
use super::reply::{Reply, json};

pub(super) fn get() -> Reply {
    let endpoints: Vec<Value> = ENDPOINTS
        .iter()
        .map(|e| {
            let methods: Vec<_> = e.methods.iter().map(Method::as_str).collect();
            json!({ "path": e.path, "methods": methods, "purpose": e.purpose })
        })
        .collect();
    json(
        StatusCode::OK,
        &json!({
            "service": "patient-app",
            "version": env!("CARGO_PKG_VERSION"),
            "message": "A small service with injectable faults, to try out Paramedic.",
            "endpoints": endpoints,
        }),
    )
}
