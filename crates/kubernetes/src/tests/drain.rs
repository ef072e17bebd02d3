//! A drain before a restart: out of the Services and back, whoever dies or interferes in between.
use std::sync::Arc;

use fake_apiserver::{Fault, Identity as Account};
use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::{
    Drain, Drained,
    labels::{DRAINED_UNTIL, SERVING},
};

const SPAN: Duration = Duration::from_secs(10);
/// From the drain to its deadline: the drain, the grace period, and a minute.
const DEADLINE: Duration = Duration::from_secs(100);

/// A Deployment behind a Service that selects pods which are to serve, with the fence.
fn served() -> Scene {
    let template =
        PodTemplate::new().label(SERVING, "true").annotation("paramedic.dev/drain", "10s");
    let scene = Scene::of(3, &template);
    scene.service(&json!({ "app": "web", SERVING: "true" }));
    scene.fenced();
    scene
}

impl Scene {
    pub(super) fn service(&self, selector: &Value) {
        let metadata = json!({ "name": "web", "namespace": "default" });
        let service = json!({ "metadata": metadata, "spec": { "selector": selector } });
        self.fake.put(Kind::Service, service);
    }

    pub(super) fn fenced(&self) {
        let account = Account::service_account(OWN, "paramedic-agent");
        self.fake.fence(Some(&account.username));
        for node in ["node1", "node2"] {
            self.fake.identity(node, account.clone().on_node(node));
        }
    }

    pub(super) fn object(&self, pod: &PodRef) -> Value {
        self.fake.get(Kind::Pod, "default", &pod.name).unwrap()
    }

    fn serving(&self, pod: &PodRef) -> Value {
        self.object(pod)["metadata"]["labels"][SERVING].clone()
    }

    fn deadline(&self, pod: &PodRef) -> Value {
        self.object(pod)["metadata"]["annotations"][DRAINED_UNTIL].clone()
    }

    /// The watch of an agent reports the pod as it is now.
    pub(super) fn shows(&self, agent: &Cluster, pod: &PodRef) {
        agent.sees(&Event::Apply(from_value(self.object(pod)).unwrap()));
    }

    /// Whether the pod is in its Services within this time, and not before.
    async fn is_back_after(&self, agent: &Cluster, pod: &PodRef, seconds: std::ops::Range<u64>) {
        for second in 0..seconds.end {
            if self.serving(pod) == "true" {
                assert!(second >= seconds.start, "back after {second} s already");
                assert_eq!(self.deadline(pod), Value::Null);
                return;
            }
            sleep(Duration::from_secs(1)).await;
            self.shows(agent, pod);
        }
        panic!("not back after {} s", seconds.end);
    }
}

/// An agent process, with the task that puts drained pods back.
fn process(scene: &Scene) -> (Arc<Cluster>, tokio::task::JoinHandle<()>) {
    let agent = scene.agent("node1");
    let task = tokio::spawn(Arc::clone(&agent).bring_back(true));
    (agent, task)
}

async fn drained(scene: &Scene, agent: &Arc<Cluster>) -> (Arc<PodRef>, Lock, Drained) {
    let pod = scene.first();
    let lock = clear(agent, &pod).await.unwrap();
    assert_eq!(lock.drain(), Drain::For(SPAN));
    let drained = agent.drain(&pod, &lock, SPAN).await.unwrap();
    assert_eq!(scene.serving(&pod), "false");
    (pod, lock, drained)
}

#[tokio::test(start_paused = true)]
async fn a_pod_leaves_its_services_and_is_back_when_its_successor_is_ready() {
    let scene = served();
    let (agent, _task) = process(&scene);
    let (pod, lock, drained) = drained(&scene, &agent).await;
    let until: k8s_openapi::jiff::Timestamp =
        scene.deadline(&pod).as_str().unwrap().parse().unwrap();
    let left = until.as_second() - agent.server_now().unwrap();
    assert_eq!(left, 100, "the drain, the grace period and a minute");

    agent.wait_drained(SPAN).await.unwrap();
    assert!(lock.holds(scene.clock.now()).is_err(), "its answers are old");
    agent.still_clear(&pod, Remedy::Restart, &lock).await.unwrap();
    assert_eq!(lock.holds(scene.clock.now()), Ok(()));
    scene.fake.restart_container("default", &pod.name, "app", 0).unwrap();
    drained.restarted();
    scene.shows(&agent, &pod);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.serving(&pod), "false", "the old container is still called ready");
    scene.is_back_after(&agent, &pod, 1..30).await;
    let now = scene.pod(&pod.name);
    assert_ne!(now.container_id, pod.container_id);
    agent.release(lock, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_restarted_is_back_at_once() {
    let scene = served();
    let (agent, _task) = process(&scene);
    let (pod, _lock, drained) = drained(&scene, &agent).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.serving(&pod), "false", "while a treatment holds it");
    drop(drained);
    scene.is_back_after(&agent, &pod, 0..2).await;
}

#[tokio::test(start_paused = true)]
async fn a_treatment_that_never_ends_is_ended_by_the_deadline() {
    let scene = served();
    let (agent, _task) = process(&scene);
    let (pod, _lock, _drained) = drained(&scene, &agent).await;
    let deadline = DEADLINE.as_secs();
    scene.is_back_after(&agent, &pod, deadline - 2..deadline + 3).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_process_puts_back_what_a_dead_one_has_drained() {
    for ready in [true, false] {
        let scene = served();
        let (agent, task) = process(&scene);
        let (pod, _lock, drained) = drained(&scene, &agent).await;
        task.abort();
        std::mem::forget(drained);
        if !ready {
            scene.fake.set_ready("default", &pod.name, false).unwrap();
        }
        sleep(Duration::from_secs(20)).await;
        assert_eq!(scene.serving(&pod), "false", "nobody is there to put it back");
        let (next, _task) = process(&scene);
        // The list of the pods tells the time too.
        next.not_paused(Remedy::Soft).await.unwrap();
        scene.shows(&next, &pod);
        let expected = if ready { 0..2 } else { 77..83 };
        scene.is_back_after(&next, &pod, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_puts_everything_back() {
    let scene = served();
    let (agent, task) = process(&scene);
    let (pod, _lock, drained) = drained(&scene, &agent).await;
    task.abort();
    agent.all_back().await;
    assert_eq!(scene.serving(&pod), "true");
    drop(drained);
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_the_return_and_does_not_prevent_it() {
    let scene = served();
    let (agent, _task) = process(&scene);
    let (pod, _lock, drained) = drained(&scene, &agent).await;
    scene.fake.down(true);
    drop(drained);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(scene.serving(&pod), "false");
    scene.fake.down(false);
    scene.is_back_after(&agent, &pod, 0..12).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_nobody_out() {
    for (fault, applied) in [
        (Fault::Lost, true),
        (Fault::Hang { applied: true }, true),
        (Fault::Dropped, false),
        (Fault::Status { code: 500, retry_after: None }, false),
    ] {
        let scene = served();
        let (agent, _task) = process(&scene);
        let pod = scene.first();
        let lock = clear(&agent, &pod).await.unwrap();
        scene.fake.fail_next(1, |asked| asked.verb == "patch", fault);
        agent.drain(&pod, &lock, SPAN).await.unwrap_err();
        let was_out = scene.fake.relabelled().len() == 1;
        assert_eq!(was_out, applied, "{fault:?}");
        scene.is_back_after(&agent, &pod, 0..3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_read_again_and_a_changed_pod_is_not_drained() {
    let scene = served();
    let (agent, _task) = process(&scene);
    let pod = scene.first();
    let conflict = Fault::Status { code: 409, retry_after: None };
    scene.fake.fail_next(2, |asked| asked.verb == "patch", conflict);
    let lock = clear(&agent, &pod).await.unwrap();
    drop(agent.drain(&pod, &lock, SPAN).await.unwrap());
    scene.is_back_after(&agent, &pod, 0..2).await;

    for (change, why) in [
        (json!({ SERVING: null }), "serving"),
        (json!({ SERVING: "true", "paramedic.dev/heal": "soft" }), "no longer permits restart"),
    ] {
        scene.fake.set_labels("default", &pod.name, &change).unwrap();
        let error = agent.drain(&pod, &lock, SPAN).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    sleep(Duration::from_secs(4)).await;
    scene.fake.set_labels("default", &pod.name, &json!({ "paramedic.dev/heal": "evict" })).unwrap();
    let error = agent.drain(&pod, &lock, SPAN).await.unwrap_err();
    assert!(error.contains("too old"), "{error}");
    assert_eq!(scene.serving(&pod), "true");
}

#[tokio::test(start_paused = true)]
async fn what_others_do_to_a_drained_pod_stays() {
    for (labels, expected) in [
        (json!({ SERVING: null }), Value::Null),
        (json!({ SERVING: "canary" }), json!("canary")),
        // Consent is withdrawn: the pod is put back nevertheless.
        (json!({ "paramedic.dev/heal": null }), json!("true")),
    ] {
        let scene = served();
        let (agent, _task) = process(&scene);
        let (pod, _lock, drained) = drained(&scene, &agent).await;
        scene.fake.set_labels("default", &pod.name, &labels).unwrap();
        drop(drained);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(scene.serving(&pod), expected, "{labels}");
        assert_eq!(scene.deadline(&pod), Value::Null);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_service_that_selects_by_the_label_there_is_nothing_to_drain() {
    let scene = served();
    scene.service(&json!({ "app": "web" }));
    let agent = scene.agent("node1");
    let pod = scene.first();
    let nothing = async |expected: &str| {
        let lock = clear(&agent, &pod).await.unwrap();
        let Drain::Nothing(why) = lock.drain() else { panic!("{:?}", lock.drain()) };
        assert!(why.contains(expected), "{why}");
        agent.release(lock, None).await;
    };
    nothing("no Service selects it").await;
    for (label, why) in [(json!("false"), "already"), (Value::Null, "does not carry the label")] {
        scene.fake.set_labels("default", &pod.name, &json!({ SERVING: label })).unwrap();
        nothing(why).await;
    }
    let off = json!({ "metadata": { "annotations": { "paramedic.dev/drain": null } } });
    scene.fake.patch(Kind::Pod, "default", &pod.name, &off).unwrap();
    scene.asked();
    let lock = clear(&agent, &pod).await.unwrap();
    assert_eq!(lock.drain(), Drain::No);
    assert!(
        !scene.asked().iter().any(|asked| asked.contains("services")),
        "as without the feature"
    );
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_selects_by_the_label_is_refused() {
    let scene = served();
    let set = scene.fake.list(Kind::ReplicaSet).remove(0);
    let name = set["metadata"]["name"].as_str().unwrap();
    let selector = json!({ "spec": { "selector": { "matchLabels": { SERVING: "true" } } } });
    scene.fake.patch(Kind::ReplicaSet, "default", name, &selector).unwrap();
    let (gate, why) = refused(&scene.agent("node1"), &scene.first()).await;
    assert_eq!(gate, "mode");
    assert!(why.contains("only a Service may select by that label"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_second_look_refuses_what_has_changed() {
    let look = async |change: &dyn Fn(&Scene, &PodRef), expected: &str| {
        let scene = served();
        scene.fake.add_pdb("default", "web", "web", &json!({ "maxUnavailable": 1 }));
        let (agent, _task) = process(&scene);
        let (pod, lock, _drained) = drained(&scene, &agent).await;
        change(&scene, &pod);
        sleep(SPAN).await;
        let refusal = agent.still_clear(&pod, Remedy::Restart, &lock).await.unwrap_err();
        assert_eq!(refusal.gate.name(), expected, "{}", refusal.why);
        assert!(lock.holds(scene.clock.now()).is_err());
    };
    look(&|scene, _| scene.fake.add_namespace(OWN, &[], &[("paramedic.dev/paused", "")]), "paused")
        .await;
    let other = |scene: &Scene, pod: &PodRef| {
        scene.pods.iter().find(|name| **name != pod.name).unwrap().clone()
    };
    look(
        &|scene, pod| {
            let _ = scene.fake.set_ready("default", &other(scene, pod), false);
        },
        "rollout",
    )
    .await;
    look(
        &|scene, pod| {
            let labels = json!({ "paramedic.dev/heal": "soft" });
            scene.fake.set_labels("default", &pod.name, &labels).unwrap();
        },
        "mode",
    )
    .await;
    look(
        &|scene, pod| scene.fake.restart_container("default", &pod.name, "app", 1).unwrap(),
        "identity",
    )
    .await;
    look(&|scene, _| scene.fake.down(true), "api_server").await;
    look(
        &|scene, _| {
            let lease = json!({ "spec": { "holderIdentity": "node2/9" } });
            scene.fake.patch(Kind::Lease, OWN, "deployment.default.web", &lease).unwrap();
        },
        "workload_lock",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_a_drain_within_five_seconds() {
    let scene = served();
    let (agent, _task) = process(&scene);
    let begun = Instant::now();
    let waiting = Arc::clone(&agent);
    let waiting = tokio::spawn(async move { waiting.wait_drained(Duration::from_secs(120)).await });
    sleep(Duration::from_secs(7)).await;
    scene.fake.add_namespace(OWN, &[], &[("paramedic.dev/paused", "true")]);
    let why = waiting.await.unwrap().unwrap_err();
    assert!(why.contains("paused"), "{why}");
    assert!(begun.elapsed() <= Duration::from_secs(12), "{:?}", begun.elapsed());
}
