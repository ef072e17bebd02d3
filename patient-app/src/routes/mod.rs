//! The endpoints: one table, shared by the router, the `Allow` headers and the overview.
mod data;
mod heal;
mod illness;
mod metrics;
mod overview;
mod reply;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use crate::illness::Name;
use crate::state::App;
pub(crate) use reply::{Reply, ResetConnection};
use reply::{failure, json};

/// The outcome of a request: a response, or a connection to reset.
pub(crate) type Outcome = Result<Reply, ResetConnection>;

/// An endpoint, as in the overview.
struct Endpoint {
    route: Route,
    path: &'static str,
    methods: &'static [Method],
    purpose: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Overview,
    Healthz,
    Health,
    Metrics,
    Heal,
    SimulateError,
    Data,
    Clock,
    Illnesses,
    Illness,
}

const GET: &[Method] = &[Method::GET, Method::HEAD];

const ENDPOINTS: [Endpoint; 10] = [
    Endpoint { route: Route::Overview, path: "/", methods: GET, purpose: "this overview" },
    Endpoint {
        route: Route::Healthz,
        path: "/healthz",
        methods: GET,
        purpose: "liveness and readiness: 200 while the app answers at all",
    },
    Endpoint {
        route: Route::Health,
        path: "/health",
        methods: GET,
        purpose: "status, cpu_usage and memory_usage in percent, error_count, uptime in seconds",
    },
    Endpoint {
        route: Route::Metrics,
        path: "/metrics",
        methods: GET,
        purpose: "all counters as JSON, or as Prometheus text if Accept prefers text/plain",
    },
    Endpoint {
        route: Route::Heal,
        path: "/heal",
        methods: &[Method::POST],
        purpose: "soft healing: {\"action\":\"reset_errors\"} sets the error count to zero",
    },
    Endpoint {
        route: Route::SimulateError,
        path: "/simulate-error",
        methods: GET,
        purpose: "fails with 500 and counts one error",
    },
    Endpoint {
        route: Route::Data,
        path: "/data",
        methods: GET,
        purpose: "the app's work; a share of requests fails with 500 and counts one error",
    },
    Endpoint {
        route: Route::Clock,
        path: "/clock",
        methods: GET,
        purpose: "boot_ns now, started_at_boot_ns, last_error_at_boot_ns, last_heal_at_boot_ns: \
                  nanoseconds since boot (CLOCK_BOOTTIME), null where it never happened",
    },
    Endpoint {
        route: Route::Illnesses,
        path: "/illness",
        methods: &[Method::GET, Method::HEAD, Method::DELETE],
        purpose: "the active illnesses, also under lie; DELETE ends all of them",
    },
    Endpoint {
        route: Route::Illness,
        path: "/illness/{name}",
        methods: &[Method::GET, Method::HEAD, Method::POST, Method::DELETE],
        purpose: "POST starts one, with its parameters as an optional JSON object; DELETE ends it",
    },
];

/// Answers one request.
pub(crate) async fn answer(app: &App, request: Request<Incoming>) -> Outcome {
    let path = request.uri().path();
    let name = path.strip_prefix("/illness/").map(str::parse::<Name>);
    let name = match name.transpose() {
        Ok(name) => name,
        Err(unknown) => return Ok(failure(StatusCode::NOT_FOUND, &unknown)),
    };
    let found = ENDPOINTS.iter().find(|e| match name {
        Some(_) => e.route == Route::Illness,
        None => e.path == path,
    });
    let Some(endpoint) = found else {
        return Ok(failure(StatusCode::NOT_FOUND, &"no such endpoint; GET / lists them"));
    };
    if !endpoint.methods.contains(request.method()) {
        return Ok(method_not_allowed(endpoint));
    }
    match (endpoint.route, name) {
        (Route::Overview, _) => Ok(overview::get()),
        (Route::Healthz, _) => Ok(data::healthz(app).await),
        (Route::Health, _) => Ok(data::health(app).await),
        (Route::Data, _) => data::get(app).await,
        (Route::SimulateError, _) => Ok(data::simulate_error(app)),
        (Route::Metrics, _) => Ok(metrics::get(app, request.headers())),
        (Route::Heal, _) => Ok(heal::post(app, request.into_body()).await),
        (Route::Clock, _) => Ok(clock(app)),
        (Route::Illness, Some(name)) => Ok(illness::one(app, name, request).await),
        (Route::Illnesses | Route::Illness, _) => Ok(illness::all(app, request.method())),
    }
}

fn method_not_allowed(endpoint: &Endpoint) -> Reply {
    let allow = endpoint.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let message = format!("{} takes {allow}", endpoint.path);
    let mut reply = failure(StatusCode::METHOD_NOT_ALLOWED, &message);
    // Method names are valid header values.
    if let Ok(value) = HeaderValue::from_str(&allow) {
        reply.headers_mut().insert(ALLOW, value);
    }
    reply
}

fn clock(app: &App) -> Reply {
    json(
        StatusCode::OK,
        &json!({
            "boot_ns": crate::clock::boot_nanos(),
            "started_at_boot_ns": app.started_at_boot_ns,
            "last_error_at_boot_ns": app.tally.last_error.get(),
            "last_heal_at_boot_ns": app.tally.last_heal.get(),
        }),
    )
}
