use std::time::Duration;

use fake_apiserver::{FakeApi, Kind, Timing, recorded};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How often these tests look.
const LOOK: Duration = Duration::from_millis(10);

fn one_pod(name: &str) -> FakeApi {
    let fake = FakeApi::new();
    fake.set_timing(Timing { ready: Duration::ZERO, ..Timing::default() });
    let image = "docker.io/local/busybox:1";
    fake.add_pod(json!({
        "metadata": {"name": name},
        "spec": {"nodeName": "node1", "containers": [{"name": "app", "image": image}]},
    }));
    fake
}

fn status(fake: &FakeApi, pod: &str) -> Value {
    fake.get(Kind::Pod, "default", pod).unwrap()["status"].clone()
}

fn state(status: &Value) -> (&'static str, &Value) {
    let state = &status["containerStatuses"][0]["state"];
    let states = ["waiting", "running", "terminated"];
    let name = states.into_iter().find(|name| state[name].is_object()).unwrap();
    (name, &state[name]["reason"])
}

/// Without dates, ids and addresses, and without what this cgroup v1 node said of limits.
fn gist(status: &Value) -> Value {
    let mut status = status.clone();
    for field in ["hostIP", "hostIPs", "podIP", "podIPs", "startTime", "resources"] {
        status[field].take();
    }
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"].take();
    }
    let container = &mut status["containerStatuses"][0];
    container["imageID"].take();
    for pointer in [
        "/containerID",
        "/state/running/startedAt",
        "/state/waiting/message",
        "/lastState/terminated/startedAt",
        "/lastState/terminated/finishedAt",
        "/lastState/terminated/containerID",
    ] {
        if let Some(value) = container.pointer_mut(pointer) {
            assert!(value.is_string());
            value.take();
        }
    }
    status
}

fn same(status: &Value, recording: &str) {
    assert_eq!(gist(status), gist(&recorded::value(recording).unwrap()), "{recording}");
}

#[tokio::test(start_paused = true)]
async fn the_status_before_and_after_a_restart_is_as_recorded() {
    for (exit_code, recording) in [
        (0, "restart/status-after.json"),
        (137, "restart/status-after-sigkill.json"),
        (143, "restart/status-after-sigterm-shared-pid-namespace.json"),
    ] {
        let fake = one_pod("victim");
        same(&status(&fake, "victim"), "restart/status-before.json");
        let before = status(&fake, "victim");
        sleep(Duration::from_secs(1)).await;
        fake.restart_container("default", "victim", "app", exit_code).unwrap();
        sleep(Duration::from_millis(900)).await;
        let after = status(&fake, "victim");
        same(&after, recording);
        let id = |status: &Value| status["containerStatuses"][0]["containerID"].clone();
        assert_ne!(id(&after), id(&before));
        assert_eq!(after["podIP"], before["podIP"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_back_off_shows_only_for_a_moment() {
    let fake = one_pod("deaf");
    fake.restart_container("default", "deaf", "app", 137).unwrap();
    sleep(Duration::from_secs(300)).await;
    fake.restart_container("default", "deaf", "app", 137).unwrap();
    let begun = Instant::now();
    let mut seen = Vec::new();
    while begun.elapsed() < Duration::from_secs(14) {
        let now = status(&fake, "deaf");
        let name = state(&now).0;
        if seen.last() != Some(&name) {
            seen.push(name);
        }
        if name == "waiting" {
            same(&now, "restart/status-crash-loop-back-off.json");
            let recorded = recorded::value("restart/status-crash-loop-back-off.json").unwrap();
            let words = |status: &Value| {
                let message = &status["containerStatuses"][0]["state"]["waiting"]["message"];
                message.as_str().unwrap().split_once('(').unwrap().0.to_owned()
            };
            assert_eq!(words(&now), words(&recorded));
        }
        sleep(LOOK).await;
    }
    assert_eq!(seen, ["running", "terminated", "waiting", "running"]);
}

/// Each recorded kill takes about as long here, and passes through the same states.
#[tokio::test(start_paused = true)]
async fn restarts_take_as_long_as_recorded() {
    let timeline = recorded::value("restart/timeline.json").unwrap();
    let timeline: Vec<Value> = timeline.as_array().unwrap().clone();
    let find = |label: &str| timeline.iter().find(|kill| kill["label"] == label).unwrap();
    for kills in [
        vec![
            "1st SIGTERM, process handles it (exit 0)",
            "2nd SIGTERM",
            "3rd SIGTERM",
            "4th SIGTERM",
        ],
        vec!["SIGKILL to the same pid 1", "SIGKILL, 5 minutes after the first restart"],
    ] {
        let fake = one_pod("victim");
        for label in kills {
            let recorded = find(label);
            if label.contains("5 minutes") {
                sleep(Duration::from_secs(300)).await;
            }
            let exit_code = if recorded["signal"] == 9 { 137 } else { 0 };
            fake.restart_container("default", "victim", "app", exit_code).unwrap();
            let begun = Instant::now();
            let mut steps: Vec<Value> = Vec::new();
            loop {
                let now = status(&fake, "victim");
                let (name, reason) = state(&now);
                let count = &now["containerStatuses"][0]["restartCount"];
                let step = json!([name, reason, count]);
                if steps.last() != Some(&step) {
                    steps.push(step);
                }
                if steps.len() > 1 && name == "running" {
                    break;
                }
                sleep(LOOK).await;
            }
            let all = recorded["steps"].as_array().unwrap().iter();
            let expected: Vec<Value> =
                all.map(|s| json!([s["state"], s["reason"], s["restartCount"]])).collect();
            assert_eq!(steps, expected, "{label}");
            let (took, recorded) =
                (begun.elapsed().as_secs_f64(), recorded["seconds_to_running"].as_f64().unwrap());
            assert!((took - recorded).abs() < 0.15 * recorded + 0.3, "{label}: {took} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_ten_minutes_the_back_off_is_forgotten() {
    let fake = one_pod("victim");
    for _ in 0..3 {
        fake.restart_container("default", "victim", "app", 0).unwrap();
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(status(&fake, "victim")["containerStatuses"][0]["restartCount"], 3);
    sleep(Duration::from_secs(600)).await;
    fake.restart_container("default", "victim", "app", 0).unwrap();
    sleep(Duration::from_millis(900)).await;
    assert_eq!(status(&fake, "victim")["containerStatuses"][0]["restartCount"], 4);
}

/// Only to be read: the fake's kubelet writes no Events.
#[test]
fn what_the_kubelet_writes_can_be_read() {
    let text = recorded::text("restart/kubectl-events.txt").unwrap();
    assert!(text.contains("BackOff") && !text.contains("Killing"));
}
