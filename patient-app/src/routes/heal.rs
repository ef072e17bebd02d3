//! `POST /heal`: the soft remedy that the app offers.
use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::reply::{Reply, json, read};
use crate::clock::boot_nanos;
use crate::state::App;

pub(super) async fn post(app: &App, body: Incoming) -> Reply {
    // The time of receipt, not of reading: remedies are timed by this.
    app.tally.last_heal.set(boot_nanos());
    let body = match read(body).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    match action(&body) {
        Ok(()) => healed(app),
        Err(error) => {
            let expected = json!({ "action": "reset_errors" });
            json(StatusCode::BAD_REQUEST, &json!({ "error": error, "expected": expected }))
        }
    }
}

/// Checks that the body asks for the only action.
fn action(body: &[u8]) -> Result<(), String> {
    let request: Map<String, Value> =
        serde_json::from_slice(body).map_err(|e| format!("the body is not a JSON object: {e}"))?;
    match request.get("action") {
        Some(Value::String(action)) if action == "reset_errors" => Ok(()),
        Some(action) => Err(format!("unknown action {action}")),
        None => Err("the action is missing".to_owned()),
    }
}

/// Under an illness that needs a restart the response is the same, but error count and status do
/// not change.
fn healed(app: &App) -> Reply {
    let previous_error_count = app.take_soft_heal();
    json(
        StatusCode::OK,
        &json!({
            "message": "Self-healing completed",
            "action": "Errors reset",
            "previous_error_count": previous_error_count,
            "current_status": app.health().0.status,
        }),
    )
}
