//! One watch of the node's labelled pods, through everything that can happen to a watch.
use std::time::Duration;

use fake_apiserver::{Fault, Identity as Account, Rule, Timing};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use paramedic_core::target::{Change, MAX_TARGETS};
use paramedic_host::instances::{Instances, Unchanging};
use serde_json::json;
use tokio::{
    sync::mpsc::{self, Receiver},
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{pods::PodTracker, track_pods};

/// An agent of `node1` that watches.
struct Watch {
    fake: FakeApi,
    heard: Receiver<Change>,
}

impl Watch {
    /// Four pods of a Deployment on two nodes, and two that the agent must ignore.
    async fn begin(streaming: bool) -> (Scene, Self) {
        let scene = Scene::of(4, &PodTemplate::new().grace(3));
        scene.fake.set_watch_lists(streaming);
        let spec = json!({ "nodeName": "node1" });
        scene.fake.add_pod(json!({ "metadata": { "name": "silent" }, "spec": spec }));
        let labels = json!({ "app": "web" });
        let other = json!({ "metadata": { "name": "other", "labels": labels }, "spec": spec });
        scene.fake.add_pod(other);
        let watch = Self::of(&scene);
        (scene, watch)
    }

    fn of(scene: &Scene) -> Self {
        let (changes, heard) = mpsc::channel(64);
        let (notices, _) = mpsc::channel(8);
        tokio::spawn(track_pods(scene.agent("node1"), machine(), changes, notices));
        Self { fake: scene.fake.clone(), heard }
    }

    /// The next change in words; `silence` after ten minutes without one.
    async fn next(&mut self) -> String {
        loop {
            let next = timeout(Duration::from_secs(600), self.heard.recv()).await;
            assert!(self.fake.open_watches() <= WATCHES, "several watches of the pods at a time");
            match next {
                // Its readiness follows.
                Ok(Some(Change::Found(_))) => {}
                Ok(Some(change)) => return self.told(change),
                Ok(None) => return "the end".to_owned(),
                Err(_) => return "silence".to_owned(),
            }
        }
    }

    async fn next_few(&mut self, many: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..many {
            all.push(self.next().await);
        }
        all
    }

    /// All changes within this many seconds.
    async fn within(&mut self, seconds: u64) -> Vec<String> {
        sleep(Duration::from_secs(seconds)).await;
        let mut all = Vec::new();
        while let Ok(change) = self.heard.try_recv() {
            if !matches!(change, Change::Found(_)) {
                all.push(self.told(change));
            }
        }
        all
    }

    fn told(&self, change: Change) -> String {
        match change {
            Change::Found(target) => format!("found {}", target.name),
            Change::Ready { uid, ready } => {
                format!("{} {}", self.name_of(&uid), if ready { "ready" } else { "unready" })
            }
            Change::Lost { uid, .. } => format!("lost {}", self.name_of(&uid)),
            Change::Gone(uid) => format!("gone {}", self.name_of(&uid)),
            Change::Listed(pods) => format!("listed {}", pods.len()),
            Change::Connected(false) => "away".to_owned(),
            Change::Connected(true) => "back".to_owned(),
        }
    }

    /// The name of an existing pod; `?` for one that is gone.
    fn name_of(&self, uid: &str) -> String {
        let uid = uid.split('/').next().unwrap();
        let pods = self.fake.list(Kind::Pod);
        let pod = pods.into_iter().find(|pod| pod["metadata"]["uid"] == uid);
        pod.map_or_else(|| "?".to_owned(), |pod| pod["metadata"]["name"].as_str().unwrap().into())
    }

    /// It never lists all pods, or the pods of all nodes.
    fn asked_only_for_its_own(&self) {
        let asked = self.fake.requests();
        assert!(!asked.is_empty());
        for request in asked {
            if request.resource == "namespaces" {
                assert_eq!(request.labels, "paramedic.dev/heal-at-most", "{request:?}");
                continue;
            }
            assert_eq!(request.fields, "spec.nodeName=node1", "{request:?}");
            assert_eq!(request.labels, "paramedic.dev/heal", "{request:?}");
            assert_eq!(request.resource, "pods", "{request:?}");
        }
    }
}

/// Of the pods, and of the namespaces with a cap.
const WATCHES: usize = 2;

/// The requests about pods since the last call.
fn asked_of_pods(scene: &Scene) -> Vec<String> {
    scene.asked().into_iter().filter(|asked| asked.contains(" pods ")).collect()
}

/// A machine on which every container runs.
fn machine() -> Arc<dyn Instances> {
    Arc::new(Unchanging(|_: &str| 1))
}

/// The pods on `node1`.
fn own(scene: &Scene) -> Vec<String> {
    let on_node1 = |name: &&String| {
        scene.fake.get(Kind::Pod, "default", name).unwrap()["spec"]["nodeName"] == "node1"
    };
    let mut own: Vec<String> = scene.pods.iter().filter(on_node1).cloned().collect();
    own.sort();
    own
}

/// A watch that has reported its two pods.
async fn begun() -> (Scene, Watch, Vec<String>) {
    let (scene, mut watch) = Watch::begin(true).await;
    let own = own(&scene);
    assert_eq!(watch.next_few(3).await, [ready(&own[0]), ready(&own[1]), "listed 2".into()]);
    (scene, watch, own)
}

fn ready(pod: &str) -> String {
    format!("{pod} ready")
}

/// An object changes that the agent does not watch.
fn others_change(fake: &FakeApi) {
    fake.add_namespace("elsewhere", &[], &[("at", &fake.version().to_string())]);
}

fn label(value: &Value) -> Value {
    json!({ "paramedic.dev/heal": value })
}

#[tokio::test(start_paused = true)]
async fn the_first_list_is_streamed_if_the_server_supports_it() {
    let (scene, watch, _) = begun().await;
    watch.asked_only_for_its_own();
    assert_eq!(asked_of_pods(&scene), ["watch pods 200"]);
    assert_eq!(scene.fake.open_watches(), WATCHES);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_stream_is_listed() {
    let (scene, mut watch) = Watch::begin(false).await;
    let own = own(&scene);
    assert_eq!(watch.next_few(3).await, [ready(&own[0]), ready(&own[1]), "listed 2".into()]);
    assert_eq!(watch.within(5).await, [""; 0]);
    watch.asked_only_for_its_own();
    assert_eq!(asked_of_pods(&scene), ["watch pods 422", "list pods 200", "watch pods 200"]);
    // It remembers that, and does not try again.
    scene.fake.expire_watches();
    scene.fake.break_watches();
    watch.within(60).await;
    watch.asked_only_for_its_own();
    assert!(!scene.asked().contains(&"watch pods 422".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn at_rest_it_needs_less_than_a_request_a_minute_and_reports_nothing() {
    let (scene, mut watch, _) = begun().await;
    for _ in 0..60 {
        scene.asked();
        assert_eq!(watch.within(60).await, [""; 0]);
        assert!(scene.fake.requests().len() <= WATCHES);
        assert_eq!(scene.fake.open_watches(), WATCHES);
    }
}

#[tokio::test(start_paused = true)]
async fn removing_the_label_removes_the_pod_and_adding_it_adds_the_pod() {
    let (scene, mut watch, own) = begun().await;
    let set = |pod: &str, value| scene.fake.set_labels("default", pod, &label(&value)).unwrap();
    set(&own[0], json!(null));
    assert_eq!(watch.next().await, format!("gone {}", own[0]));
    set(&own[0], json!("soft"));
    assert_eq!(watch.next().await, ready(&own[0]));
    set("silent", json!("observe"));
    assert_eq!(watch.next().await, "silent ready");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_being_deleted_is_gone() {
    let (scene, mut watch, own) = begun().await;
    scene.fake.delete_pod("default", &own[0]).unwrap();
    let mut told = watch.within(10).await;
    // Its successor may be on this node too.
    told.retain(|told| told.contains(&own[0]) || told.starts_with("gone"));
    told.dedup();
    assert_eq!(told, ["gone ?"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_restarts_is_lost_and_then_another_instance() {
    let (scene, mut watch, own) = begun().await;
    let before = scene.pod(&own[0]);
    scene.fake.restart_container("default", &own[0], "app", 1).unwrap();
    let absent = format!("lost {}", own[0]);
    let told = watch.within(10).await;
    assert_eq!(told, [absent, format!("{} unready", own[0]), ready(&own[0])]);
    let after = scene.pod(&own[0]);
    assert_eq!(after.uid, before.uid);
    assert_ne!(after.container_id, before.container_id);
}

#[tokio::test(start_paused = true)]
async fn changes_of_readiness_are_reported() {
    let (scene, mut watch, own) = begun().await;
    scene.fake.set_ready("default", &own[1], false).unwrap();
    assert_eq!(watch.next().await, format!("{} unready", own[1]));
    scene.fake.set_ready("default", &own[1], true).unwrap();
    assert_eq!(watch.next().await, ready(&own[1]));
}

#[tokio::test(start_paused = true)]
async fn bookmarks_save_a_new_list_after_the_history_was_forgotten() {
    let (scene, mut watch, _) = begun().await;
    others_change(&scene.fake);
    // A bookmark every minute.
    sleep(Duration::from_secs(61)).await;
    scene.fake.expire_watches();
    scene.fake.break_watches();
    assert_eq!(watch.next().await, "silence", "it went on where the bookmark stood");
}

#[tokio::test(start_paused = true)]
async fn after_an_expiry_pods_that_vanished_meanwhile_are_gone() {
    for streaming in [true, false] {
        let (scene, mut watch) = Watch::begin(streaming).await;
        let own = own(&scene);
        watch.next_few(3).await;
        scene.fake.down(true);
        assert_eq!(watch.next().await, "away");
        scene.fake.set_labels("default", &own[0], &label(&json!(null))).unwrap();
        scene.fake.set_labels("default", "silent", &label(&json!("soft"))).unwrap();
        scene.fake.expire_watches();
        scene.fake.down(false);
        let told = watch.within(120).await;
        let gone = format!("gone {}", own[0]);
        let new = "silent ready".to_owned();
        let told: Vec<_> = told.into_iter().filter(|told| *told != ready(&own[1])).collect();
        assert_eq!(told, ["back".to_owned(), new, gone, "listed 2".to_owned()]);
        watch.asked_only_for_its_own();
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_reported_once_and_so_is_its_end() {
    let (scene, mut watch, own) = begun().await;
    scene.fake.down(true);
    assert_eq!(watch.within(3600).await, ["away"]);
    scene.fake.set_ready("default", &own[0], false).unwrap();
    scene.fake.down(false);
    let told = watch.within(120).await;
    assert_eq!(told[0], "back");
    assert!(told.contains(&format!("{} unready", own[0])), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_outage_is_reported_on_a_quiet_node() {
    for streaming in [true, false] {
        let (scene, mut watch) = Watch::begin(streaming).await;
        watch.next_few(3).await;
        scene.fake.down(true);
        assert_eq!(watch.within(600).await, ["away"]);
        scene.fake.down(false);
        assert_eq!(watch.within(120).await, ["back"], "no pod has changed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_is_not_an_outage() {
    let (scene, mut watch, own) = begun().await;
    for _ in 0..5 {
        scene.fake.break_watches();
        assert_eq!(watch.within(120).await, [""; 0]);
    }
    others_change(&scene.fake);
    scene.fake.expire_watches();
    scene.fake.break_watches();
    let all = [ready(&own[0]), ready(&own[1]), "listed 2".into()];
    assert_eq!(watch.within(120).await, all, "nor is an expiry");
}

#[tokio::test(start_paused = true)]
async fn an_outage_at_the_start_is_reported_and_then_lists() {
    let scene = Scene::new(2);
    scene.fake.down(true);
    let mut watch = Watch::of(&scene);
    assert_eq!(watch.within(300).await, ["away"]);
    scene.fake.down(false);
    let own = own(&scene);
    assert_eq!(watch.within(120).await, ["back".to_owned(), ready(&own[0]), "listed 1".into()]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_an_outage_too() {
    for streaming in [true, false] {
        let scene = Scene::new(2);
        scene.fake.set_watch_lists(streaming);
        let of_pods = |request: &Logged| request.resource == "pods";
        scene.fake.fail_next(1, of_pods, Fault::Hang { applied: false });
        let mut watch = Watch::of(&scene);
        assert_eq!(watch.next().await, "away", "streaming: {streaming}");
        let own = own(&scene);
        assert_eq!(watch.within(60).await, ["back".into(), ready(&own[0]), "listed 1".to_owned()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_right_is_an_outage_until_it_is_granted_again() {
    let (scene, mut watch, own) = begun().await;
    let account = Account::new("node1");
    scene.fake.identity("node1", account.clone().may([Rule::new("", &["pods"], &["get"])]));
    scene.fake.break_watches();
    assert_eq!(watch.within(1800).await, ["away"]);
    let denied = scene.fake.requests().len();
    assert!(denied < 120, "{denied} requests in half an hour: it does not back off");
    scene.fake.identity("node1", account);
    scene.fake.set_ready("default", &own[0], false).unwrap();
    let told = watch.within(120).await;
    assert_eq!(told[0], "back");
    assert!(told.contains(&format!("{} unready", own[0])), "{told:?}");
    watch.asked_only_for_its_own();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_in_the_middle_of_a_line_loses_nothing() {
    let (scene, mut watch, own) = begun().await;
    for (unready, pod) in own.iter().enumerate() {
        scene.fake.cut_watches();
        scene.fake.set_ready("default", pod, false).unwrap();
        let told = watch.within(120).await;
        assert_eq!(told, [format!("{pod} unready")], "{unready}");
    }
    watch.asked_only_for_its_own();
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_the_receiver_is_dropped() {
    let (scene, watch, own) = begun().await;
    drop(watch);
    scene.fake.set_ready("default", &own[0], false).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.fake.open_watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_reported_as_it_starts() {
    let scene = Scene::new(2);
    let timing = Timing {
        start: Duration::from_secs(5),
        ready: Duration::from_secs(5),
        ..Timing::default()
    };
    scene.fake.set_timing(timing);
    let mut watch = Watch::of(&scene);
    watch.next_few(2).await;
    let begun = Instant::now();
    let labels = label(&json!("soft"));
    let metadata = json!({ "name": "new", "labels": labels });
    scene.fake.start_pod(json!({ "metadata": metadata, "spec": { "nodeName": "node1" } }));
    let mut told = watch.within(30).await;
    told.dedup();
    assert_eq!(told, ["new unready", "new ready"]);
    assert!(begun.elapsed() > Duration::from_secs(10));
}

#[tokio::test]
async fn a_pod_beyond_the_maximum_is_watched_when_there_is_room() {
    let fake = FakeApi::new();
    fake.add_node("node1");
    let template = PodTemplate::new().label("paramedic.dev/heal", "soft");
    let names = fake.add_deployment("default", "web", 502, &template, &["node1"]);
    let pods: Vec<Pod> = names
        .iter()
        .map(|name| from_value(fake.get(Kind::Pod, "default", name).unwrap()).unwrap())
        .collect();

    let (changes, mut heard) = mpsc::channel(4 * MAX_TARGETS);
    let (notices, mut noted) = mpsc::channel(8);
    let mut tracker = PodTracker::new(Scene::new(0).agent("node1"), machine(), changes, notices);
    let mut found = || {
        let heard = std::iter::from_fn(|| heard.try_recv().ok());
        let found = heard.filter_map(|change| match change {
            Change::Found(target) => Some(target.name.clone()),
            _ => None,
        });
        found.collect::<Vec<_>>()
    };
    for pod in &pods {
        tracker.take(Event::Apply(pod.clone())).await.unwrap();
    }
    assert_eq!(found().len(), MAX_TARGETS);
    assert_eq!(noted.try_recv().unwrap().reason, "NotWatched");
    assert!(noted.try_recv().is_err(), "every pod beyond the maximum is reported");

    // A pod that is left out is deleted: no other is taken in its place.
    tracker.take(Event::Delete(pods[500].clone())).await.unwrap();
    assert_eq!(found(), [""; 0]);
    tracker.take(Event::Delete(pods[7].clone())).await.unwrap();
    assert_eq!(found(), [format!("default/{}", names[501])]);
    tracker.take(Event::Delete(pods[8].clone())).await.unwrap();
    assert_eq!(found(), [""; 0]);
}
