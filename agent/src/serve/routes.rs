//! Routes of the HTTP server.
use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, VARY},
};
use paramedic_listen::Stopping;
use paramedic_record::{
    Journal, JournalError, evidence::Told, metrics::CONTENT_TYPE as PROMETHEUS,
};
use serde::Serialize;
use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use super::{BuildInfo, Query, Sources, TargetView, live::Live, page};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// If the loop does not answer within this time, it is not alive.
const LOOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of incidents per request.
const INCIDENTS: u32 = 100;

const OVERVIEW: &str = "\
Paramedic: first responder for this node

/                   in a browser: the status page, live
/fleet              in a browser, behind `kubectl proxy`: the targets of all nodes
/events             the same as server-sent events of the changes; `paramedic top` reads it
/metrics            Prometheus metrics
/livez              200 while the agent's loop responds
/readyz             200 once all targets are known, else 503 and a list of what is pending
/api/v1/about       JSON: this agent's node, version and mode, and what it waits for
/api/v1/targets     JSON: the targets with their signals and verdicts; /NAMESPACE/POD for one
/api/v1/incidents   JSON: the last 100 incidents, newest first; of evidence, only what stands out
";

/// The agent itself.
#[derive(Serialize)]
struct About<'a> {
    #[serde(flatten)]
    agent: &'a BuildInfo,
    /// What it waits for before it is ready.
    pending: Vec<String>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Answers one request.
pub(super) async fn answer(
    request: Request<Incoming>,
    sources: &Sources,
    live: &Live,
    stopping: &Stopping,
) -> Result<Answer, Infallible> {
    let mut answer = route(&request, sources, live, stopping).await;
    page::protect(answer.headers_mut());
    Ok(answer)
}

async fn route(
    request: &Request<Incoming>,
    sources: &Sources,
    live: &Live,
    stopping: &Stopping,
) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "read-only: GET and HEAD\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/" => {
            let mut answer = if wants_html(request.headers()) {
                reply(StatusCode::OK, page::HTML.kind, page::HTML.text)
            } else {
                text(StatusCode::OK, OVERVIEW)
            };
            answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
            answer
        }
        "/events" => events(live, stopping),
        "/metrics" => match sources.metrics.render() {
            Ok(page) => reply(StatusCode::OK, PROMETHEUS, page),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        },
        "/livez" => livez(sources).await,
        "/readyz" => readyz(sources).await,
        "/api/v1/about" => match ask(sources, Query::Pending).await {
            Some(pending) => json(&About { agent: &sources.about, pending }),
            None => no_loop(),
        },
        "/api/v1/targets" => match ask(sources, Query::Targets).await {
            Some(targets) => json(&targets),
            None => no_loop(),
        },
        "/api/v1/incidents" => incidents(sources, live).await,
        path => match (path.strip_prefix("/api/v1/targets/"), page::file(path)) {
            (Some(name), _) => target(sources, name).await,
            (None, Some(file)) => reply(StatusCode::OK, file.kind, file.text),
            (None, None) => text(StatusCode::NOT_FOUND, "no such page; see /\n"),
        },
    }
}

/// A browser asks for HTML; curl and Prometheus accept anything, and get the overview.
fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn events(live: &Live, stopping: &Stopping) -> Answer {
    match live.listen(stopping) {
        Some(body) => {
            let mut answer = Response::new(body);
            let kind = HeaderValue::from_static("text/event-stream");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        None => {
            let mut answer =
                text(StatusCode::SERVICE_UNAVAILABLE, "too many listeners; try again later\n");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            answer
        }
    }
}

/// One target by its full name, or by the pod's name if it is unique.
async fn target(sources: &Sources, name: &str) -> Answer {
    let Some(targets) = ask(sources, Query::Targets).await else { return no_loop() };
    if let Some(exact) = targets.iter().find(|target| target.name == name) {
        return json(exact);
    }
    let pod = |target: &&TargetView| target.name.rsplit_once('/').is_some_and(|(_, p)| p == name);
    let mut found = targets.iter().filter(pod);
    match (found.next(), found.next()) {
        (Some(only), None) => json(only),
        (Some(_), Some(_)) => {
            text(StatusCode::CONFLICT, "several pods have this name: use NAMESPACE/POD\n")
        }
        _ => text(StatusCode::NOT_FOUND, "not watched by this agent; see /api/v1/targets\n"),
    }
}

async fn livez(sources: &Sources) -> Answer {
    match ask(sources, Query::Pending).await {
        Some(_) => text(StatusCode::OK, "ok\n"),
        None => no_loop(),
    }
}

async fn readyz(sources: &Sources) -> Answer {
    match ask(sources, Query::Pending).await {
        Some(pending) if pending.is_empty() => text(StatusCode::OK, "ok\n"),
        Some(pending) => {
            let list = pending.join("\n") + "\n";
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, list)
        }
        None => no_loop(),
    }
}

async fn incidents(sources: &Sources, live: &Live) -> Answer {
    let Some(state_dir) = sources.state_dir.clone() else {
        return text(StatusCode::NOT_FOUND, "this agent has no journal; its log names the cause\n");
    };
    let summaries = live.summaries();
    let read = move || {
        let incidents = Journal::read_only(&state_dir)?.recent(INCIDENTS)?;
        Ok(summaries.lock().tell(incidents))
    };
    let read: Result<Result<Vec<Told>, JournalError>, _> = spawn_blocking(read).await;
    match read {
        Ok(Ok(incidents)) => json(&incidents),
        Ok(Err(error)) => {
            reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("the journal: {error}\n"))
        }
        Err(error) => {
            reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("the journal: {error}\n"))
        }
    }
}

pub(super) async fn ask<T>(sources: &Sources, query: fn(oneshot::Sender<T>) -> Query) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        sources.queries.send(query(reply)).await.ok()?;
        answer.await.ok()
    };
    timeout(LOOP_TIMEOUT, asked).await.ok().flatten()
}

fn no_loop() -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, "the agent's loop does not answer\n")
}

fn json<T: Serialize>(value: &T) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => reply(StatusCode::OK, JSON, body),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
    }
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    reply(status, TEXT, body)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
