//! One hard remedy per workload at a time, whichever agent asks, dies, or deletes the Lease.
use std::time::Duration;

use fake_apiserver::{Fault, Kind, Logged};
use paramedic_core::verify::Outcome;
use serde_json::json;
use tokio::{join, time::sleep};

use super::*;

/// A number of pods for which their workload's share is two hard remedies in ten minutes.
const MANY: u32 = 20;

fn seconds(seconds: u64) -> impl Future<Output = ()> {
    sleep(Duration::from_secs(seconds))
}

fn writes_lease(asked: &Logged) -> bool {
    asked.resource == "leases" && asked.verb != "get"
}

#[tokio::test(start_paused = true)]
async fn of_two_agents_that_race_one_gets_the_lock() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let (first, second) = (scene.first(), scene.pod(&scene.pods[1]));
    counted(&a, &first).await;
    counted(&b, &second).await;
    scene.fake.set_latency(Duration::from_millis(20));
    for round in 0..2 {
        let both = join!(clear(&a, &first), clear(&b, &second));
        let (lock, winner, refusal) = match both {
            (Ok(lock), Err(refusal)) => (lock, &a, refusal),
            (Err(refusal), Ok(lock)) => (lock, &b, refusal),
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(refusal.gate.name(), "workload_lock");
        let holder = &winner.identity().holder;
        assert!(refusal.why.to_string().contains(holder), "{}", refusal.why);
        assert_eq!(scene.holder(), *holder);
        winner.release(lock, None).await;
        assert_eq!(scene.holder(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_renewed_for_as_long_as_its_holder_lives() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let lock = clear(&a, &scene.first()).await.unwrap();
    for _ in 0..20 {
        let (gate, why) = refused(&b, &scene.pod(&scene.pods[1])).await;
        assert_eq!((gate, why.contains("node1/1")), ("workload_lock", true), "{why}");
        seconds(30).await;
    }
    a.release(lock, Some(Outcome::Healed)).await;
    assert!(clear(&b, &scene.pod(&scene.pods[1])).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_holder_died_is_taken_over_after_a_minute_without_change() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    drop(clear(&a, &scene.first()).await.unwrap());
    // No agent has seen yet since when it has not changed.
    seconds(120).await;
    for _ in 0..2 {
        assert_eq!(refused(&b, &scene.first()).await.0, "workload_lock");
        seconds(29).await;
    }
    assert_eq!(refused(&b, &scene.first()).await.0, "workload_lock");
    seconds(3).await;
    let _lock = clear(&b, &scene.first()).await.unwrap();
    assert_eq!(scene.holder(), "node2/1");
    let transitions = scene.lease().unwrap()["spec"]["leaseTransitions"].clone();
    assert_eq!(transitions, 2);
    assert_eq!(scene.record().heals.len(), 2, "what the dead one was granted still counts");
}

#[tokio::test(start_paused = true)]
async fn a_lock_permits_to_act_for_as_long_as_its_answers_are_fresh() {
    let scene = Scene::new(MANY);
    let a = scene.agent("node1");
    let lock = clear(&a, &scene.first()).await.unwrap();
    let first = lock.permits_for(scene.clock.now());
    assert!(first > Duration::ZERO && first <= Duration::from_secs(3), "{first:?}");
    seconds(1).await;
    assert_eq!(lock.permits_for(scene.clock.now()), first - Duration::from_secs(1));
    seconds(3).await;
    assert_eq!(lock.permits_for(scene.clock.now()), Duration::ZERO);
    assert!(lock.holds(scene.clock.now()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_returns_after_a_takeover_loses_the_lock() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let lost = clear(&a, &scene.first()).await.unwrap();
    scene.fake.cut_off("node1", true);
    refused(&b, &scene.first()).await;
    seconds(31).await;
    assert!(lost.holds(scene.clock.now()).unwrap_err().contains("has expired"));
    seconds(30).await;
    let lock = clear(&b, &scene.first()).await.unwrap();
    scene.fake.cut_off("node1", false);
    seconds(25).await;
    assert!(lost.holds(scene.clock.now()).unwrap_err().contains("has expired"));
    assert_eq!(scene.holder(), "node2/1", "a renewal does not take it back");
    a.release(lost, Some(Outcome::NotHealed)).await;
    assert_eq!(scene.holder(), "node2/1", "nor does giving it back take it away");
    let outcomes = scene.record().heals.iter().map(|heal| heal.outcome).collect::<Vec<_>>();
    assert_eq!(outcomes, [Some(Outcome::NotHealed), None]);
    b.release(lock, Some(Outcome::Healed)).await;
    assert_eq!(scene.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn the_holder_creates_a_deleted_lease_again() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let lock = clear(&a, &scene.first()).await.unwrap();
    scene.fake.delete(Kind::Lease, OWN, "deployment.default.web").unwrap();
    seconds(25).await;
    assert_eq!(scene.holder(), "node1/1");
    assert_eq!(refused(&b, &scene.first()).await.0, "workload_lock");
    a.release(lock, Some(Outcome::Healed)).await;
    assert_eq!(scene.record().heals[0].outcome, Some(Outcome::Healed));
}

#[tokio::test(start_paused = true)]
async fn the_holder_of_a_deleted_lease_yields_to_a_new_holder() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let lost = clear(&a, &scene.first()).await.unwrap();
    scene.fake.delete(Kind::Lease, OWN, "deployment.default.web").unwrap();
    let _lock = clear(&b, &scene.pod(&scene.pods[1])).await.unwrap();
    seconds(25).await;
    assert_eq!(scene.holder(), "node2/1");
    assert!(lost.holds(scene.clock.now()).unwrap_err().contains("has expired"));
    a.release(lost, None).await;
    assert_eq!(scene.holder(), "node2/1");
}

#[tokio::test(start_paused = true)]
async fn releasing_a_lock_of_a_deleted_lease_creates_none() {
    let scene = Scene::new(MANY);
    let a = scene.agent("node1");
    let lock = clear(&a, &scene.first()).await.unwrap();
    scene.fake.delete(Kind::Lease, OWN, "deployment.default.web").unwrap();
    a.release(lock, Some(Outcome::Healed)).await;
    assert!(scene.lease().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_sick_count_of_another_agent_does_not_cost_the_lock() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let lock = clear(&a, &scene.first()).await.unwrap();
    scene.asked();
    for _ in 0..5 {
        refused(&b, &scene.pod(&scene.pods[1])).await;
        seconds(19).await;
    }
    let asked = scene.asked();
    assert!(asked.iter().any(|asked| asked == "update leases 409"), "{asked:?}");
    assert_eq!(scene.holder(), "node1/1");
    assert_eq!(scene.record().sick["node2"].pods, 1, "and the renewal keeps what they wrote");
    a.release(lock, Some(Outcome::Healed)).await;
    assert_eq!(scene.record().sick["node2"].pods, 1);
}

#[tokio::test(start_paused = true)]
async fn a_released_lock_is_free_and_records_the_outcome() {
    let scene = Scene::new(MANY);
    let a = scene.agent("node1");
    let lock = clear(&a, &scene.first()).await.unwrap();
    let granted = scene.record().heals;
    assert_eq!(granted.len(), 1);
    assert_eq!((granted[0].by.as_str(), granted[0].remedy), ("node1/1", Remedy::Restart));
    assert_eq!((&granted[0].pod, granted[0].outcome), (&scene.pods[0], None));
    a.release(lock, Some(Outcome::NotHealed)).await;
    assert_eq!(scene.holder(), "");
    assert_eq!(scene.record().heals[0].outcome, Some(Outcome::NotHealed));

    let unused = clear(&a, &scene.first()).await.unwrap();
    a.release(unused, None).await;
    assert_eq!(scene.record().heals.len(), 1, "what was not begun was no heal");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_half_a_minute_delays_a_release() {
    let scene = Scene::new(MANY);
    let a = scene.agent("node1");
    let lock = clear(&a, &scene.first()).await.unwrap();
    scene.fake.down(true);
    let outage = async {
        seconds(30).await;
        scene.fake.down(false);
    };
    join!(a.release(lock, Some(Outcome::Healed)), outage);
    assert_eq!(scene.holder(), "");
    assert_eq!(scene.record().heals[0].outcome, Some(Outcome::Healed));
}

/// How long an agent tries to release a lock while the server is down.
async fn release_attempts(node: &str) -> Duration {
    let scene = Scene::new(MANY);
    let agent = scene.agent(node);
    let lock = clear(&agent, &scene.first()).await.unwrap();
    scene.fake.down(true);
    let begun = Instant::now();
    agent.release(lock, None).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn release_attempts_end_by_the_time_the_lock_expires_with_jitter_of_each_agents_own() {
    let first = release_attempts("node1").await;
    assert!((40..=60).contains(&first.as_secs()), "{first:?}");
    assert_eq!(first, release_attempts("node1").await, "a simulation can be repeated");
    assert_ne!(first, release_attempts("node2").await);
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_response_was_lost_is_released_unused() {
    for fault in [Fault::Lost, Fault::Hang { applied: true }] {
        let scene = Scene::new(MANY);
        let a = scene.agent("node1");
        counted(&a, &scene.first()).await;
        scene.fake.fail_next(1, writes_lease, fault);
        assert_eq!(refused(&a, &scene.first()).await.0, "api_server");
        assert_eq!(scene.holder(), "node1/1", "it was applied");
        seconds(1).await;
        assert_eq!((scene.holder(), scene.record().heals.len()), (String::new(), 0));
        assert!(clear(&a, &scene.first()).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_a_response_lets_the_lock_expire() {
    let scene = Scene::new(MANY);
    let a = scene.agent("node1");
    let lock = clear(&a, &scene.first()).await.unwrap();
    scene.fake.fail_next(usize::MAX, writes_lease, Fault::Lost);
    seconds(29).await;
    assert!(!lock.holds(scene.clock.now()).unwrap_err().contains("has expired"));
    seconds(2).await;
    assert!(lock.holds(scene.clock.now()).unwrap_err().contains("has expired"));
}

#[tokio::test(start_paused = true)]
async fn a_workloads_share_is_spent_for_ten_minutes_whichever_node_spent_it() {
    let scene = Scene::new(4);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let lock = clear(&a, &scene.first()).await.unwrap();
    a.release(lock, Some(Outcome::Healed)).await;
    let (gate, why) = refused(&b, &scene.pod(&scene.pods[1])).await;
    assert_eq!(gate, "workload_lock");
    assert!(why.contains("1 hard remedies for its workload in 10 min, at most 1"), "{why}");
    seconds(595).await;
    assert_eq!(refused(&b, &scene.pod(&scene.pods[1])).await.0, "workload_lock");
    seconds(6).await;
    assert!(clear(&b, &scene.pod(&scene.pods[1])).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_a_large_workload_may_get_a_hard_remedy_in_ten_minutes() {
    let scene = Scene::new(MANY);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    for agent in [&a, &b] {
        let lock = clear(agent, &scene.first()).await.unwrap();
        agent.release(lock, Some(Outcome::Healed)).await;
    }
    let (gate, why) = refused(&a, &scene.first()).await;
    assert_eq!((gate, why.contains("at most 2")), ("workload_lock", true), "{why}");
}

#[tokio::test(start_paused = true)]
async fn sick_pods_of_several_nodes_add_up_to_an_overload() {
    let scene = Scene::new(5);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    let sick = |name: &str, sick| Request { sick, ..request(&scene.pod(name), Remedy::Restart) };
    let lock = ask(&a, &sick(&scene.pods[0], 2)).await.unwrap().unwrap();
    let (refusal, wait) = ask(&b, &sick(&scene.pods[1], 1)).await.unwrap_err();
    assert_eq!(refusal.gate.name(), "overload");
    assert!(refusal.why.to_string().contains("3 of the workload's 5 pods"), "{}", refusal.why);
    assert_eq!(wait, Duration::from_secs(30));
    a.release(lock, None).await;
    // A node's report is valid for three minutes.
    seconds(181).await;
    assert!(ask(&b, &sick(&scene.pods[1], 1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn two_hard_remedies_without_success_stop_every_agent_for_an_hour() {
    let scene = Scene::new(4);
    let (a, b) = (scene.agent("node1"), scene.agent("node2"));
    for agent in [&a, &b] {
        let lock = clear(agent, &scene.first()).await.unwrap();
        agent.release(lock, Some(Outcome::NotHealed)).await;
        seconds(601).await;
    }
    for agent in [&a, &b] {
        let (gate, why) = refused(agent, &scene.first()).await;
        assert_eq!((gate, why.contains("an operator must look")), ("exhausted", true), "{why}");
    }
    // An hour after the first of them.
    seconds(3600 - 1202).await;
    assert!(clear(&a, &scene.first()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_record_refuses_and_is_left_unchanged() {
    let scene = Scene::new(3);
    let a = scene.agent("node1");
    let lock = clear(&a, &scene.first()).await.unwrap();
    a.release(lock, None).await;
    let bad =
        json!({ "metadata": { "annotations": { "paramedic.dev/record": "{\"heals\": 7}" } } });
    scene.fake.patch(Kind::Lease, OWN, "deployment.default.web", &bad).unwrap();
    let before = scene.lease();
    let (gate, why) = refused(&a, &scene.first()).await;
    assert_eq!(gate, "workload_lock");
    assert!(why.contains("deployment.default.web cannot be read"), "{why}");
    assert!(why.contains("delete the Lease"), "{why}");
    assert_eq!(scene.lease(), before);
    scene.fake.delete(Kind::Lease, OWN, "deployment.default.web").unwrap();
    assert!(clear(&a, &scene.first()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn after_repeated_conflicts_the_lock_is_given_up() {
    let scene = Scene::new(MANY);
    let a = scene.agent("node1");
    counted(&a, &scene.first()).await;
    let conflict = Fault::Status { code: 409, retry_after: None };
    scene.fake.fail_next(4, writes_lease, conflict);
    let (gate, why) = refused(&a, &scene.first()).await;
    assert_eq!((gate, why.contains("another agent")), ("workload_lock", true), "{why}");
    assert_eq!((scene.holder(), scene.record().heals.len()), (String::new(), 0));
}
