//! The app's work and its health: the routes that illnesses affect.
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::time::sleep;

use super::Outcome;
use super::reply::{Reply, ResetConnection, json};
use crate::clock::thread_cpu;
use crate::state::App;
use crate::upstream;

/// `GET /data`.
pub(super) async fn get(app: &App) -> Outcome {
    work(app, true).await;
    if app.illnesses.snapshot().hang().is_some_and(|hang| app.dice.happens(hang.ratio)) {
        app.illnesses.wait_until_not(|now| now.hang().is_some()).await;
    }
    let illnesses = app.illnesses.snapshot();
    if illnesses.resets().is_some_and(|resets| app.dice.happens(resets.ratio)) {
        return Err(ResetConnection);
    }
    if app.dice.happens(illnesses.failure_ratio(app.data_failure_ratio, app.uptime())) {
        return Ok(error(app, "the data could not be retrieved"));
    }
    toil(app.work);
    if let Some(upstream) = app.upstream
        && !upstream::answers(upstream).await
    {
        let error_count = app.tally.error();
        let body = json!({ "error": "the upstream service fails", "error_count": error_count });
        return Ok(json(StatusCode::BAD_GATEWAY, &body));
    }
    let body = json!({ "message": "data retrieved", "data": [1, 2, 3, 4, 5] });
    Ok(json(StatusCode::OK, &body))
}

/// `GET /health`.
pub(super) async fn health(app: &App) -> Reply {
    work(app, false).await;
    json(StatusCode::OK, &app.told_health())
}

/// `GET /healthz`.
pub(super) async fn healthz(app: &App) -> Reply {
    app.illnesses.wait_until_not(|now| now.stuck().is_some_and(|stuck| stuck.healthz)).await;
    json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// `GET /simulate-error`.
pub(super) fn simulate_error(app: &App) -> Reply {
    error(app, "a simulated error")
}

/// The delay of a worker before it answers `/data`, or `/health`: hanging while stuck, slow while
/// slow.
async fn work(app: &App, is_data: bool) {
    app.illnesses.wait_until_not(|now| now.stuck().is_some()).await;
    let slow = app.illnesses.snapshot().slow();
    if let Some(slow) = slow.filter(|slow| is_data || slow.health) {
        sleep(Duration::from_millis(slow.milliseconds.get())).await;
    }
}

/// Uses this much CPU time, as computing a response would: other requests wait meanwhile, and with
/// less CPU it takes longer.
fn toil(work: Duration) {
    let Some(begun) = thread_cpu() else { return };
    while thread_cpu().is_some_and(|now| now.saturating_sub(begun) < work) {
        std::hint::spin_loop();
    }
}

fn error(app: &App, message: &str) -> Reply {
    let error_count = app.tally.error();
    let body = json!({ "error": message, "error_count": error_count });
    json(StatusCode::INTERNAL_SERVER_ERROR, &body)
}
