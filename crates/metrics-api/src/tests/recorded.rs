//! Replays every request that a real API server, kubectl and the HPA controller sent to a backend,
//! header for header. The answers must contain at least what they received.
use serde_json::Value;

use super::Scene;

/// The metric of the recorded backend.
const THEIRS: &str = "app_queue_depth";
const OURS: &str = "http_requests_per_second";

fn recorded(file: &str) -> Value {
    let path = format!(
        "{}/../../testbed/fixtures/kubernetes/aggregation/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The recorded requests, with one of our metrics in place of theirs.
fn exchanges() -> Vec<Value> {
    let mut all = recorded("backend-requests.json").as_array().unwrap().clone();
    all.push(recorded("backend-aggregated-discovery.json"));
    all.extend(recorded("backend-openapi-answered.json").as_array().unwrap().clone());
    all
}

/// Where our status differs, and why.
fn expected_status(who: &str, path: &str, recorded: u64) -> u64 {
    // The recorded backend did not answer these; ours does, which saves the API server a detour.
    if path == "/apis" || path.starts_with("/openapi/") {
        return 200;
    }
    // It had a metric of Services. Ours are of pods only.
    if path.contains("/services/") {
        return 404;
    }
    // It ignored the selector. Our metrics have no labels, so a value would not match the selector.
    if who.ends_with("metric selector") {
        return 404;
    }
    recorded
}

/// Whether ours has every field of theirs, with the same types: objects by key, lists by their
/// first item.
fn covers(ours: &Value, theirs: &Value, at: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in theirs {
                let found = ours.get(key).unwrap_or_else(|| panic!("{at}: no {key}"));
                covers(found, value, &format!("{at}.{key}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            if let Some(first) = theirs.first() {
                let found = ours.first().unwrap_or_else(|| panic!("{at}: empty"));
                covers(found, first, &format!("{at}[0]"));
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Null, Value::Null) => {}
        _ => panic!("{at}: {ours} in the place of {theirs}"),
    }
}

#[tokio::test]
async fn every_recorded_request_gets_an_equivalent_answer() {
    let scene = Scene::new().await;
    scene.fake.grant("system:serviceaccount:kube-system:paramedic", everything());
    scene.fake.grant("admin", everything());
    let mut replayed = 0;
    for exchange in exchanges() {
        let (who, path) = (exchange["who"].as_str().unwrap(), exchange["path"].as_str().unwrap());
        let asked = path.replace(THEIRS, OURS);
        let headers = exchange["headers"].as_array().unwrap().iter();
        let headers: Vec<(String, String)> = headers
            .map(|pair| {
                let text = |at: usize| pair[at].as_str().unwrap().replace(THEIRS, OURS);
                (text(0), text(1))
            })
            .collect();
        let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let genuine = scene.front.sign("front-proxy-client");
        let answer = scene.ask(Some(genuine), &asked, &headers).await.unwrap();
        let theirs = &exchange["answer"];
        let status = theirs["status"].as_u64().unwrap();
        assert_eq!(u64::from(answer.status), expected_status(who, path, status), "{who}: {path}");
        if u64::from(answer.status) == status && status == 200 {
            let is_ours = who.contains("aggregated discovery") || path.starts_with("/openapi");
            if !is_ours {
                covers(&answer.body, &theirs["body"], who);
            }
            for key in ["kind", "apiVersion", "groupVersion", "swagger", "openapi"] {
                assert_eq!(answer.body[key], theirs["body"][key], "{who}: {key}");
            }
            assert_eq!(answer.kind, theirs["content_type"].as_str().unwrap(), "{who}");
        }
        replayed += 1;
    }
    assert_eq!(replayed, 18, "of all that were recorded");
}

fn everything() -> fake_apiserver::Rule {
    fake_apiserver::Rule::new("custom.metrics.k8s.io", &["*"], &["get"])
}

/// The API server's conversion of a legacy list equals our aggregated discovery.
#[tokio::test]
async fn aggregated_discovery_equals_the_converted_legacy_list() {
    let scene = Scene::new().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let genuine = scene.front.sign("front-proxy-client");
    let headers = [("Accept", accept), ("X-Remote-User", "system:kube-aggregator")];
    let answer = scene.ask(Some(genuine), "/apis", &headers).await.unwrap();
    assert_eq!(answer.kind, accept);
    let theirs = recorded("front-discovery-from-legacy-backend.json");
    let theirs = &theirs["custom_metrics_item_of_response"];
    covers(&answer.body["items"], theirs, "items");
    let metrics = &answer.body["items"][0]["versions"][0]["resources"][0]["subresources"];
    let names: Vec<_> =
        metrics.as_array().unwrap().iter().map(|m| m["subresource"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "http_requests_per_second",
            "http_5xx_ratio",
            "cpu_throttled_ratio",
            "unhealthy_probability",
            "http_request_duration_p95_seconds",
            "http_requests_in_flight"
        ]
    );
}
