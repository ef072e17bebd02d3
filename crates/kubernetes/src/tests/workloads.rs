//! The workload of a pod, for owners of every kind: one Lease for each, named after it.
use serde_json::json;

use super::*;

/// Pods of owners of every kind, by the name of the Lease that their remedies need.
fn of_every_kind(scene: &Scene) -> Vec<(Arc<PodRef>, &'static str)> {
    let fake = &scene.fake;
    let template = PodTemplate::new().label("paramedic.dev/heal", "evict");
    let nodes = ["node1"];
    let names = [
        fake.add_replicaset("default", "set", 1, &template, &nodes).remove(0),
        fake.add_statefulset("default", "db", 1, &template, &nodes).remove(0),
        fake.add_daemonset("default", "log", &template, &nodes).remove(0),
        fake.add_job("default", "batch", 1, &template, &nodes).remove(0),
    ];
    let owned_by = |name: &str, owner: Value| {
        let labels = json!({ "paramedic.dev/heal": "evict" });
        fake.add_pod(json!({
            "metadata": { "name": name, "labels": labels, "ownerReferences": owner },
            "spec": { "nodeName": "node1" },
        }));
        name.to_owned()
    };
    let operator = json!([{
        "apiVersion": "acme.dev/v1", "kind": "Shop", "name": "corner", "uid": "u",
        "controller": true,
    }]);
    let leases = ["replicaset.default.set", "statefulset.default.db", "daemonset.default.log"];
    let leases = leases.into_iter().chain(["job.default.batch"]);
    let others = [
        (owned_by("of-an-operator", operator), "shop.default.corner"),
        (owned_by("no-owner", json!([])), "pod.default.no-owner"),
    ];
    let pods = names.into_iter().zip(leases).chain(others);
    pods.map(|(name, lease)| (scene.pod(&name), lease)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_owner_has_its_own_lock() {
    let scene = Scene::new(1);
    let agent = scene.agent("node1");
    for (pod, lease) in of_every_kind(&scene) {
        let lock = clear(&agent, &pod).await.unwrap();
        let found = scene.fake.get(Kind::Lease, OWN, lease);
        let found = found.unwrap_or_else(|| panic!("no Lease {lease}"));
        assert_eq!(found["spec"]["holderIdentity"], "node1/1", "{lease}");
        agent.release(lock, None).await;
    }
    assert!(scene.fake.requests().iter().all(|asked| asked.status != Some(403)));
}

#[tokio::test(start_paused = true)]
async fn a_set_that_an_operator_owns_is_locked_by_the_operators_name() {
    let scene = Scene::new(1);
    let set = scene.fake.list(Kind::ReplicaSet).remove(0);
    let name = set["metadata"]["name"].as_str().unwrap();
    let owner = json!([{
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "canary", "uid": "u",
        "controller": true,
    }]);
    let patch = json!({ "metadata": { "ownerReferences": owner } });
    scene.fake.patch(Kind::ReplicaSet, "default", name, &patch).unwrap();
    let agent = scene.agent("node1");
    let lock = clear(&agent, &scene.first()).await.unwrap();
    assert!(scene.fake.get(Kind::Lease, OWN, "rollout.default.canary").is_some());
    drop(lock);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_gone_leaves_the_workload_unknown() {
    let scene = Scene::new(1);
    let pod = scene.first();
    let orphan = PodRef {
        owner: pod.owner.clone().map(|owner| {
            let name = "no-such-set".to_owned();
            paramedic_core::target::Owner { name, ..owner }
        }),
        ..(*pod).clone()
    };
    let (gate, why) = refused(&scene.agent("node1"), &Arc::new(orphan)).await;
    assert_eq!((gate, why.contains("404")), ("api_server", true), "{why}");
}
