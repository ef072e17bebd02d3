//! Events on pods: one for each remedy, a series for repetitions, and never a delay.
use std::time::Duration;

use fake_apiserver::{Fault, Kind, Timing};
use paramedic_core::notice::Notice;
use tokio::{
    sync::mpsc::{Sender, channel},
    time::sleep,
};

use super::*;
use crate::events::{QUEUE, announce};

/// An agent that sends Events.
struct Stage {
    scene: Scene,
    notices: Sender<Notice>,
}

impl Stage {
    fn new() -> Self {
        let scene = Scene::new(2);
        let (notices, announced) = channel(QUEUE);
        tokio::spawn(announce(scene.agent("node1"), announced));
        Self { scene, notices }
    }

    fn notice(&self, note: &str, series: Option<&'static str>) -> Notice {
        let pod = self.scene.first();
        Notice { pod, warning: false, reason: "HealRefused", note: note.into(), series }
    }

    /// Sends a notice and waits until it was written.
    async fn say(&self, note: &str, series: Option<&'static str>) {
        self.notices.send(self.notice(note, series)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }

    fn events(&self) -> Vec<Value> {
        self.scene.fake.list(Kind::Event)
    }
}

fn has_six_decimals(time: &Value) -> bool {
    let time = time.as_str().unwrap();
    let fraction = time.strip_suffix('Z').and_then(|time| time.split_once('.')).map(|(_, f)| f);
    fraction.is_some_and(|f| f.len() == 6 && f.bytes().all(|b| b.is_ascii_digit()))
}

#[tokio::test(start_paused = true)]
async fn an_event_has_every_field_of_the_recorded_one() {
    let stage = Stage::new();
    stage.say("soft begins: reset_errors", None).await;
    let events = stage.events();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    let recorded = fake_apiserver::recorded::exchange_of("events/201-create.json");
    let recorded = recorded.unwrap().unwrap().request;
    for field in recorded.as_object().unwrap().keys() {
        assert!(!event[field].is_null(), "{field} is missing in {event:#}");
    }
    for field in recorded["regarding"].as_object().unwrap().keys() {
        assert!(!event["regarding"][field].is_null(), "{field} is missing in {event:#}");
    }
    let pod = stage.scene.first();
    assert_eq!(event["regarding"]["uid"], pod.uid.as_str());
    assert_eq!(event["regarding"]["fieldPath"], "spec.containers{app}");
    assert_eq!(event["note"], "soft begins: reset_errors");
    assert_eq!((&event["type"], &event["action"]), (&"Normal".into(), &"Heal".into()));
    assert!(has_six_decimals(&event["eventTime"]), "{event:#}");
    assert_eq!(stage.scene.asked(), ["create events 201"]);
}

#[tokio::test(start_paused = true)]
async fn each_remedy_has_its_own_event() {
    let stage = Stage::new();
    for _ in 0..3 {
        stage.say("soft: healed after 3 s", None).await;
    }
    assert_eq!(stage.events().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_note_that_is_too_long_is_cut_to_the_servers_limit() {
    let stage = Stage::new();
    for note in ["x".repeat(5000), "é".repeat(800), "€".repeat(400)] {
        stage.say(&note, None).await;
    }
    let events = stage.events();
    assert_eq!(events.len(), 3);
    for event in events {
        let note = event["note"].as_str().unwrap();
        assert!((1020..=1024).contains(&note.len()), "{}", note.len());
    }
}

#[tokio::test(start_paused = true)]
async fn repetitions_are_counted_in_one_event_at_most_once_a_minute() {
    let stage = Stage::new();
    for _ in 0..300 {
        stage.say("restart refused by gate disruption_budget", Some("disruption_budget")).await;
    }
    let asked = stage.scene.asked();
    assert_eq!(asked[0], "create events 201");
    assert!(asked[1..].iter().all(|asked| asked == "patch events 200"), "{asked:?}");
    assert!((3..=5).contains(&(asked.len() - 1)), "{asked:?}");
    let events = stage.events();
    assert_eq!(events.len(), 1);
    let count = events[0]["series"]["count"].as_u64().unwrap();
    assert!((240..=300).contains(&count), "{count}");
    assert!(has_six_decimals(&events[0]["series"]["lastObservedTime"]));
}

#[tokio::test(start_paused = true)]
async fn each_pod_and_gate_has_its_own_series() {
    let stage = Stage::new();
    let other = stage.scene.pod(&stage.scene.pods[1]);
    for _ in 0..3 {
        stage.say("no", Some("overload")).await;
        stage.say("no", Some("rollout")).await;
        let notice = Notice { pod: Arc::clone(&other), ..stage.notice("no", Some("overload")) };
        stage.notices.send(notice).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.events().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_series_continues_when_its_note_changes() {
    let stage = Stage::new();
    for sick in 2..5 {
        stage.say(&format!("{sick} of the workload's 5 pods are sick"), Some("overload")).await;
        sleep(Duration::from_secs(60)).await;
    }
    let asked = stage.scene.asked();
    assert_eq!(asked, ["create events 201", "patch events 200", "patch events 200"]);
    let events = stage.events();
    assert_eq!((events.len(), &events[0]["series"]["count"]), (1, &3.into()));
}

#[tokio::test(start_paused = true)]
async fn a_series_that_the_server_deleted_starts_again() {
    let stage = Stage::new();
    let ttl = Duration::from_secs(120);
    stage.scene.fake.set_timing(Timing { event_ttl: ttl, ..Timing::default() });
    stage.say("no", Some("overload")).await;
    sleep(Duration::from_secs(180)).await;
    assert!(stage.events().is_empty());
    stage.say("no", Some("overload")).await;
    let asked = ["create events 201", "patch events 404", "create events 201"];
    assert_eq!(stage.scene.asked(), asked);
    assert_eq!(stage.events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_server_is_down_only_events_are_lost() {
    let stage = Stage::new();
    stage.scene.fake.down(true);
    for _ in 0..10 {
        stage.say("lost", None).await;
        stage.say("lost", Some("overload")).await;
    }
    stage.scene.fake.down(false);
    stage.say("heard", None).await;
    stage.say("heard", Some("overload")).await;
    let notes: Vec<_> = stage.events().iter().map(|event| event["note"].clone()).collect();
    assert_eq!(notes, ["heard", "heard"]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_server_bounds_the_queue() {
    let stage = Stage::new();
    stage.scene.fake.fail_next(1, |_| true, Fault::Hang { applied: false });
    stage.say("first", None).await;
    let taken =
        (0..2 * QUEUE).filter(|_| stage.notices.try_send(stage.notice("more", None)).is_ok());
    assert_eq!(taken.count(), QUEUE);
    // When the first is given up, a burst follows; the others are dropped.
    sleep(Duration::from_secs(60)).await;
    let sent = stage.events().len();
    assert!((20..30).contains(&sent), "{sent}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.events().len(), sent);
    stage.say("later", None).await;
    assert_eq!(stage.events().len(), sent + 1, "what comes later is told again");
}

#[tokio::test(start_paused = true)]
async fn a_busy_node_sends_one_event_in_two_seconds() {
    let stage = Stage::new();
    for _ in 0..600 {
        stage.say("soft begins", None).await;
    }
    let told = stage.events().len();
    assert!((300..=330).contains(&told), "{told} in ten minutes");
}
