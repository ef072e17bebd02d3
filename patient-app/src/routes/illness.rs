//! `/illness`: starts and ends illnesses, and reports their true state.
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use super::reply::{Reply, failure, json, read};
use crate::illness::{Illness, Name};
use crate::state::App;

/// `GET` and `DELETE /illness`.
pub(super) fn all(app: &App, method: &Method) -> Reply {
    if method == Method::DELETE {
        Name::ALL.into_iter().for_each(|name| app.illnesses.end(name));
    }
    let illnesses: Map<_, _> =
        Name::ALL.into_iter().map(|name| (name.as_str().to_owned(), describe(app, name))).collect();
    json(StatusCode::OK, &json!({ "illnesses": illnesses }))
}

/// `GET`, `POST` and `DELETE /illness/{name}`.
pub(super) async fn one(app: &App, name: Name, request: Request<Incoming>) -> Reply {
    match *request.method() {
        Method::POST => {
            let body = match read(request.into_body()).await {
                Ok(body) => body,
                Err(refusal) => return *refusal,
            };
            if let Err(refusal) = start(app, name, &body) {
                return *refusal;
            }
        }
        Method::DELETE => app.illnesses.end(name),
        _ => {}
    }
    json(StatusCode::OK, &describe(app, name))
}

fn start(app: &App, name: Name, parameters: &[u8]) -> Result<(), Box<Reply>> {
    let illness = Illness::parse(name, parameters).map_err(|error| {
        let body = json!({ "error": error.to_string(), "expected": expected(name) });
        Box::new(json(StatusCode::BAD_REQUEST, &body))
    })?;
    app.illnesses
        .start(illness)
        .map_err(|error| Box::new(failure(StatusCode::SERVICE_UNAVAILABLE, &error)))
}

fn describe(app: &App, name: Name) -> Value {
    let current = app.illnesses.snapshot().get(name);
    let mut description = json!({
        "name": name.as_str(),
        "active": current.is_some(),
        "parameters": current,
        "summary": name.summary(),
        "expected": expected(name),
    });
    if name == Name::Leak {
        description["held_mib"] = app.illnesses.leaked_mib().into();
    }
    description
}

fn expected(name: Name) -> Map<String, Value> {
    name.expects().iter().map(|(key, meaning)| ((*key).to_owned(), (*meaning).into())).collect()
}
