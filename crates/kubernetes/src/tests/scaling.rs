//! Healing and scaling do not conflict: while an HPA changes a workload's replicas, it gets no hard
//! remedy.
use fake_apiserver::Timing;
use serde_json::json;

use super::*;

/// Scales a workload as an HPA does.
fn hpa_wants(scene: &Scene, replicas: u32) {
    scene.fake.scale(Kind::Deployment, "default", "web", replicas).unwrap();
}

/// New pods take time to start, and until then the workload is being scaled. (Scaling down has no
/// such wait: pods that end no longer count.)
fn slow_to_start(scene: &Scene) {
    let start = Duration::from_secs(20);
    scene.fake.set_timing(Timing { start, ..Timing::default() });
}

/// Requests both hard remedies: they are refused while pods start.
async fn nothing_hard(agent: &Arc<Cluster>, pod: &Arc<PodRef>, when: &str) {
    for remedy in [Remedy::Restart, Remedy::Evict] {
        let (refusal, _) = ask(agent, &request(pod, remedy)).await.unwrap_err();
        assert_eq!(refusal.gate.name(), "rollout", "{when}, {remedy:?}: {}", refusal.why);
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_hpa_scales_no_hard_remedy_is_permitted() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    // Other pods of the workload are counted already: from here on only the new pods refuse.
    counted(&agent, &scene.first()).await;
    slow_to_start(&scene);
    hpa_wants(&scene, 5);
    nothing_hard(&agent, &scene.first(), "before there are pods").await;
    // From here on they exist, and all numbers but the ready ones agree.
    sleep(Duration::from_secs(1)).await;
    nothing_hard(&agent, &scene.first(), "after 1 s").await;
    let (gate, why) = refused(&agent, &scene.first()).await;
    assert_eq!((gate, why.contains("2 of the workload's 5 pods")), ("rollout", true), "{why}");
    sleep(Duration::from_secs(14)).await;
    nothing_hard(&agent, &scene.first(), "after 15 s").await;
    // A soft remedy interrupts no service.
    assert!(agent.clear(&request(&scene.first(), Remedy::Soft)).await.is_ok());
    sleep(Duration::from_secs(45)).await;
    let lock = clear(&agent, &scene.first()).await;
    assert!(lock.is_ok(), "at rest: {:?}", lock.err());
}

#[tokio::test(start_paused = true)]
async fn a_starting_pod_refuses_a_dry_run_too() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    slow_to_start(&scene);
    hpa_wants(&scene, 5);
    sleep(Duration::from_secs(1)).await;
    let dry = Request { dry_run: true, ..request(&scene.first(), Remedy::Restart) };
    assert_eq!(agent.clear(&dry).await.unwrap_err().0.gate.name(), "rollout");
    assert!(scene.lease().is_none());
}

/// No node accepts new pods: created ones stay Pending.
fn no_room(scene: &Scene) {
    for node in ["node1", "node2"] {
        let full = json!({ "spec": { "unschedulable": true } });
        scene.fake.patch(Kind::Node, "", node, &full).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_never_starts_refuses_for_ten_minutes() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    counted(&agent, &scene.first()).await;
    no_room(&scene);
    hpa_wants(&scene, 4);
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let wait = loop {
        match agent.clear(&request(&scene.first(), Remedy::Restart)).await {
            Ok(_) => break begun.elapsed(),
            Err((refusal, wait)) => {
                assert_eq!(refusal.gate.name(), "rollout", "{}", refusal.why);
                sleep(wait).await;
            }
        }
    };
    assert_eq!(wait, Duration::from_secs(600));
}

#[tokio::test(start_paused = true)]
async fn a_sick_unready_pod_does_not_count_as_starting() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    scene.fake.set_ready("default", &scene.pods[0], false).unwrap();
    assert!(clear(&agent, &scene.first()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn sick_unready_pods_of_other_nodes_do_not_count_as_starting() {
    let scene = Scene::new(5);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    for pod in &scene.pods[..2] {
        scene.fake.set_ready("default", pod, false).unwrap();
    }
    // Both report at once, and neither takes the other's pod for a starting one.
    counted(&a, &scene.first()).await;
    counted(&b, &scene.pod(&scene.pods[1])).await;
    let lock = clear(&a, &scene.first()).await.unwrap();
    a.release(lock, None).await;
    // A third that no agent counts as sick is one.
    scene.fake.set_ready("default", &scene.pods[2], false).unwrap();
    let (gate, why) = refused(&a, &scene.first()).await;
    assert_eq!((gate, why.contains("1 of the workload's 5 pods")), ("rollout", true), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_scale_between_two_checks_refuses_the_second() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let lock = clear(&agent, &scene.first()).await.unwrap();
    agent.release(lock, None).await;
    slow_to_start(&scene);
    hpa_wants(&scene, 4);
    assert_eq!(refused(&agent, &scene.first()).await.0, "rollout");
}

#[tokio::test(start_paused = true)]
async fn if_most_pods_are_sick_even_a_small_workload_refuses() {
    for (replicas, sick, refused_by) in [(2, 2, true), (3, 2, true), (5, 2, false), (5, 3, true)] {
        let scene = Scene::new(replicas);
        let agent = scene.agent("node1");
        let request = Request { sick, ..request(&scene.first(), Remedy::Restart) };
        let answer = ask(&agent, &request).await.map(|_| ()).map_err(|(r, _)| r.gate.name());
        let expected = if refused_by { Err("overload") } else { Ok(()) };
        assert_eq!(answer, expected, "{sick} of {replicas}");
    }
}
