use std::time::Duration;

use fake_apiserver::{FakeApi, Kind, Timing, recorded};
use hyper::Request;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::recordings::compare::{recording, same, same_as};

/// The recorded versions begin here.
const FIRST: u64 = 767;

async fn written() -> FakeApi {
    let fake = FakeApi::new();
    fake.skip_versions(FIRST - 1 - fake.version());
    for name in [
        "events/201-create.json",
        "events/200-series-patch.json",
        "events/201-create-with-series.json",
        "events/201-regarding-other-namespace.json",
    ] {
        same(&fake, "a", name).await;
    }
    fake
}

#[tokio::test(start_paused = true)]
async fn events_are_written_and_shown_as_recorded() {
    let fake = written().await;
    for name in [
        "events/core-v1-view.json",
        "events/409-already-exists.json",
        "events/404-series-patch.json",
    ] {
        same(&fake, "a", name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_event_lacks_is_refused_in_the_same_words() {
    let fake = FakeApi::new();
    for name in [
        "events/422-no-action.json",
        "events/422-no-event-time.json",
        "events/400-event-time-without-micros.json",
    ] {
        same(&fake, "a", name).await;
    }
    let name = "events/422-note-too-long.json";
    let mut exchange = recording(name);
    assert_eq!(exchange.request["note"], "<1025 times x>");
    exchange.request["note"] = json!("x".repeat(1025));
    same_as(&fake, "a", name, &exchange).await;
    exchange.request["note"] = json!("x".repeat(1024));
    assert_eq!(crate::recordings::compare::send(&fake, "a", &exchange).await.status, 201);
}

/// kubectl finds the Events of a pod through both groups, with the counts in their series.
#[tokio::test(start_paused = true)]
async fn events_can_be_found_as_kubectl_does() {
    let shown = recorded::text("events/kubectl-shows.txt").unwrap();
    let fake = written().await;
    for (path, field) in [
        ("/api/v1/namespaces/default/events", "involvedObject.name"),
        ("/apis/events.k8s.io/v1/namespaces/default/events", "regarding.name"),
    ] {
        assert!(shown.contains(&format!("--field-selector {field}=web")));
        let uri = format!("{path}?fieldSelector={field}%3Dweb");
        let request = Request::get(uri).body(Vec::new()).unwrap();
        let list: Value = fake.client("a").request(request).await.unwrap();
        for (reason, count) in [("SickPod", 2), ("Healed", 3)] {
            let mut items = list["items"].as_array().unwrap().iter();
            let found = |e: &&Value| e["reason"] == reason && e["series"]["count"] == count;
            assert!(items.any(|event| found(&event)), "{list}");
            assert!(shown.contains(&format!("(x{count} over")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_expires() {
    let fake = written().await;
    let mut again = recording("events/200-series-patch.json");
    sleep(Duration::from_secs(1800)).await;
    again.request["series"]["count"] = json!(3);
    assert_eq!(crate::recordings::compare::send(&fake, "a", &again).await.status, 200);
    sleep(Timing::default().event_ttl - Duration::from_secs(1)).await;
    assert_eq!(fake.list(Kind::Event).len(), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(crate::recordings::compare::send(&fake, "a", &again).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn only_the_series_may_change() {
    let fake = written().await;
    let patch = |patch: Value| {
        Request::patch("/apis/events.k8s.io/v1/namespaces/default/events/web.paramedic.1")
            .header("content-type", "application/merge-patch+json")
            .body(Body::from(patch.to_string().into_bytes()))
            .unwrap()
    };
    let status =
        |body: Value| async { fake.client("a").send(patch(body)).await.unwrap().status().as_u16() };
    assert_eq!(status(json!({"note": "something else"})).await, 422);
    assert_eq!(status(json!({"series": {"lastObservedTime": "2026-11-22T21:10:05Z"}})).await, 400);
}
