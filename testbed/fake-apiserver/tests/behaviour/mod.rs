mod access;
mod aggregation;
mod budgets;
mod clients;
mod collected;
mod faults;
mod fence;
mod lists;
mod objects;
mod over_tcp;
mod reviews;
mod same_again;
mod watches;
mod workloads;

use fake_apiserver::FakeApi;
use hyper::Request;
use kube::client::Body;
use serde_json::{Value, json};

/// Sends a request and waits for the answer: its status and body.
pub(crate) async fn ask(fake: &FakeApi, method: &str, path: &str, body: Value) -> (u16, Value) {
    ask_as(fake, "test", method, path, body).await
}

pub(crate) async fn ask_as(
    fake: &FakeApi,
    token: &str,
    method: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let content_type =
        if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(Body::from(body))
        .unwrap();
    let response = fake.client(token).send(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
}

/// Asks for an eviction in the namespace `default`.
pub(crate) async fn evict(fake: &FakeApi, pod: &str) -> u16 {
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
    ask(fake, "POST", &path, body).await.0
}

/// The names of all pods.
pub(crate) fn pod_names(fake: &FakeApi) -> Vec<String> {
    let pods = fake.list(fake_apiserver::Kind::Pod);
    pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}
