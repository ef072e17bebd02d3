//! Resizes in place: what is read, what is patched, and each refusal.
use fake_apiserver::{Fault, Identity as User, Room, granted_by};
use paramedic_core::resize::{Direction, NoResize, Reason, Resource, Step, Wish};
use serde_json::json;

use super::*;
use crate::Resized;

const MIB: u64 = 1 << 20;

fn wish(resource: Resource, direction: Direction) -> Wish {
    Wish { resource, direction, used: 0, limit: None, last: None }
}

fn more(resource: Resource) -> Wish {
    wish(resource, Direction::Up)
}

/// A workload with limits of 500m and 128Mi, and what it requests.
fn template(requests: &Value) -> PodTemplate {
    let resources = json!({ "limits": { "cpu": "500m", "memory": "128Mi" }, "requests": requests });
    PodTemplate::new().annotation("paramedic.dev/resize", "cpu=2x,memory=1.5x").spec(
        &json!({ "containers": [
            { "name": "sidecar", "image": "registry.test/side:1" },
            {
                "name": "app", "image": "registry.test/app:1", "resources": resources,
                "ports": [{ "name": "http", "containerPort": 5000 }],
            },
        ]}),
    )
}

fn burstable() -> Scene {
    Scene::of(2, &template(&json!({ "cpu": "100m", "memory": "64Mi" })))
}

/// The resources of the container `app`.
fn resources(scene: &Scene) -> Value {
    let pod = scene.fake.get(Kind::Pod, "default", &scene.pods[0]).unwrap();
    pod["spec"]["containers"][1]["resources"].clone()
}

async fn resize(scene: &Scene, wish: &Wish) -> Result<(Step, Resized), NoResize> {
    let agent = scene.agent("node1");
    let plan = agent.plan_resize(&scene.first(), wish).await?;
    Ok((plan.step, agent.resize(&scene.first(), &plan).await))
}

async fn reason(scene: &Scene, wish: &Wish) -> Reason {
    match resize(scene, wish).await {
        Err(no) | Ok((_, Resized::Refused(no))) => no.reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_limit_of_one_container_grows_and_its_requests_stay() {
    let scene = burstable();
    let (step, resized) = resize(&scene, &more(Resource::Cpu)).await.unwrap();
    assert_eq!(step, Step { resource: Resource::Cpu, from: 500, to: 750, base: 500 });
    assert_eq!(resized, Resized::Given);
    assert_eq!(
        resources(&scene),
        json!({
            "limits": { "cpu": "750m", "memory": "128Mi" },
            "requests": { "cpu": "100m", "memory": "64Mi" },
        })
    );
    let mut asked = scene.asked();
    // These are sent together.
    asked[..3].sort();
    assert_eq!(
        asked,
        [
            "get namespaces 200",
            "get pods 200",
            "get replicasets 200",
            "patch pods/resize 200",
            "get pods 200",
        ]
    );
    let told = scene.fake.resizes().remove(0);
    assert_eq!((told.container.as_str(), told.qos), ("app", ("Burstable", "Burstable")));
}

#[tokio::test(start_paused = true)]
async fn limits_grow_to_the_ceiling_over_the_template_and_no_further() {
    let scene = burstable();
    let mut limits = Vec::new();
    while let Ok((step, Resized::Given)) = resize(&scene, &more(Resource::Memory)).await {
        limits.push(step.to / MIB);
    }
    assert_eq!(limits, [160, 192]);
    assert_eq!(reason(&scene, &more(Resource::Memory)).await, Reason::AtCeiling);
    assert_eq!(resources(&scene)["limits"]["memory"], "192Mi");
}

#[tokio::test(start_paused = true)]
async fn a_guaranteed_pod_stays_one() {
    let all = json!({ "cpu": "500m", "memory": "128Mi" });
    let one = json!({ "containers": [{
        "name": "app", "image": "registry.test/app:1",
        "resources": { "limits": all, "requests": all },
    }]});
    let template = PodTemplate::new().annotation("paramedic.dev/resize", "cpu=2x").spec(&one);
    let scene = Scene::of(1, &template);
    let (_, resized) = resize(&scene, &more(Resource::Cpu)).await.unwrap();
    assert_eq!(resized, Resized::Given);
    let told = scene.fake.resizes().remove(0);
    assert_eq!(told.qos, ("Guaranteed", "Guaranteed"));
    assert_eq!(told.after["requests"], json!({ "cpu": "750m", "memory": "128Mi" }));
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_is_taken_back_and_anybody_elses_is_not() {
    let scene = burstable();
    let (up, _) = resize(&scene, &more(Resource::Cpu)).await.unwrap();
    let quiet = Wish { used: 100, last: Some(up), ..wish(Resource::Cpu, Direction::Down) };
    let (down, resized) = resize(&scene, &quiet).await.unwrap();
    assert_eq!((down.from, down.to, resized), (750, 630, Resized::Given));
    let foreign = Wish { last: None, ..quiet };
    assert_eq!(reason(&scene, &foreign).await, Reason::Foreign);
    let busy = Wish { used: 600, last: Some(down), ..quiet };
    assert_eq!(reason(&scene, &busy).await, Reason::InUse);
}

#[tokio::test(start_paused = true)]
async fn no_room_is_told_in_the_servers_words_and_changes_nothing() {
    for (room, expected, words) in [
        (Room::NodeFull, Reason::NoRoom, "allocatable"),
        (Room::QuotaFull, Reason::Quota, "exceeded quota: team"),
        (Room::Unsupported, Reason::Unsupported, "could not find"),
    ] {
        let scene = burstable();
        scene.fake.set_room(room);
        let Ok((_, Resized::Refused(no))) = resize(&scene, &more(Resource::Cpu)).await else {
            panic!("{room:?}")
        };
        assert_eq!(no.reason, expected);
        assert!(no.to_string().contains(words), "{no}");
        assert_eq!(resources(&scene)["limits"]["cpu"], "500m");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_kubelet_does_not_grant_is_withdrawn() {
    for (room, expected) in [
        (Room::Deferred, Reason::Deferred),
        (Room::Infeasible, Reason::Infeasible),
        (Room::Ignored, Reason::Deferred),
    ] {
        let scene = burstable();
        scene.fake.set_room(room);
        assert_eq!(reason(&scene, &more(Resource::Cpu)).await, expected, "{room:?}");
        assert_eq!(resources(&scene)["limits"]["cpu"], "500m", "{room:?}");
        sleep(Duration::from_secs(1)).await;
        let pod = scene.fake.get(Kind::Pod, "default", &scene.pods[0]).unwrap();
        assert!(!pod["status"].to_string().contains("PodResizePending"), "{room:?}");
        scene.fake.set_room(Room::Enough);
        assert!(resize(&scene, &more(Resource::Cpu)).await.is_ok(), "{room:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_dead_agent_left_pending_is_withdrawn_by_the_next_one() {
    let scene = burstable();
    scene.fake.set_room(Room::Deferred);
    let agent = scene.agent("node1");
    let pod = scene.first();
    let plan = agent.plan_resize(&pod, &more(Resource::Cpu)).await.unwrap();
    let step = plan.step;
    let dying = tokio::spawn(async move { agent.resize(&pod, &plan).await });
    sleep(Duration::from_millis(500)).await;
    dying.abort();
    assert_eq!(resources(&scene)["limits"]["cpu"], "750m");
    let others = wish(Resource::Cpu, Direction::Up);
    assert_eq!(reason(&scene, &others).await, Reason::Deferred);
    assert_eq!(resources(&scene)["limits"]["cpu"], "750m", "it may be somebody else's");
    let ours = Wish { last: Some(step), ..others };
    assert_eq!(reason(&scene, &ours).await, Reason::Deferred);
    assert_eq!(resources(&scene)["limits"]["cpu"], "500m");
}

#[tokio::test(start_paused = true)]
async fn whose_limits_are_somebody_elses_business_keeps_them() {
    let pods = |metadata: Value| (Kind::Pod, json!({ "metadata": metadata }));
    let annotated = |key: &str, value: Value| pods(json!({ "annotations": { key: value } }));
    let paused = json!({ "metadata": { "annotations": { "paramedic.dev/paused": "true" } } });
    let changes = [
        (annotated("vpaUpdates", json!("Pod resources updated by web")), Reason::Vpa),
        (annotated("paramedic.dev/resize", json!(null)), Reason::Mode),
        (annotated("paramedic.dev/resize", json!("200%")), Reason::Mode),
        (pods(json!({ "labels": { "paramedic.dev/heal": "observe" } })), Reason::Mode),
        (pods(json!({ "labels": { "paramedic.dev/heal": null } })), Reason::Identity),
        ((Kind::Namespace, paused), Reason::Paused),
    ];
    for (number, ((kind, patch), expected)) in changes.into_iter().enumerate() {
        let scene = burstable();
        let (agent, pod) = (scene.agent("node1"), scene.first());
        let (namespace, name) =
            if kind == Kind::Pod { ("default", scene.pods[0].as_str()) } else { ("", OWN) };
        scene.fake.patch(kind, namespace, name, &patch).unwrap();
        let no = agent.plan_resize(&pod, &more(Resource::Cpu)).await.unwrap_err();
        assert_eq!(no.reason, expected, "{number}");
        assert!(scene.fake.resizes().is_empty(), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_restarts_the_container_refuses_for_its_resource() {
    let mut pods = template(&json!({ "cpu": "100m" }));
    let policy = json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
    pods = pods.spec(&json!({ "containers": [{
        "name": "app", "image": "registry.test/app:1", "resizePolicy": policy,
        "resources": { "limits": { "cpu": "500m", "memory": "128Mi" } },
    }]}));
    let scene = Scene::of(1, &pods);
    assert_eq!(reason(&scene, &more(Resource::Memory)).await, Reason::RestartsContainer);
    assert!(resize(&scene, &more(Resource::Cpu)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_in_the_template_nothing_is_a_measure() {
    let scene = Scene::of(1, &PodTemplate::new().annotation("paramedic.dev/resize", "cpu=2x"));
    assert_eq!(reason(&scene, &more(Resource::Cpu)).await, Reason::NoLimit);
    let limit = json!({"spec": {"containers": [{
        "name": "app", "image": "registry.test/app:1", "resources": {"limits": {"cpu": "500m"}},
    }]}});
    scene.fake.patch(Kind::Pod, "default", &scene.pods[0], &limit).unwrap();
    assert_eq!(
        reason(&scene, &more(Resource::Cpu)).await,
        Reason::NoTemplate,
        "set by a LimitRange"
    );
    let alone = json!({"metadata": {"ownerReferences": null}});
    scene.fake.patch(Kind::Pod, "default", &scene.pods[0], &alone).unwrap();
    assert_eq!(reason(&scene, &more(Resource::Cpu)).await, Reason::NoTemplate);
}

#[tokio::test(start_paused = true)]
async fn whoever_changes_the_pod_between_the_look_and_the_act_is_not_overwritten() {
    let scene = burstable();
    let agent = scene.agent("node1");
    let plan = agent.plan_resize(&scene.first(), &more(Resource::Cpu)).await.unwrap();
    scene.fake.set_labels("default", &scene.pods[0], &json!({ "team": "b" })).unwrap();
    let resized = agent.resize(&scene.first(), &plan).await;
    let Resized::Refused(no) = resized else { panic!("{resized:?}") };
    assert_eq!(no.reason, Reason::Conflict);
    assert!(scene.fake.resizes().is_empty());
    assert!(resize(&scene, &more(Resource::Cpu)).await.is_ok(), "the next look");
}

#[tokio::test(start_paused = true)]
async fn an_old_plan_is_not_carried_out() {
    let scene = burstable();
    let agent = scene.agent("node1");
    let plan = agent.plan_resize(&scene.first(), &more(Resource::Cpu)).await.unwrap();
    sleep(Duration::from_secs(4)).await;
    scene.asked();
    let resized = agent.resize(&scene.first(), &plan).await;
    let Resized::Refused(no) = resized else { panic!("{resized:?}") };
    assert_eq!(no.reason, Reason::ApiServer);
    assert_eq!(scene.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_refuses_and_one_that_goes_away_leaves_it_open() {
    let scene = burstable();
    let pod = scene.first();
    scene.fake.down(true);
    let no = scene.agent("node1").plan_resize(&pod, &more(Resource::Cpu)).await.unwrap_err();
    assert_eq!(no.reason, Reason::ApiServer);
    scene.fake.down(false);
    for (fault, done) in [(Fault::Lost, 1), (Fault::Dropped, 0), (Fault::Garbage, 1)] {
        let scene = burstable();
        scene.fake.fail_next(1, Logged::is_resize, fault);
        let (_, resized) = resize(&scene, &more(Resource::Cpu)).await.unwrap();
        assert!(matches!(resized, Resized::Unknown(_)), "{fault:?}: {resized:?}");
        assert_eq!(scene.fake.resizes().len(), done, "{fault:?}: never a second time");
    }
    let scene = burstable();
    scene.fake.fail_next(1, Logged::is_resize, Fault::Status { code: 429, retry_after: Some(1) });
    assert_eq!(reason(&scene, &more(Resource::Cpu)).await, Reason::ApiServer);
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_the_kubelet_may_be_missed() {
    let scene = burstable();
    let agent = scene.agent("node1");
    let plan = agent.plan_resize(&scene.first(), &more(Resource::Cpu)).await.unwrap();
    let pod = scene.first();
    let acting = tokio::spawn(async move { agent.resize(&pod, &plan).await });
    sleep(Duration::from_millis(100)).await;
    scene.fake.down(true);
    assert!(matches!(acting.await.unwrap(), Resized::Unknown(_)));
    scene.fake.down(false);
    assert_eq!(scene.fake.resizes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rbac_and_the_fence_permit_this_and_no_more() {
    let scene = burstable();
    let user = "system:serviceaccount:paramedic-system:paramedic-agent";
    scene.fake.fence(Some(user));
    let account = || User::service_account(OWN, "paramedic-agent");
    let granted = granted_by("10-rbac.yaml", "paramedic-agent");
    scene.fake.identity("node1", account().on_node("node1").may(granted.clone()));
    scene.fake.identity("node2", account().on_node("node2").may(granted));
    assert!(resize(&scene, &more(Resource::Cpu)).await.is_ok());
    let elsewhere = scene.agent("node2");
    let plan = elsewhere.plan_resize(&scene.first(), &more(Resource::Cpu)).await.unwrap();
    let resized = elsewhere.resize(&scene.first(), &plan).await;
    let Resized::Refused(no) = resized else { panic!("{resized:?}") };
    assert_eq!(no.reason, Reason::Denied);
    assert!(no.to_string().contains("paramedic-agent-resizes"), "{no}");
    scene.fake.identity("node1", account().on_node("node1").may([]));
    assert_eq!(
        reason(&scene, &more(Resource::Cpu)).await,
        Reason::ApiServer,
        "it may not even look"
    );
}
