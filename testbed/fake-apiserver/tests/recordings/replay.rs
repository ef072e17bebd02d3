//! What the fake does not model can at least be replayed, word for word.
use fake_apiserver::recorded::{self, Replay};
use hyper::Request;
use kube::client::Body;
use serde_json::Value;

use crate::recordings::compare::{recording, request};

/// Recordings with at least one exchange.
pub(crate) const EXCHANGES: [&str; 19] = [
    "aggregation/403-without-grant.json",
    "aggregation/503-apiservice-unavailable.json",
    "aggregation/backend-aggregated-discovery.json",
    "aggregation/backend-openapi-answered.json",
    "aggregation/backend-requests.json",
    "aggregation/hpa-404.json",
    "aggregation/hpa-503.json",
    "aggregation/hpa-empty-list.json",
    "aggregation/hpa-ok.json",
    "aggregation/hpa-one-pod-missing.json",
    "aggregation/hpa-scale-up.json",
    "aggregation/hpa-selector-and-object.json",
    "aggregation/hpa-stale-timestamp.json",
    "aggregation/hpa-v1beta1-only.json",
    "aggregation/hpa-value-fraction.json",
    "aggregation/hpa-value-nan.json",
    "identity/self-subject-review-pod-bound.json",
    "identity/self-subject-review-unbound.json",
    "identity/token-request.json",
];

/// Recordings of one object, or of another program's form of one.
pub(crate) const OBJECTS: [&str; 11] = [
    "aggregation/apiservice-unavailable-reasons.json",
    "aggregation/front-discovery-from-legacy-backend.json",
    "aggregation/hpa-apiservice-unavailable.json",
    "aggregation/hpa-forbidden.json",
    "aggregation/namespace-stuck.json",
    "cgroup/paths.json",
    "identity/admission-review-delete.json",
    "identity/admission-review-eviction.json",
    "identity/token-pod-bound.claims.json",
    "identity/token-projected-by-kubelet.claims.json",
    "identity/token-unbound.claims.json",
];

#[tokio::test]
async fn recorded_exchanges_are_replayed() {
    for name in EXCHANGES {
        let exchanges = recorded::exchanges(name).unwrap();
        assert!(!exchanges.is_empty(), "{name}");
        let client = Replay::of(&[name]).unwrap().client();
        for exchange in exchanges {
            let response = client.send(request(&exchange)).await.unwrap();
            assert_eq!(response.status().as_u16(), exchange.status, "{name}");
            for (header, value) in &exchange.headers {
                assert_eq!(response.headers()[header], value.as_str(), "{name}");
            }
            let body = response.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body)
                .unwrap_or_else(|_| Value::String(String::from_utf8(body.to_vec()).unwrap()));
            assert_eq!(body, exchange.response, "{name}");
        }
    }
}

#[tokio::test]
async fn a_recorded_watch_is_replayed() {
    let client = Replay::of(&["pods/watch.request.json"]).unwrap().client();
    let exchange = recording("pods/watch.request.json");
    let body = client.send(request(&exchange)).await.unwrap().into_body();
    let body = String::from_utf8(body.collect_bytes().await.unwrap().to_vec()).unwrap();
    let events: Vec<Value> = body.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(Some(events), exchange.stream);
}

#[tokio::test]
async fn what_was_not_recorded_is_said_so() {
    let client = Replay::of(&["pods/list.json"]).unwrap().client();
    let other = Request::get("/api/v1/pods").body(Body::empty()).unwrap();
    assert_eq!(client.send(other).await.unwrap().status(), 501);
    // The order of the query does not matter.
    let same = "/api/v1/pods?limit=500&labelSelector=paramedic.dev/heal&fieldSelector=\
                spec.nodeName%3Dnode1";
    let same = Request::get(same).body(Body::empty()).unwrap();
    assert_eq!(client.send(same).await.unwrap().status(), 200);
}

#[test]
fn recorded_objects_can_be_read() {
    for name in OBJECTS {
        assert!(recorded::value(name).unwrap().is_object(), "{name}");
        assert_eq!(recorded::exchanges(name).unwrap(), [], "{name}");
    }
}
