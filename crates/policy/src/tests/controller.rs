//! What policies come to on running pods.
use super::*;

#[tokio::test(start_paused = true)]
async fn running_pods_get_what_a_policy_says_and_lose_it_with_the_policy() {
    let scene = Scene::new();
    let before = scene.pod(&scene.web[0]);
    let _replica = scene.replica("one");
    scene.spec(
        "web",
        json!({ "selector": { "matchLabels": { "app": "web" } },
        "ceiling": "restart", "patience": "30s", "notBetween": ["01:00-03:00 Europe/Berlin"] }),
    );
    seconds(5).await;
    assert!(scene.all_have(&scene.web, Some("restart")) && scene.all_have(&scene.db, None));
    let pod = scene.pod(&scene.web[0]);
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["paramedic.dev/patience"], "30s");
    assert_eq!(annotations["paramedic.dev/not-between"], "01:00-03:00 Europe/Berlin");
    assert_eq!((&pod["spec"], &pod["status"]), (&before["spec"], &before["status"]), "no rollout");
    let status = scene.status("web");
    assert_eq!((&status["matched"], &status["applied"]), (&json!(3), &json!(3)));
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(scene.condition("web", "Ready"), "True Applied");

    // Pods that come later get it too.
    scene.fake.scale(Kind::Deployment, "default", "web", 4).unwrap();
    seconds(10).await;
    let pods: Vec<String> = scene
        .fake
        .list(Kind::Pod)
        .iter()
        .filter(|pod| pod["metadata"]["labels"]["app"] == "web")
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pods.len(), 4);
    assert!(scene.all_have(&pods, Some("restart")));
    assert_eq!(scene.status("web")["matched"], 4);

    scene.delete("web");
    seconds(5).await;
    let after = scene.pod(&scene.web[0]);
    assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
    let left = after["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let ours = |key: &&String| KEYS.contains(&key.as_str()) || key.contains("from-policy");
    assert_eq!(left.keys().find(ours), None);
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_written() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    scene.policy("web", "web", "soft");
    seconds(10).await;
    let written = scene.written();
    let pods = written.iter().filter(|one| *one == "pods 200").count();
    assert_eq!(pods, 3, "{written:?}");
    assert!(written.len() <= 3 + 4, "{written:?}");
    // Readiness comes and goes; that is no business of a policy.
    for ready in [false, true, false, true] {
        scene.fake.set_ready("default", &scene.web[0], ready).unwrap();
        seconds(20).await;
    }
    assert_eq!(scene.written(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn own_keys_win_and_stay() {
    let scene = Scene::new();
    let (mine, changed, removed) = (&scene.web[0], &scene.web[1], &scene.web[2]);
    scene.fake.set_labels("default", mine, &json!({ "paramedic.dev/heal": "observe" })).unwrap();
    let _replica = scene.replica("one");
    scene.policy("web", "web", "restart");
    seconds(5).await;
    assert_eq!(
        scene.labels(&scene.web),
        [Some("observe".into()), Some("restart".into()), Some("restart".into())]
    );
    assert_eq!(scene.condition("web", "Ready"), "True Applied", "its own key is as good");
    scene.fake.set_labels("default", changed, &json!({ "paramedic.dev/heal": "soft" })).unwrap();
    scene.fake.set_labels("default", removed, &json!({ "paramedic.dev/heal": null })).unwrap();
    scene.policy("web", "web", "evict");
    seconds(5).await;
    assert_eq!(scene.labels(&scene.web), [Some("observe".into()), Some("soft".into()), None]);
    scene.delete("web");
    seconds(5).await;
    assert_eq!(scene.labels(&scene.web), [Some("observe".into()), Some("soft".into()), None]);
    assert!(scene.web.iter().all(|pod| scene.pod(pod).pointer(RECORD).is_none()));
}

#[tokio::test(start_paused = true)]
async fn policies_that_match_the_same_pod_name_each_other_and_set_nothing_there() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    scene.policy("web", "web", "restart");
    seconds(5).await;
    scene.spec("all", json!({ "selector": {}, "ceiling": "soft" }));
    seconds(5).await;
    assert!(scene.all_have(&scene.web, None) && scene.all_have(&scene.db, Some("soft")));
    for (policy, other) in [("web", "all"), ("all", "web")] {
        assert_eq!(scene.condition(policy, "Conflict"), "True Overlap");
        assert_eq!(scene.condition(policy, "Ready"), "False Conflict");
        let message = scene.status(policy)["conditions"][1]["message"].to_string();
        assert!(message.contains(other), "{message}");
    }
    scene.delete("all");
    seconds(5).await;
    assert!(scene.all_have(&scene.web, Some("restart")) && scene.all_have(&scene.db, None));
    assert_eq!(scene.condition("web", "Conflict"), "False Alone");
}

#[tokio::test(start_paused = true)]
async fn what_no_agent_would_take_is_a_condition_and_on_no_pod() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    scene.spec(
        "web",
        json!({ "selector": {}, "ceiling": "evict",
        "notBetween": ["01:00-03:00 Middle/Earth"] }),
    );
    seconds(5).await;
    assert!(scene.all_have(&scene.web, None));
    assert_eq!(scene.condition("web", "Invalid"), "True BadSetting");
    assert_eq!(scene.condition("web", "Ready"), "False Invalid");
    assert!(scene.status("web").to_string().contains("paramedic.dev/not-between"));
    scene.policy("web", "web", "evict");
    let patch = json!({ "spec": { "notBetween": null } });
    scene.fake.patch(Kind::HealingPolicy, "default", "web", &patch).unwrap();
    seconds(5).await;
    assert!(scene.all_have(&scene.web, Some("evict")));
    assert_eq!(scene.condition("web", "Invalid"), "False Valid");
}

/// As a newer definition might permit it.
#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_be_read_hides_no_other() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    scene.spec("strange", json!({ "selector": {}, "ceiling": "reboot" }));
    scene.policy("web", "web", "restart");
    seconds(5).await;
    assert!(scene.all_have(&scene.web, Some("restart")) && scene.all_have(&scene.db, None));
    assert_eq!(scene.condition("strange", "Invalid"), "True BadSetting");
    assert!(scene.status("strange").to_string().contains("reboot"));
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_of_its_namespace_alone() {
    let scene = Scene::new();
    let elsewhere = scene.fake.add_deployment("shop", "web", 1, &PodTemplate::new(), &["node1"]);
    let _replica = scene.replica("one");
    scene.policy("web", "web", "restart");
    seconds(5).await;
    let pod = scene.fake.get(Kind::Pod, "shop", &elsewhere[0]).unwrap();
    assert_eq!(pod.pointer(HEAL), None);
    assert!(scene.all_have(&scene.web, Some("restart")));
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_what_agents_last_did() {
    let scene = Scene::new();
    let _replica = scene.replica("one");
    scene.policy("web", "web", "restart");
    let told = |name: &str, pod: &str, reason: &str, second: u32| {
        let pod = scene.pod(pod);
        scene.fake.put(
            Kind::Event,
            json!({
                "metadata": { "name": name, "namespace": "default" },
                "eventTime": format!("2026-11-30T10:00:{second:02}.000000Z"),
                "action": "Heal", "reason": reason, "note": "restart begins", "type": "Normal",
                "reportingController": "paramedic.dev/agent", "reportingInstance": "node1",
                "regarding": { "kind": "Pod", "namespace": "default",
                    "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"] },
            }),
        );
    };
    told("a", &scene.web[0], "Healing", 1);
    told("b", &scene.web[0], "HealRefused", 2);
    told("c", &scene.db[0], "Healing", 3);
    seconds(5).await;
    told("d", &scene.web[0], "Healed", 16);
    seconds(5).await;
    let status = scene.status("web");
    let incidents = status["lastIncidents"].as_array().unwrap();
    let brief: Vec<_> = incidents.iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(brief, ["Healed", "Healing"]);
    assert_eq!(incidents[0]["pod"], scene.web[0].as_str());
    assert_eq!(incidents[0]["time"], "2026-11-30T10:00:16Z");
}
