//! Healing and scaling do not fight: an HPA changes a workload's replicas, and until that has come
//! to rest nothing of the workload is healed hard.
use fake_apiserver::Timing;

use super::*;

/// What an HPA does to a workload, and how the workload shows it.
fn hpa_wants(scene: &Scene, replicas: u32) {
    scene.fake.scale(Kind::Deployment, "default", "web", replicas).unwrap();
}

/// New pods take their time to start, and until they are there the workload is being scaled. (The
/// other way there is nothing to wait for: pods that end no longer count.)
fn slow_to_start(scene: &Scene) {
    let start = Duration::from_secs(20);
    scene.fake.set_timing(Timing { start, ..Timing::default() });
}

#[tokio::test(start_paused = true)]
async fn while_the_hpa_scales_nothing_is_healed_hard() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    slow_to_start(&scene);
    hpa_wants(&scene, 5);
    for rung in [Rung::Restart, Rung::Evict] {
        let (refusal, _) = ask(&agent, &request(&scene.first(), rung)).await.unwrap_err();
        assert_eq!(refusal.gate.name(), "rollout", "{}", refusal.why);
    }
    // A soft heal interrupts nobody.
    assert!(agent.clear(&request(&scene.first(), Rung::Soft)).await.is_ok());
    sleep(Duration::from_secs(60)).await;
    let lock = clear(&agent, &scene.first()).await;
    assert!(lock.is_ok(), "at rest: {:?}", lock.err());
}

#[tokio::test(start_paused = true)]
async fn an_hpa_that_scales_between_the_question_and_the_next_is_obeyed_by_the_next() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let lock = clear(&agent, &scene.first()).await.unwrap();
    agent.release(lock, None).await;
    slow_to_start(&scene);
    hpa_wants(&scene, 4);
    assert_eq!(refused(&agent, &scene.first()).await.0, "rollout");
}

#[tokio::test(start_paused = true)]
async fn where_most_are_sick_nobody_is_healed_hard_however_small_the_workload() {
    for (replicas, sick, refused_by) in [(2, 2, true), (3, 2, true), (5, 2, false), (5, 3, true)] {
        let scene = Scene::new(replicas);
        let agent = scene.agent("node1");
        let request = Request { sick, ..request(&scene.first(), Rung::Restart) };
        let answer = ask(&agent, &request).await.map(|_| ()).map_err(|(r, _)| r.gate.name());
        let expected = if refused_by { Err("overload") } else { Ok(()) };
        assert_eq!(answer, expected, "{sick} of {replicas}");
    }
}
