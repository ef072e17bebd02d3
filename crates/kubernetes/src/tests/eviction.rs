//! Evictions: a dry run first, with the uid, then watched until the workload is well again.
use std::{sync::Arc, time::Duration};

use fake_apiserver::{Fault, Kind, Timing};
use paramedic_core::{engine::Remedied, guard::Permit, target::Remedy, verify::Outcome};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::*;
use crate::eviction::Answer;

const WINDOW: Duration = Duration::from_secs(15);

fn permit() -> Permit {
    Permit::for_tests(Remedy::Evict)
}

fn evictions(scene: &Scene) -> Vec<String> {
    let asked = scene.asked();
    asked.into_iter().filter(|asked| asked.contains("eviction")).collect()
}

/// Why an eviction was not done.
async fn not_performed(agent: &Cluster, pod: &PodRef, lock: &Lock) -> String {
    match agent.evict(pod, lock, permit()).await {
        Err(Remedied::NotPerformed(why)) => why,
        other => panic!("it did not come to nothing: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_precedes_an_eviction() {
    let scene = Scene::new(3);
    scene.fake.add_pdb("default", "web", "web", &json!({ "maxUnavailable": 1 }));
    let agent = scene.agent("node1");
    let pod = scene.first();
    let lock = ask(&agent, &request(&pod, Remedy::Evict)).await.unwrap().unwrap();
    agent.evict(&pod, &lock, permit()).await.unwrap();
    let dry = "create pods/eviction dry 201";
    assert_eq!(
        evictions(&scene),
        [dry, dry, "create pods/eviction 201"],
        "asked twice: others were counted in between"
    );
    let evicted = scene.fake.evictions();
    assert_eq!((evicted.len(), &evicted[0].uid), (1, &pod.uid));
    assert!(scene.fake.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_pod_spends_no_budget() {
    let scene = Scene::new(3);
    scene.fake.add_pdb("default", "web", "web", &json!({ "maxUnavailable": 1 }));
    let agent = scene.agent("node1");
    let other = Arc::new(PodRef { uid: "00000000".into(), ..(*scene.first()).clone() });
    let (refusal, _) = ask(&agent, &request(&other, Remedy::Evict)).await.unwrap_err();
    assert_eq!(refusal.gate.name(), "identity");
    match agent.ask_eviction(&other, true).await {
        Answer::MovedOn(why) => assert!(why.contains("UID in the precondition"), "{why}"),
        answer => panic!("{answer:?}"),
    }
    assert_eq!(evictions(&scene), ["create pods/eviction dry 409"], "never for real");
    let budget = scene.fake.get(Kind::PodDisruptionBudget, "default", "web").unwrap();
    assert_eq!(budget["status"]["disruptionsAllowed"], 1);
    assert!(budget["status"]["disruptedPods"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_was_spent_meanwhile_is_named_and_nothing_is_done() {
    let scene = Scene::new(3);
    scene.fake.add_pdb("default", "web-budget", "web", &json!({ "maxUnavailable": 1 }));
    let agent = scene.agent("node1");
    let pod = scene.first();
    let lock = ask(&agent, &request(&pod, Remedy::Evict)).await.unwrap().unwrap();
    scene.fake.set_ready("default", &scene.pods[1], false).unwrap();
    evictions(&scene);
    let why = not_performed(&agent, &pod, &lock).await;
    assert!(why.contains("web-budget"), "{why}");
    assert_eq!(evictions(&scene), ["create pods/eviction 429"]);
    assert!(scene.fake.evictions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_valid_lock_no_request_is_sent() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let pod = scene.first();
    let lock = ask(&agent, &request(&pod, Remedy::Evict)).await.unwrap().unwrap();
    sleep(Duration::from_secs(4)).await;
    scene.asked();
    let why = not_performed(&agent, &pod, &lock).await;
    assert!(why.contains("too old"), "{why}");
    assert!(scene.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_eviction_whose_answer_was_lost_may_have_been_done() {
    for fault in [Fault::Lost, Fault::Dropped, Fault::Status { code: 500, retry_after: None }] {
        let scene = Scene::new(3);
        let agent = scene.agent("node1");
        let pod = scene.first();
        let lock = ask(&agent, &request(&pod, Remedy::Evict)).await.unwrap().unwrap();
        scene.fake.fail_next(1, |asked| asked.is_eviction() && !asked.dry_run, fault);
        let told = agent.evict(&pod, &lock, permit()).await;
        assert!(matches!(told, Err(Remedied::Failed(_))), "{fault:?}: {told:?}");
        let evicted = scene.fake.evictions().len();
        assert_eq!(evicted, usize::from(fault == Fault::Lost), "{fault:?}: never a second time");
    }
}

async fn evicted(scene: &Scene) -> (Arc<Cluster>, Arc<PodRef>, Lock) {
    let agent = scene.agent("node1");
    let pod = scene.first();
    let lock = ask(&agent, &request(&pod, Remedy::Evict)).await.unwrap().unwrap();
    agent.evict(&pod, &lock, permit()).await.unwrap();
    (agent, pod, lock)
}

#[tokio::test(start_paused = true)]
async fn an_eviction_has_helped_once_its_successor_has_been_ready_for_the_window() {
    let scene = Scene::new(3);
    let (agent, pod, lock) = evicted(&scene).await;
    assert_eq!(lock.goal(), Some(3));
    let begun = Instant::now();
    let (outcome, why) = agent.replaced(&pod, &lock, WINDOW).await;
    assert_eq!((outcome, why.as_str()), (Outcome::Healed, "3 of 3 pods are ready again"));
    assert!(begun.elapsed() >= WINDOW && begun.elapsed() < 4 * WINDOW, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_unready_pod_is_expected_to_have_a_ready_successor() {
    let scene = Scene::new(3);
    scene.fake.set_ready("default", &scene.pods[0], false).unwrap();
    let (agent, pod, lock) = evicted(&scene).await;
    assert_eq!(lock.goal(), Some(3), "two are ready, and it will be");
    assert_eq!(agent.replaced(&pod, &lock, WINDOW).await.0, Outcome::Healed);
}

#[tokio::test(start_paused = true)]
async fn pods_that_were_unready_before_do_not_count_against_the_eviction() {
    let scene = Scene::new(4);
    scene.fake.set_ready("default", &scene.pods[1], false).unwrap();
    // It is sick, and not merely starting.
    counted(&scene.agent("node2"), &scene.pod(&scene.pods[1])).await;
    let (agent, pod, lock) = evicted(&scene).await;
    assert_eq!(lock.goal(), Some(3));
    assert_eq!(agent.replaced(&pod, &lock, WINDOW).await.0, Outcome::Healed);
}

#[tokio::test(start_paused = true)]
async fn an_eviction_without_a_ready_successor_did_not_help() {
    let scene = Scene::new(3);
    let never = Duration::from_secs(100_000);
    scene.fake.set_timing(Timing { ready: never, ..Timing::default() });
    let (agent, pod, lock) = evicted(&scene).await;
    let (outcome, why) = agent.replaced(&pod, &lock, WINDOW).await;
    assert_eq!((outcome, why.as_str()), (Outcome::NotHealed, "only 2 of 3 pods are ready"));
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_becomes_unready_restarts_the_window() {
    let scene = Scene::new(3);
    let (agent, pod, lock) = evicted(&scene).await;
    let begun = Instant::now();
    let follow = tokio::spawn(async move { agent.replaced(&pod, &lock, WINDOW).await });
    sleep(Duration::from_secs(12)).await;
    scene.fake.set_ready("default", &scene.pods[1], false).unwrap();
    sleep(Duration::from_secs(10)).await;
    scene.fake.set_ready("default", &scene.pods[1], true).unwrap();
    assert_eq!(follow.await.unwrap().0, Outcome::Healed);
    assert!(begun.elapsed() >= Duration::from_secs(22) + WINDOW, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_was_scaled_down_is_well_with_fewer_pods() {
    let scene = Scene::new(3);
    let (agent, pod, lock) = evicted(&scene).await;
    scene.fake.scale(Kind::Deployment, "default", "web", 2).unwrap();
    let (outcome, why) = agent.replaced(&pod, &lock, WINDOW).await;
    assert_eq!((outcome, why.as_str()), (Outcome::Healed, "2 of 2 pods are ready again"));
}

#[tokio::test(start_paused = true)]
async fn an_eviction_without_an_observable_outcome_is_unverified() {
    let scene = Scene::new(3);
    let (agent, pod, lock) = evicted(&scene).await;
    scene.fake.down(true);
    let (outcome, _) = agent.replaced(&pod, &lock, WINDOW).await;
    assert_eq!(outcome, Outcome::Unverified);
}
