//! A quarantine in place of an eviction: labels that are taken, a successor, an end.
use fake_apiserver::Fault;
use k8s_openapi::api::core::v1::Pod;
use paramedic_core::{
    engine::Remedied,
    guard::{Gate, Permit},
    target::Obstacle,
    verify::Outcome,
};
use serde_json::json;

use super::*;
use crate::labels::{self, QUARANTINED, Quarantined};

const WINDOW: Duration = Duration::from_secs(15);

fn permit() -> Permit {
    Permit::for_tests(Remedy::Evict)
}

/// A Deployment whose owner wants a quarantine of ten minutes, behind a Service, with the fence.
fn kept() -> Scene {
    let template = PodTemplate::new()
        .label("team", "shop")
        .annotation("paramedic.dev/give-up", "quarantine")
        .annotation("paramedic.dev/quarantine-ttl", "10m");
    let scene = Scene::of(3, &template);
    scene.service(&json!({ "app": "web" }));
    scene.fenced();
    scene
}

async fn locked(agent: &Arc<Cluster>, pod: &Arc<PodRef>) -> Lock {
    ask(agent, &request(pod, Remedy::Evict)).await.unwrap().unwrap()
}

fn pod_of(scene: &Scene, pod: &PodRef) -> Pod {
    from_value(scene.object(pod)).unwrap()
}

async fn quarantined(scene: &Scene) -> (Arc<Cluster>, Arc<PodRef>, Lock) {
    let agent = scene.agent("node1");
    let pod = scene.first();
    let lock = locked(&agent, &pod).await;
    assert!(lock.is_quarantine());
    let told = agent.quarantine(&pod, &lock, permit(), Some(7)).await.unwrap();
    assert!(told.contains("without the labels app, pod-template-hash"), "{told}");
    (agent, pod, lock)
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_kept_and_its_workload_gets_another() {
    let scene = kept();
    let (agent, pod, lock) = quarantined(&scene).await;
    let (outcome, told) = agent.replaced(&pod, &lock, WINDOW).await;
    assert_eq!((outcome, told.as_str()), (Outcome::Healed, "3 of 3 pods are ready again"));
    let now = pod_of(&scene, &pod);
    assert_eq!(now.metadata.owner_references, None, "its ReplicaSet has let it go");
    let left = now.metadata.labels.clone().unwrap();
    let left: Vec<_> = left.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(left, ["paramedic.dev/heal=evict", "team=shop"]);
    let record = Quarantined::of(&now).unwrap().unwrap();
    assert_eq!((record.workload.as_str(), record.incident), ("Deployment/web", Some(7)));
    assert_eq!(record.until.as_second() - record.at.as_second(), 600);
    assert_eq!(record.by, "node1/1");
    assert_eq!(scene.fake.list(Kind::Pod).len(), 4);
    assert!(scene.fake.evictions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_pod_is_only_observed() {
    let scene = kept();
    let (agent, pod, lock) = quarantined(&scene).await;
    agent.release(lock, Some(Outcome::Healed)).await;
    let now = watched_pod(&pod_of(&scene, &pod)).unwrap();
    assert_eq!(now.settings.ceiling, Remedy::Observe);
    assert_eq!(now.no_evict, Some(Obstacle::InQuarantine));
    for remedy in [Remedy::Restart, Remedy::Evict] {
        let refused = agent.clear(&request(&pod, remedy)).await.map(|_| ());
        assert_eq!(refused.unwrap_err().0.gate, Gate::Mode, "{remedy:?}");
    }
    // An annotation that nobody can read means the same.
    let strange = json!({ "metadata": { "annotations": { QUARANTINED: "?" } } });
    scene.fake.patch(Kind::Pod, "default", &pod.name, &strange).unwrap();
    assert_eq!(watched_pod(&pod_of(&scene, &pod)).unwrap().settings.ceiling, Remedy::Observe);
}

#[tokio::test(start_paused = true)]
async fn one_pod_of_a_workload_is_enough() {
    let scene = kept();
    let (agent, pod, lock) = quarantined(&scene).await;
    agent.replaced(&pod, &lock, WINDOW).await;
    agent.release(lock, Some(Outcome::Healed)).await;
    // The share of the workload is spent for ten minutes; the quarantine lasts as long.
    let long = json!({ "metadata": { "annotations": {} } });
    scene.fake.patch(Kind::Pod, "default", &pod.name, &long).unwrap();
    sleep(Duration::from_secs(601)).await;
    let other = scene.pod(&scene.pods[2]);
    let other_agent = scene.agent("node1");
    let refused = ask(&other_agent, &request(&other, Remedy::Evict)).await.map(|_| ());
    let (refusal, _) = refused.unwrap_err();
    assert_eq!(refusal.gate, Gate::WorkloadLock);
    let why = refusal.why.to_string();
    assert!(why.contains(&pod.name) && why.contains("paramedic release"), "{why}");
    scene.fake.delete_pod("default", &pod.name).unwrap();
    sleep(Duration::from_secs(35)).await;
    locked(&other_agent, &other).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_restores_it_and_the_controller_deletes_one_too_many() {
    let scene = kept();
    let before = pod_of(&scene, &scene.first());
    let (agent, pod, lock) = quarantined(&scene).await;
    agent.replaced(&pod, &lock, WINDOW).await;
    let release = labels::release(&pod_of(&scene, &pod)).unwrap();
    let user = scene.fake.client("owner");
    let pods: kube::Api<Pod> = kube::Api::namespaced(user, "default");
    let patch = kube::api::Patch::Merge(&release.change);
    pods.patch_metadata(&pod.name, &kube::api::PatchParams::default(), &patch).await.unwrap();
    let after = pod_of(&scene, &pod);
    assert_eq!(after.metadata.labels, before.metadata.labels, "exactly");
    assert_eq!(after.metadata.annotations, before.metadata.annotations);
    let owner = |pod: &Pod| pod.metadata.owner_references.as_ref().unwrap()[0].uid.clone();
    assert_eq!(owner(&after), owner(&before), "its ReplicaSet has adopted it");
    sleep(Duration::from_secs(40)).await;
    assert_eq!(scene.fake.list(Kind::Pod).len(), 3);
    assert_eq!(watched_pod(&after).unwrap().settings.ceiling, Remedy::Evict);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_forbids_a_quarantine_too() {
    let scene = kept();
    scene.fake.add_pdb("default", "web-budget", "web", &json!({ "minAvailable": 3 }));
    let agent = scene.agent("node1");
    let refused = ask(&agent, &request(&scene.first(), Remedy::Evict)).await.map(|_| ());
    assert_eq!(refused.unwrap_err().0.gate, Gate::DisruptionBudget);
    assert!(scene.fake.relabelled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_out_is_refused_at_the_preflight() {
    let scene = kept();
    scene.service(&json!({ "paramedic.dev/heal": "evict" }));
    let agent = scene.agent("node1");
    let refused = ask(&agent, &request(&scene.first(), Remedy::Evict)).await.map(|_| ());
    let (refusal, _) = refused.unwrap_err();
    assert_eq!(refusal.gate, Gate::Mode);
    assert!(refusal.why.to_string().contains("still be selected"), "{}", refusal.why);
}

#[tokio::test(start_paused = true)]
async fn after_its_time_it_is_evicted_by_whichever_process_is_there() {
    for dies in [false, true] {
        let scene = kept();
        let (mut agent, pod, lock) = quarantined(&scene).await;
        agent.replaced(&pod, &lock, WINDOW).await;
        if dies {
            agent = scene.agent("node1");
        }
        let _task = tokio::spawn(Arc::clone(&agent).bring_back(true));
        scene.shows(&agent, &pod);
        sleep(Duration::from_secs(500)).await;
        assert!(scene.fake.evictions().is_empty());
        // Any answer tells the time.
        agent.not_paused(Remedy::Restart).await.unwrap();
        scene.shows(&agent, &pod);
        sleep(Duration::from_secs(110)).await;
        let evicted = scene.fake.evictions();
        assert_eq!((evicted.len(), &evicted[0].uid), (1, &pod.uid));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_others_took_over_is_not_evicted() {
    let end = async |labels: &Value, may_evict: bool| {
        let scene = kept();
        let (agent, pod, lock) = quarantined(&scene).await;
        agent.replaced(&pod, &lock, WINDOW).await;
        scene.fake.set_labels("default", &pod.name, labels).unwrap();
        let task = tokio::spawn(Arc::clone(&agent).bring_back(may_evict));
        for _ in 0..70 {
            if scene.fake.get(Kind::Pod, "default", &pod.name).is_some() {
                scene.shows(&agent, &pod);
            }
            sleep(Duration::from_secs(10)).await;
        }
        task.abort();
        scene.fake.evictions().len()
    };
    assert_eq!(end(&json!({ "app": "debug" }), true).await, 0, "it has a label again");
    assert_eq!(end(&json!({ "paramedic.dev/heal": "restart" }), true).await, 0, "no consent");
    assert_eq!(end(&json!({}), false).await, 0, "a dry run, or a lower ceiling of the operator");
    assert_eq!(end(&json!({}), true).await, 1);
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_read_again_and_lost_answers_are_unknown() {
    let fault = async |times: usize, fault: Fault| {
        let scene = kept();
        let agent = scene.agent("node1");
        let pod = scene.first();
        let lock = locked(&agent, &pod).await;
        scene.fake.fail_next(times, |asked| asked.verb == "patch", fault);
        let done = agent.quarantine(&pod, &lock, permit(), None).await;
        (done, scene.fake.relabelled().len())
    };
    let conflict = || Fault::Status { code: 409, retry_after: None };
    let (done, taken) = fault(2, conflict()).await;
    assert!(done.is_ok() && taken == 1, "{done:?}");
    let (done, taken) = fault(9, conflict()).await;
    assert!(matches!(done, Err(Remedied::NotPerformed(_))) && taken == 0, "{done:?}");
    let (done, taken) = fault(1, Fault::Lost).await;
    assert!(matches!(done, Err(Remedied::Failed(_))) && taken == 1, "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_if_the_pod_or_its_owners_wish_has_changed() {
    let change = async |labels: Value, annotations: Value| {
        let scene = kept();
        let agent = scene.agent("node1");
        let pod = scene.first();
        let lock = locked(&agent, &pod).await;
        let patch = json!({ "metadata": { "labels": labels, "annotations": annotations } });
        scene.fake.patch(Kind::Pod, "default", &pod.name, &patch).unwrap();
        let done = agent.quarantine(&pod, &lock, permit(), None).await;
        assert!(scene.fake.relabelled().is_empty());
        match done {
            Err(Remedied::NotPerformed(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let why = change(json!({ "paramedic.dev/heal": "restart" }), json!({})).await;
    assert!(why.contains("no longer permits evict"), "{why}");
    let why = change(json!({}), json!({ "paramedic.dev/give-up": "evict" })).await;
    assert!(why.contains("give-up=evict"), "the fence: {why}");
    let scene = kept();
    let agent = scene.agent("node1");
    let pod = scene.first();
    let lock = locked(&agent, &pod).await;
    sleep(Duration::from_secs(4)).await;
    let late = agent.quarantine(&pod, &lock, permit(), None).await;
    assert!(matches!(late, Err(Remedied::NotPerformed(why)) if why.contains("too old")));
}

#[tokio::test(start_paused = true)]
async fn an_eviction_of_another_owner_is_no_quarantine() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let pod = scene.first();
    let lock = locked(&agent, &pod).await;
    assert!(!lock.is_quarantine());
    let done = agent.quarantine(&pod, &lock, permit(), None).await;
    assert!(matches!(done, Err(Remedied::NotPerformed(_))), "{done:?}");
    assert!(!scene.asked().iter().any(|asked| asked.contains("services")));
}
