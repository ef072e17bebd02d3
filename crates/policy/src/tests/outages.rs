//! Two replicas, an API server that is away, slow or lying, and pods that change meanwhile.
use std::collections::BTreeSet;

use fake_apiserver::Fault;

use super::*;

#[tokio::test(start_paused = true)]
async fn one_replica_writes_and_the_other_takes_over() {
    let scene = Scene::new();
    let one = scene.replica("one");
    seconds(1).await;
    let two = scene.replica("two");
    scene.policy("web", "web", "restart");
    seconds(5).await;
    let holder = || {
        scene.fake.get(Kind::Lease, OWN, "paramedic-policy").unwrap()["spec"]["holderIdentity"]
            .clone()
    };
    let writers = || -> BTreeSet<String> {
        let requests = scene.fake.requests();
        scene.fake.clear_requests();
        requests.iter().filter(|one| one.verb == "patch").map(|one| one.identity.clone()).collect()
    };
    assert_eq!((holder(), writers()), (json!("one"), BTreeSet::from(["one".to_owned()])));
    assert!(scene.all_have(&scene.web, Some("restart")));

    // A crash: the other waits until the Lease has expired.
    one.dies();
    scene.policy("web", "web", "soft");
    seconds(10).await;
    assert!(scene.all_have(&scene.web, Some("restart")), "nobody leads yet");
    seconds(10).await;
    assert!(scene.all_have(&scene.web, Some("soft")));
    assert_eq!((holder(), writers()), (json!("two"), BTreeSet::from(["two".to_owned()])));

    // An orderly end: the next one begins at once.
    let three = scene.replica("three");
    seconds(3).await;
    two.stops().await;
    scene.policy("web", "web", "evict");
    seconds(5).await;
    assert!(scene.all_have(&scene.web, Some("evict")));
    assert_eq!(holder(), "three");
    three.stops().await;
    assert!(scene.all_have(&scene.web, Some("evict")), "what stands on the pods stays");
}

#[tokio::test(start_paused = true)]
async fn what_happened_while_no_replica_ran_is_made_up_for() {
    let scene = Scene::new();
    let one = scene.replica("one");
    scene.policy("web", "web", "restart");
    scene.policy("db", "db", "restart");
    seconds(5).await;
    one.stops().await;
    scene.delete("web");
    scene.policy("db", "db", "soft");
    let _two = scene.replica("two");
    seconds(5).await;
    assert!(scene.all_have(&scene.web, None) && scene.all_have(&scene.db, Some("soft")));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_changes_nothing_and_is_caught_up_with() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    scene.policy("web", "web", "restart");
    seconds(5).await;
    scene.fake.down(true);
    scene.policy("web", "web", "soft");
    scene.policy("db", "db", "soft");
    seconds(120).await;
    assert!(scene.all_have(&scene.web, Some("restart")) && scene.all_have(&scene.db, None));
    scene.fake.down(false);
    seconds(60).await;
    assert!(scene.all_have(&scene.web, Some("soft")) && scene.all_have(&scene.db, Some("soft")));
    assert_eq!(scene.condition("db", "Ready"), "True Applied");
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_or_get_lost_are_repeated_until_they_hold() {
    for fault in [
        Fault::Dropped,
        Fault::Lost,
        Fault::Hang { applied: true },
        Fault::Hang { applied: false },
        Fault::Garbage,
        Fault::Status { code: 409, retry_after: None },
        Fault::Status { code: 429, retry_after: Some(1) },
        Fault::Status { code: 500, retry_after: None },
        Fault::Status { code: 403, retry_after: None },
    ] {
        let scene = Scene::new();
        let _replica = scene.replica("one");
        scene.fake.fail_next(4, |request| request.verb == "patch", fault);
        scene.policy("web", "web", "restart");
        seconds(60).await;
        assert!(scene.all_have(&scene.web, Some("restart")), "{fault:?}");
        assert_eq!(scene.condition("web", "Ready"), "True Applied", "{fault:?}");
        assert_eq!(scene.status("web")["applied"], 3, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_writes_are_told_and_tried_again_ever_more_rarely() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    let pods =
        |request: &fake_apiserver::Logged| request.verb == "patch" && request.resource == "pods";
    scene.fake.fail_next(usize::MAX, pods, Fault::Status { code: 403, retry_after: None });
    scene.policy("web", "web", "restart");
    seconds(10).await;
    assert_eq!(scene.condition("web", "Ready"), "False Refused");
    seconds(3600).await;
    scene.fake.clear_requests();
    seconds(3600).await;
    let written = scene.written();
    assert!((3..=21).contains(&written.len()), "{written:?}");
    scene.fake.forget_faults();
    seconds(700).await;
    assert!(scene.all_have(&scene.web, Some("restart")));
    assert_eq!(scene.condition("web", "Ready"), "True Applied");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_changed_meanwhile_is_judged_again() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    seconds(5).await;
    // The watch is late: the controller does not know the label that is there already.
    scene.fake.set_watch_lag(Duration::from_secs(5));
    scene
        .fake
        .set_labels("default", &scene.web[0], &json!({ "paramedic.dev/heal": "observe" }))
        .unwrap();
    scene.policy("web", "web", "evict");
    seconds(60).await;
    let labels = scene.labels(&scene.web);
    assert_eq!(labels, [Some("observe".into()), Some("evict".into()), Some("evict".into())]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_away_before_the_policies_are_known() {
    let scene = Scene::new();
    let one = scene.replica("one");
    scene.policy("web", "web", "restart");
    seconds(5).await;
    one.stops().await;
    let policies = |request: &fake_apiserver::Logged| request.resource == "healingpolicies";
    scene.fake.fail_next(1000, policies, Fault::Status { code: 500, retry_after: None });
    let _two = scene.replica("two");
    seconds(60).await;
    assert!(scene.all_have(&scene.web, Some("restart")));
    scene.fake.forget_faults();
    seconds(120).await;
    assert!(scene.all_have(&scene.web, Some("restart")));
}
