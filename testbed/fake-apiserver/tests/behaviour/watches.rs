use std::{pin::pin, time::Duration};

use fake_apiserver::{FakeApi, Kind, PodTemplate};
use futures::{Stream, StreamExt};
use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    client::Body,
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::behaviour::ask;

fn consenting() -> FakeApi {
    let fake = FakeApi::new();
    fake.add_node("node1");
    let template = PodTemplate::new().label("heal", "evict").grace(1);
    fake.add_statefulset("default", "db", 2, &template, &[]);
    fake
}

/// The events that a client receives, one word each, until it receives none for a while.
async fn told(stream: &mut (impl Stream<Item = watcher::Result<Event<Pod>>> + Unpin)) -> String {
    let mut words = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_millis(900), stream.next()).await {
        words.push(match event {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitApply(pod)) => format!("={}", pod.name_any()),
            Ok(Event::InitDone) => "done".to_owned(),
            Ok(Event::Apply(pod)) => format!("+{}", pod.name_any()),
            Ok(Event::Delete(pod)) => format!("-{}", pod.name_any()),
            Err(error) => format!("error:{}", kind_of(&error)),
        });
    }
    words.join(" ")
}

fn kind_of(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(_) => "list",
        watcher::Error::WatchStartFailed(_) => "start",
        watcher::Error::WatchError(_) => "watch",
        watcher::Error::WatchFailed(_) => "failed",
        watcher::Error::NoResourceVersion => "version",
    }
}

#[tokio::test(start_paused = true)]
async fn the_watcher_of_kube_is_told_everything() {
    for lists in [false, true] {
        let fake = consenting();
        let config = watcher::Config::default().labels("heal").fields("spec.nodeName=node1");
        let config = if lists { config.streaming_lists() } else { config };
        let mut stream = pin!(watcher(Api::<Pod>::all(fake.client("agent")), config));
        assert_eq!(told(&mut stream).await, "init =db-0 =db-1 done", "streaming: {lists}");

        fake.set_labels("default", "db-0", &json!({"heal": null})).unwrap();
        assert_eq!(told(&mut stream).await, "-db-0");
        fake.set_labels("default", "db-0", &json!({"heal": "soft"})).unwrap();
        assert_eq!(told(&mut stream).await, "+db-0");

        // Its connection breaks; it goes on where it was.
        fake.break_watches();
        fake.set_labels("default", "db-1", &json!({"heal": "soft"})).unwrap();
        let words = told(&mut stream).await;
        assert!(words.starts_with("error:failed") && words.ends_with("+db-1"), "{words}");

        // While it is disconnected, its version expires; it starts again with a list.
        fake.cut_watches();
        fake.set_labels("default", "db-1", &json!({"heal": "evict"})).unwrap();
        fake.expire_watches();
        let words = told(&mut stream).await;
        assert!(words.contains("error:watch") || words.contains("error:failed"), "{words}");
        assert!(words.ends_with("init =db-0 =db-1 done"), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_watch_lists_a_streaming_list_is_refused() {
    let fake = consenting();
    fake.set_watch_lists(false);
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let (status, body) = ask(&fake, "GET", path, Value::Null).await;
    assert_eq!((status, &body["reason"]), (422, &json!("Invalid")));
    let cause = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList \
                 feature gate is enabled";
    let expected = json!({"reason": "FieldValueForbidden", "message": cause,
        "field": "sendInitialEvents"});
    assert_eq!(body["details"]["causes"][0], expected);
    let config = watcher::Config::default().streaming_lists();
    let mut stream = pin!(watcher(Api::<Pod>::all(fake.client("agent")), config));
    let first = stream.next().await.unwrap();
    assert!(first.is_err() || matches!(first, Ok(Event::Init)));
}

/// Lines of a raw watch, each with the time at which it came.
async fn lines(fake: &FakeApi, path: &str) -> Vec<(u64, Value)> {
    let begun = Instant::now();
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = fake.client("agent").send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut lines = Vec::new();
    while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
        let bytes = frame.unwrap().into_data().unwrap();
        let at = u64::try_from(begun.elapsed().as_millis()).unwrap();
        for line in String::from_utf8(bytes.to_vec()).unwrap().lines() {
            lines.push((at, serde_json::from_str(line).unwrap()));
        }
    }
    lines
}

fn brief((at, event): &(u64, Value)) -> String {
    let name = event["object"]["metadata"]["name"].as_str().unwrap_or("");
    format!("{at} {} {name}", event["type"].as_str().unwrap()).trim_end().to_owned()
}

/// Only the watch itself advances the clock, and it still receives the change in time.
#[tokio::test(start_paused = true)]
async fn changes_are_told_when_they_happen() {
    let fake = consenting();
    let path = format!(
        "/api/v1/namespaces/default/pods?watch=true&resourceVersion={}&timeoutSeconds=5",
        fake.version()
    );
    fake.restart_container("default", "db-0", "app", 1).unwrap();
    fake.delete_pod("default", "db-1").unwrap();
    let told = lines(&fake, &path).await;
    let told: Vec<String> = told.iter().map(brief).collect();
    assert_eq!(
        told,
        [
            "0 MODIFIED db-1",
            "750 MODIFIED db-0",
            "900 MODIFIED db-0",
            "1000 MODIFIED db-1",
            "1000 DELETED db-1",
            "1100 ADDED db-1",
            "1100 MODIFIED db-1",
            "1900 MODIFIED db-0",
            "2100 MODIFIED db-1",
            "3100 MODIFIED db-1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_before_the_end() {
    let fake = consenting();
    let path = format!(
        "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=150&resourceVersion={}",
        fake.version()
    );
    let told: Vec<String> = lines(&fake, &path).await.iter().map(brief).collect();
    assert_eq!(told, ["60000 BOOKMARK", "120000 BOOKMARK", "148000 BOOKMARK"]);
    let path = path.replace("&allowWatchBookmarks=true", "");
    assert_eq!(lines(&fake, &path).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_nowhere_begins_with_what_is_there() {
    let fake = consenting();
    for start in ["", "&resourceVersion=0"] {
        let path = format!("/api/v1/pods?watch=true&timeoutSeconds=1{start}");
        let told: Vec<String> = lines(&fake, &path).await.iter().map(brief).collect();
        assert_eq!(told, ["0 ADDED db-0", "0 ADDED db-1"]);
    }
    let (status, _) =
        ask(&fake, "GET", "/api/v1/pods?watch=true&resourceVersionMatch=Exact", Value::Null).await;
    assert_eq!(status, 422);
}

#[tokio::test(start_paused = true)]
async fn watches_can_lag_behind() {
    let fake = consenting();
    fake.set_watch_lag(Duration::from_secs(2));
    let version = fake.version();
    fake.set_labels("default", "db-0", &json!({"x": "y"})).unwrap();
    let path = format!("/api/v1/pods?watch=true&timeoutSeconds=4&resourceVersion={version}");
    let told: Vec<String> = lines(&fake, &path).await.iter().map(brief).collect();
    assert_eq!(told, ["2000 MODIFIED db-0"]);
}

#[tokio::test(start_paused = true)]
async fn other_kinds_can_be_watched_too() {
    let fake = consenting();
    let path = format!(
        "/apis/apps/v1/statefulsets?watch=true&timeoutSeconds=3&resourceVersion={}",
        fake.version()
    );
    let (told, ()) = tokio::join!(lines(&fake, &path), async {
        sleep(Duration::from_millis(10)).await;
        fake.set_ready("default", "db-0", false).unwrap();
    });
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1["object"]["status"]["readyReplicas"], 1);
    assert_eq!(fake.list(Kind::StatefulSet).len(), 1);
}
