//! What kube's own helpers do is understood.
use std::time::Duration;

use fake_apiserver::{FakeApi, Kind};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn the_recorder_of_kube_counts_in_series() {
    let fake = FakeApi::new();
    fake.add_pod(json!({"metadata": {"name": "a"}, "spec": {"nodeName": "node1"}}));
    let client: Client = fake.client("agent");
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::default_namespaced(client.clone());
    let regarding = pods.get("a").await.unwrap().object_ref(&());
    let reporter =
        Reporter { controller: "paramedic.dev/agent".into(), instance: Some("x".into()) };
    let recorder = Recorder::new(client, reporter);
    let event = Event {
        type_: EventType::Warning,
        reason: "SickPod".into(),
        note: Some("it is sick".into()),
        action: "Heal".into(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&event, &regarding).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    let events = fake.list(Kind::Event);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["series"]["count"], 3);
    assert_eq!(events[0]["regarding"]["name"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_with_kube() {
    let fake = FakeApi::new();
    let leases = Api::<Lease>::namespaced(fake.client("agent"), "kube-system");
    assert!(leases.get_opt("lock").await.unwrap().is_none());
    let time = || Some(MicroTime(Timestamp::from_microsecond(1_795_381_200_000_000).unwrap()));
    let lease = Lease {
        metadata: ObjectMeta { name: Some("lock".into()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some("a".into()),
            renew_time: time(),
            ..LeaseSpec::default()
        }),
    };
    let params = PostParams::default();
    let mut held = leases.create(&params, &lease).await.unwrap();
    held.spec.as_mut().unwrap().holder_identity = Some("b".into());
    let renewed = leases.replace("lock", &params, &held).await.unwrap();
    assert_eq!(renewed.spec.unwrap().holder_identity.as_deref(), Some("b"));
    let Err(kube::Error::Api(late)) = leases.replace("lock", &params, &held).await else {
        panic!("the version was not compared")
    };
    assert_eq!((late.code, late.reason.as_str()), (409, "Conflict"));
    fake.delete(Kind::Lease, "kube-system", "lock").unwrap();
    leases.replace("lock", &params, &held).await.unwrap();
    assert_eq!(fake.list(Kind::Lease).len(), 1, "it rose from the dead");
}

/// No request is sent and no watch is open: waiting is enough.
#[tokio::test(start_paused = true)]
async fn a_test_can_wait_for_something_to_happen() {
    let fake = FakeApi::new();
    fake.add_pod(json!({"metadata": {"name": "a"}, "spec": {"nodeName": "node1"}}));
    fake.restart_container("default", "a", "app", 0).unwrap();
    let begun = Instant::now();
    let count = |fake: &FakeApi| {
        let pod = fake.get(Kind::Pod, "default", "a").unwrap();
        pod["status"]["containerStatuses"][0]["restartCount"].clone()
    };
    fake.until(|fake| count(fake) == 1).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(900));
    let other = fake.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(7)).await;
        other.set_labels("default", "a", &json!({"x": "y"})).unwrap();
    });
    fake.until(|fake| {
        fake.get(Kind::Pod, "default", "a").unwrap()["metadata"]["labels"]["x"] == "y"
    })
    .await;
    assert_eq!(begun.elapsed(), Duration::from_millis(7900));
}
