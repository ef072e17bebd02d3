use std::time::Duration;

use fake_apiserver::{FakeApi, Kind, Timing, recorded};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::recordings::compare::{masked, recording, request, same, same_as};

const AGENT: &str = "agent";

/// The recorded pod `web`, at the recorded version.
fn with_web() -> FakeApi {
    let fake = FakeApi::new();
    let list = recording("pods/list.json").response;
    let web = list["items"][0].clone();
    assert_eq!(web["metadata"]["resourceVersion"], "440");
    fake.skip_versions(439 - fake.version());
    fake.add_pod(web);
    fake.skip_versions(472 - fake.version());
    fake
}

#[tokio::test(start_paused = true)]
async fn lists_are_as_recorded() {
    let fake = with_web();
    same(&fake, AGENT, "pods/list.json").await;
    same(&fake, AGENT, "pods/list-empty.json").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_from_the_future_is_waited_for_in_vain() {
    let fake = with_web();
    fake.skip_versions(580 - fake.version());
    let begun = Instant::now();
    same(&fake, AGENT, "pods/list-rv-too-large.json").await;
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn the_past_expires() {
    let fake = with_web();
    fake.compact();
    fake.expire_watches();
    same(&fake, AGENT, "pods/list-exact-expired.json").await;
    // The token is from 533.
    fake.skip_versions(565 - fake.version());
    fake.compact();
    same(&fake, AGENT, "pods/list-continue-expired.json").await;
    same(&fake, AGENT, "pods/watch-expired.json").await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_can_begin_with_everything() {
    let fake = with_web();
    let name = "pods/watch-list.request.json";
    let mut exchange = recording(name);
    let events = recorded::stream("pods/watch-list.jsonl").unwrap();
    assert_eq!(exchange.stream, Some(events));
    // Something else happened in the meantime, which this watch is not told.
    fake.skip_versions(0);
    let last = exchange.stream.as_mut().unwrap().last_mut().unwrap();
    last["object"]["metadata"]["resourceVersion"] = json!("472");
    let begun = Instant::now();
    same_as(&fake, AGENT, name, &exchange).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(26));
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_the_recorded_story() {
    let fake = with_web();
    fake.set_timing(Timing {
        start: Duration::from_millis(500),
        ready: Duration::ZERO,
        termination: Some(Duration::from_millis(500)),
        ..Timing::default()
    });
    let recorded = recorded::stream("pods/watch.jsonl").unwrap();
    let exchange = recording("pods/watch.request.json");
    let begun = Instant::now();
    let response = fake.client(AGENT).send(request(&exchange)).await.unwrap();
    assert_eq!(response.status(), exchange.status);
    let story = tokio::spawn(async move {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    });

    let mut sick = masked(&recorded[0]["object"]);
    sick["metadata"]["resourceVersion"].take();
    sick["metadata"]["generation"].take();
    fake.start_pod(sick);
    sleep(Duration::from_millis(900)).await;
    fake.restart_container("default", "sick", "app", 3).unwrap();
    sleep(Duration::from_secs(1)).await;
    let label = |value: Value| json!({"paramedic.dev/heal": value});
    fake.set_labels("default", "web", &label(Value::Null)).unwrap();
    sleep(Duration::from_millis(200)).await;
    fake.set_labels("default", "web", &label(json!("restart"))).unwrap();
    sleep(Duration::from_millis(200)).await;
    fake.delete_pod("default", "sick").unwrap();

    let story = story.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(24));
    let got: Vec<Value> = story.iter().map(gist).collect();
    let expected: Vec<Value> = recorded.iter().map(gist).collect();
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert_eq!(got, expected, "event {i}");
    }
    assert_eq!(got.len(), expected.len());
    // Versions rise, and the bookmark stands where the last change was.
    let versions: Vec<u64> = story
        .iter()
        .map(|e| e["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(versions.is_sorted());
    assert_eq!(versions[versions.len() - 1], versions[versions.len() - 2]);
    assert!(fake.get(Kind::Pod, "default", "sick").is_none());
}

/// What matters of an event.
fn gist(event: &Value) -> Value {
    let object = &event["object"];
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let conditions = status["conditions"].as_array().map(|all| {
        let gist = |c: &Value| json!([c["type"], c["status"], c["reason"], c["message"]]);
        all.iter().map(gist).collect::<Vec<_>>()
    });
    let container = &status["containerStatuses"][0];
    let state = |state: &Value| {
        let states = ["waiting", "running", "terminated"];
        let name = states.into_iter().find(|name| state[name].is_object());
        json!([name, name.map(|name| state[name]["reason"].clone())])
    };
    json!({
        "type": event["type"],
        "kind": object["kind"],
        "apiVersion": object["apiVersion"],
        "name": metadata["name"],
        "labels": metadata["labels"],
        "generation": metadata["generation"],
        "terminating": metadata["deletionTimestamp"].is_string(),
        "grace": metadata["deletionGracePeriodSeconds"],
        "spec of a bookmark": if metadata["name"].is_null() { &object["spec"] } else { &Value::Null },
        "phase": status["phase"],
        "observedGeneration": status["observedGeneration"],
        "conditions": conditions,
        "ip": status["podIP"].is_string(),
        "state": state(&container["state"]),
        "last state": state(&container["lastState"]),
        "container": container["containerID"].is_string(),
        "ready": container["ready"],
        "started": container["started"],
        "restarts": container["restartCount"],
    })
}
