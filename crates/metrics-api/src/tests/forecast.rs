//! The forecast of a workload, as an HPA with an object metric asks for it.
use fake_apiserver::Kind;
use k8s_openapi::ByteString;
use paramedic_forecast::Load;
use paramedic_pod_metrics::AUDIENCE;
use serde_json::json;

use super::{
    HPA, OWN, Scene,
    scene::{AGENT, NAME, installed},
};
use crate::{forecasts::this_minute, history::shard_of};

const NAMESPACE: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default";
const FORECAST: &str = "http_requests_per_second_forecast";

fn path(resource: &str, name: &str) -> String {
    format!("{NAMESPACE}/{resource}/{name}/{FORECAST}")
}

/// A metrics API whose predecessor measured this rate of `app` for two days. Now each of its three
/// pods has ten requests per second.
async fn after_two_days_of(rate: f32) -> Scene {
    let (mut load, now) = (Load::default(), this_minute());
    for minute in now - 2881..now {
        load.observe(minute, rate);
    }
    let (fake, key) = (installed(), "default.deployments.app");
    let name = format!("{NAME}-forecast-{:x}", shard_of(key));
    let metadata = json!({"name": name, "namespace": OWN});
    let data = json!({key: ByteString(load.to_bytes())});
    fake.put(Kind::ConfigMap, json!({"metadata": metadata, "binaryData": data}));
    let scene = Scene::within(fake).await;
    for node in 1..=2 {
        scene.give_token(node, &format!("uid-agent-{node}"), AUDIENCE, AGENT);
    }
    scene.measure(10.0);
    scene.until("all values", || async { scene.rates().await.len() == scene.pods.len() }).await;
    scene
}

#[tokio::test]
async fn a_workload_has_the_forecast_of_its_stored_history() {
    let scene = after_two_days_of(100.0).await;
    let asked = path("deployments.apps", "app");
    scene.until("a forecast", || async { scene.get(HPA, &asked).await.status == 200 }).await;
    let answer = scene.get(HPA, &asked).await;
    let item = &answer.body["items"][0];
    assert_eq!(answer.body["items"].as_array().unwrap().len(), 1);
    let described = json!({"kind": "Deployment", "namespace": "default", "name": "app", "apiVersion": "apps/v1"});
    assert_eq!(item["describedObject"], described);
    assert_eq!((&item["metric"]["name"], &item["value"]), (&json!(FORECAST), &json!("100")));
}

#[tokio::test]
async fn a_forecast_is_not_below_what_all_pods_have_now() {
    let scene = after_two_days_of(1.0).await;
    let asked = path("deployments.apps", "app").replace("v1beta2", "v1beta1");
    scene.until("a forecast", || async { scene.get(HPA, &asked).await.status == 200 }).await;
    let item = scene.get(HPA, &asked).await.body["items"][0].clone();
    assert_eq!((&item["metricName"], &item["value"]), (&json!(FORECAST), &json!("30")));
}

#[tokio::test]
async fn a_missing_forecast_says_why() {
    let scene = Scene::new().await;
    for (path, why) in [
        (path("deployments.apps", "app"), "its day is not known yet: 0 of 2880 minutes"),
        (path("deployments.apps", "other"), "no ready pod with the label paramedic.dev/heal"),
        (path("statefulsets.apps", "app"), "no ready pod with the label paramedic.dev/heal"),
        (path("daemonsets.apps", "app"), "of deployments.apps and statefulsets.apps"),
        (path("pods", "app"), "the metric http_requests_per_second_forecast for pods"),
        (
            path("deployments.apps", "app") + "?metricLabelSelector=queue%3Din",
            "one series per workload, without labels",
        ),
    ] {
        let answer = scene.get(HPA, &path).await;
        let message = answer.body["message"].as_str().unwrap();
        assert_eq!((answer.status, message.contains(why)), (404, true), "{path}: {message}");
    }
}

#[tokio::test]
async fn a_forecast_is_readable_with_rights_to_it_alone() {
    let scene = Scene::new().await;
    let asked = path("deployments.apps", "app");
    let denied = scene.get("system:serviceaccount:default:default", &asked).await;
    let message = denied.body["message"].as_str().unwrap();
    let right = format!("\"deployments.apps/{FORECAST}\"");
    assert_eq!((denied.status, message.contains(&right)), (403, true), "{message}");
}
