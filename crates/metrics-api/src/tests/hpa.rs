//! What the HPA receives.
use hyper::{Method, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use paramedic_pod_metrics::Metric;
use serde_json::json;

use super::{
    HPA, Scene,
    scene::{path, send},
};

const V1: &str = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/pods";
const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods";

#[tokio::test]
async fn every_pod_has_the_values_that_its_own_agent_measured() {
    let scene = Scene::new().await;
    let mut rates = scene.rates().await;
    rates.sort();
    let mut expected: Vec<_> =
        scene.pods.iter().map(|(name, _)| (name.clone(), "10".to_owned())).collect();
    expected.sort();
    assert_eq!(rates, expected);

    let ratio = scene.get(HPA, &path(Metric::Http5xxRatio)).await;
    assert_eq!(ratio.body["items"][0]["value"], "250m");
    assert_eq!(ratio.body["items"][0]["windowSeconds"], 10);
    // The kernel does not measure throttling: the value is missing, not zero.
    let throttled = scene.get(HPA, &path(Metric::CpuThrottledRatio)).await;
    assert_eq!((throttled.status, &throttled.body["items"]), (200, &json!([])));
}

/// These agents measured a tenth of a second ago, and judged three seconds ago.
#[tokio::test]
async fn each_value_has_its_timestamp_and_window() {
    let scene = Scene::new().await;
    for (metric, age_ms, window) in
        [(Metric::HttpRequestsPerSecond, 100, 10), (Metric::UnhealthyProbability, 3000, 0)]
    {
        let age = SignedDuration::from_millis(age_ms);
        let before = Timestamp::now() - age;
        let answer = scene.get(HPA, &path(metric)).await;
        let after = Timestamp::now() - age;
        let items = answer.body["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        for item in items {
            assert_eq!(item["windowSeconds"], window, "{item}");
            let told: Timestamp = item["timestamp"].as_str().unwrap().parse().unwrap();
            // Ages are in whole seconds. Frames come every 50 ms, on a busy machine every few
            // seconds.
            let slack = SignedDuration::from_secs(6);
            assert!(before - slack <= told && told <= after, "{before} {told} {after}");
        }
    }
}

#[tokio::test]
async fn pods_are_selected_by_name_and_by_labels() {
    let scene = Scene::new().await;
    let (name, _) = &scene.pods[0];
    let one = scene.get(HPA, &format!("{V1}/{name}/unhealthy_probability")).await;
    assert_eq!(one.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(one.body["items"][0]["metricName"], "unhealthy_probability");
    assert_eq!(one.body["items"][0]["value"], "10m");
    let absent = scene.get(HPA, &format!("{V2}/absent/http_5xx_ratio")).await;
    assert_eq!((absent.status, &absent.body["reason"]), (404, &json!("NotFound")));
    for (selector, count) in [("app%3Dapp", 3), ("app+in+%28app%2Cx%29", 3), ("app%21%3Dapp", 0)] {
        let asked = format!("{V2}/%2A/http_5xx_ratio?labelSelector={selector}");
        let list = scene.get(HPA, &asked).await;
        assert_eq!(list.body["items"].as_array().unwrap().len(), count, "{selector}");
    }
    let elsewhere = V2.replace("default", "elsewhere");
    let list = scene.get(HPA, &format!("{elsewhere}/%2A/http_5xx_ratio")).await;
    assert_eq!((list.status, &list.body["items"]), (200, &json!([])));
}

#[tokio::test]
async fn an_unknown_metric_is_a_404_that_lists_the_known_ones() {
    let scene = Scene::new().await;
    for path in [
        format!("{V2}/%2A/app_queue_depth"),
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/services/app/requests_rate".into(),
    ] {
        let answer = scene.get(HPA, &path).await;
        assert_eq!((answer.status, &answer.body["kind"]), (404, &json!("Status")), "{path}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains("http_requests_per_second"), "{message}");
    }
    let series = format!("{V2}/%2A/http_5xx_ratio?metricLabelSelector=queue%3Din");
    let answer = scene.get(HPA, &series).await;
    assert_eq!(answer.status, 404);
    assert!(answer.body["message"].as_str().unwrap().contains("without labels"));
    let bad = scene.get(HPA, &format!("{V2}/%2A/http_5xx_ratio?labelSelector=%3D")).await;
    assert_eq!((bad.status, &bad.body["reason"]), (400, &json!("BadRequest")));
}

#[tokio::test]
async fn nothing_is_readable_without_rights() {
    let scene = Scene::new().await;
    let asked = path(Metric::Http5xxRatio);
    let without_rights = scene.get("system:serviceaccount:default:default", &asked).await;
    assert_eq!((without_rights.status, &without_rights.body["reason"]), (403, &json!("Forbidden")));
    assert!(without_rights.body["message"].as_str().unwrap().contains("pods/http_5xx_ratio"));
    // Discovery is public, since the API server requests it without any group.
    let resources =
        scene.get("system:kube-aggregator", "/apis/custom.metrics.k8s.io/v1beta2").await;
    assert_eq!(resources.status, 200);
}

#[tokio::test]
async fn access_reviews_are_cached_and_equal_the_recorded_ones() {
    let scene = Scene::new().await;
    let asked = || {
        let reviews = scene.fake.requests().into_iter();
        reviews.filter(|request| request.resource == "subjectaccessreviews").count()
    };
    scene.get(HPA, &path(Metric::Http5xxRatio)).await;
    let before = asked();
    for _ in 0..5 {
        scene.get(HPA, &path(Metric::Http5xxRatio)).await;
    }
    assert_eq!(asked(), before);
    scene.get(HPA, &path(Metric::CpuThrottledRatio)).await;
    assert_eq!(asked(), before + 1, "another metric is another question");
    scene.fake.down(true);
    let away = scene.get(HPA, &path(Metric::UnhealthyProbability)).await;
    assert_eq!((away.status, &away.body["reason"]), (503, &json!("ServiceUnavailable")));
}

#[tokio::test]
async fn it_is_read_only() {
    let scene = Scene::new().await;
    let stream = scene.connect(Some(scene.front.sign("front-proxy-client"))).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD] {
        let user = [("X-Remote-User", HPA)];
        let answer =
            send(&mut sender, method.clone(), &path(Metric::Http5xxRatio), &user).await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
    }
}

/// Hostile paths, queries and headers of a user with all rights: each gets an answer, and none a
/// server error.
#[tokio::test]
async fn hostile_requests_get_no_server_error() {
    let scene = Scene::new().await;
    let stream = scene.connect(Some(scene.front.sign("front-proxy-client"))).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut random = fastrand::Rng::with_seed(11);
    let pieces = [
        "/",
        "/apis",
        "/custom.metrics.k8s.io",
        "/v1beta2",
        "/v1beta1",
        "/namespaces",
        "/default",
        "/pods",
        "/%2A",
        "/http_5xx_ratio",
        "/openapi",
        "/v2",
        "?",
        "labelSelector=",
        "%3D",
        "%2C",
        "a",
        "%00",
        "%ff",
        "(",
        ")",
        "!",
        "+in+",
        "&",
        "=",
        "metricLabelSelector=",
    ];
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..3000 {
        let whole = if random.bool() { V2 } else { "/apis" };
        let tail: String =
            (0..random.usize(0..8)).map(|_| pieces[random.usize(0..pieces.len())]).collect();
        let target = format!("{whole}{tail}");
        if target.parse::<hyper::Uri>().is_err() {
            continue;
        }
        let extra = format!("X-Remote-Extra-{}", random.u32(..));
        let headers = [
            ("X-Remote-User", HPA),
            ("X-Remote-Group", "\u{1f}"),
            (extra.as_str(), "%ff"),
            ("X-Remote-Extra-%2f%", "x"),
        ];
        let headers = if random.bool() { &headers[..1] } else { &headers[..] };
        let headers: Vec<_> = headers.iter().filter(|(_, v)| *v != "\u{1f}").copied().collect();
        let answer = send(&mut sender, Method::GET, &target, &headers).await.unwrap();
        *statuses.entry(answer.status).or_insert(0) += 1;
    }
    assert!(statuses.keys().all(|status| [200, 400, 404].contains(status)), "{statuses:?}");
    assert_eq!(statuses.len(), 3, "{statuses:?}");
}
