use std::time::Duration;

use fake_apiserver::{FakeApi, Fault, Kind, Logged};
use hyper::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, client::Body};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::behaviour::evict;

fn one() -> FakeApi {
    let fake = FakeApi::new();
    let spec = json!({"nodeName": "node1", "terminationGracePeriodSeconds": 300});
    fake.add_pod(json!({"metadata": {"name": "a"}, "spec": spec}));
    fake
}

async fn send(fake: &FakeApi, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
    fake.client("agent").send(request).await
}

fn eviction() -> Request<Body> {
    let body = json!({"kind": "Eviction", "metadata": {"name": "a"}}).to_string();
    Request::post("/api/v1/namespaces/default/pods/a/eviction")
        .body(Body::from(body.into_bytes()))
        .unwrap()
}

fn is_terminating(fake: &FakeApi) -> bool {
    fake.get(Kind::Pod, "default", "a").unwrap()["metadata"]["deletionTimestamp"].is_string()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_answers_no_client_and_keeps_no_record() {
    let fake = one();
    fake.down(true);
    assert!(send(&fake, eviction()).await.is_err());
    assert!(!is_terminating(&fake));
    assert_eq!(fake.requests(), []);
    fake.down(false);
    assert_eq!(send(&fake, eviction()).await.unwrap().status(), 201);
}

#[tokio::test(start_paused = true)]
async fn going_down_breaks_watches() {
    let fake = one();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let path = format!("/api/v1/pods?watch=true&resourceVersion={}", fake.version());
    let response = send(&fake, get(&path)).await.unwrap();
    fake.down(true);
    assert!(response.into_body().collect_bytes().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_client_can_be_cut_off() {
    let fake = one();
    let pods = |token: &str| Api::<Pod>::default_namespaced(fake.client(token));
    let path = format!("/api/v1/pods?watch=true&resourceVersion={}", fake.version());
    let watch = Request::get(path).body(Body::empty()).unwrap();
    let watch = send(&fake, watch).await.unwrap();
    fake.cut_off("agent", true);
    assert!(watch.into_body().collect_bytes().await.is_err());
    assert!(pods("agent").get("a").await.is_err());
    assert!(pods("another").get("a").await.is_ok());
    fake.cut_off("agent", false);
    assert!(pods("agent").get("a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_lost_before_or_after_the_act() {
    for (fault, applied) in [
        (Fault::Dropped, false),
        (Fault::Lost, true),
        (Fault::Hang { applied: false }, false),
        (Fault::Hang { applied: true }, true),
    ] {
        let fake = one();
        fake.fail_next(1, Logged::is_eviction, fault);
        let sent = timeout(Duration::from_secs(60), send(&fake, eviction())).await;
        assert!(!matches!(sent, Ok(Ok(_))), "{fault:?}");
        assert_eq!(is_terminating(&fake), applied, "{fault:?}");
        let requests = fake.requests();
        assert_eq!((requests.len(), requests[0].status), (1, None), "{fault:?}");
        // It was for one request only.
        evict(&fake, "a").await;
        assert!(fake.requests()[1].status.is_some(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_can_be_ordered() {
    let fake = one();
    for (code, retry_after) in [(429, Some(7)), (500, None), (503, Some(1)), (403, None)] {
        fake.fail_next(2, |r| r.verb == "get", Fault::Status { code, retry_after });
        let pods = Api::<Pod>::default_namespaced(fake.client("agent"));
        for _ in 0..2 {
            let kube::Error::Api(status) = pods.get("a").await.unwrap_err() else {
                panic!("not refused")
            };
            assert_eq!(status.code, code);
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            assert!(causes.is_empty(), "no budget is meant");
        }
        assert!(pods.get("a").await.is_ok());
    }
    fake.fail_next(1, |_| true, Fault::Status { code: 429, retry_after: Some(7) });
    let response = send(&fake, eviction()).await.unwrap();
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(!is_terminating(&fake));
    fake.fail_next(9, |_| true, Fault::Dropped);
    fake.forget_faults();
    assert!(send(&fake, eviction()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn answers_can_be_slow_or_garbage() {
    let fake = one();
    let pods = Api::<Pod>::default_namespaced(fake.client("agent"));
    fake.fail_next(1, |_| true, Fault::Garbage);
    assert!(matches!(pods.get("a").await, Err(kube::Error::SerdeError(_))));
    let begun = Instant::now();
    fake.fail_next(1, |_| true, Fault::Slow(Duration::from_secs(5)));
    pods.get("a").await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    fake.set_latency(Duration::from_millis(300));
    pods.get("a").await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(5300));
}

#[tokio::test(start_paused = true)]
async fn the_date_is_that_of_the_clock() {
    let fake = one();
    sleep(Duration::from_secs(61)).await;
    let response = send(&fake, eviction()).await.unwrap();
    assert_eq!(response.headers()["date"], "Sun, 22 Nov 2026 21:01:01 GMT");
}

#[tokio::test(start_paused = true)]
async fn requests_are_written_down() {
    let fake = one();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(evict(&fake, "b").await, 404);
    let body = json!({"kind": "Eviction", "metadata": {"name": "a"},
        "deleteOptions": {"dryRun": ["All"]}});
    let path = "/api/v1/namespaces/default/pods/a/eviction";
    crate::behaviour::ask(&fake, "POST", path, body).await;
    let requests = fake.requests();
    assert_eq!(requests.len(), 2);
    let (first, second) = (&requests[0], &requests[1]);
    assert_eq!(
        (first.identity.as_str(), first.verb, first.resource.as_str()),
        ("test", "create", "pods")
    );
    assert_eq!((first.subresource.as_str(), first.namespace.as_str()), ("eviction", "default"));
    assert_eq!(
        (first.name.as_str(), first.status, first.at),
        ("b", Some(404), Duration::from_secs(1))
    );
    assert!(!first.dry_run && second.dry_run);
    fake.clear_requests();
    assert_eq!(fake.requests(), []);

    // An answer to what was forgotten is not taken for one to what came later.
    fake.fail_next(1, |_| true, Fault::Slow(Duration::from_secs(1)));
    fake.fail_next(1, |_| true, Fault::Hang { applied: false });
    let pods = Api::<Pod>::default_namespaced(fake.client("agent"));
    let slow = async {
        pods.get("a").await.unwrap();
        fake.requests()
    };
    let hanging = async {
        sleep(Duration::from_millis(10)).await;
        fake.clear_requests();
        pods.get("a").await
    };
    let requests = tokio::select! {
        requests = slow => requests,
        _ = hanging => panic!("it answered"),
    };
    assert_eq!((requests.len(), requests[0].status), (1, None));
}
