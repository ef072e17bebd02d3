//! Pods as an API server reports them: a recorded one, and variations of it.
use paramedic_core::target::{
    Quarantine, Remedy, Soft,
    consent::{
        DRAIN, DUMP, GIVE_UP, HEAL_PATH, HEALTH_PATH, MIN_CONFIDENCE, NOT_BETWEEN, PORT, SOFT,
    },
};
use serde_json::{Value, from_value, json};

use super::*;

const ID: &str = "fc88597baaf07228e316624c14139b2ea14fca9e334c667c767709d9bcbdc81a";

/// A pod as in the fixtures: one container `web`, port 8080 called `http`.
fn recorded() -> Value {
    json!({
        "metadata": {
            "name": "web", "namespace": "default", "uid": "b273b0a9",
            "labels": { "app": "web", "paramedic.dev/heal": "restart" },
            "annotations": {},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "r",
                "controller": true,
            }],
        },
        "spec": {
            "containers": [
                { "name": "web", "ports": [{ "name": "http", "containerPort": 8080 }] },
            ],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 7, "nodeName": "node1",
        },
        "status": {
            "phase": "Running", "podIP": "10.88.0.2",
            "containerStatuses": [running("web", ID)],
        },
    })
}

fn running(name: &str, id: &str) -> Value {
    json!({
        "name": name, "state": { "running": {} }, "ready": true, "restartCount": 0, "image": "i",
        "imageID": "", "containerID": format!("containerd://{id}"),
    })
}

/// The recorded pod with changes at these JSON pointers.
fn with(changes: &[(&str, Value)]) -> Result<WatchedPod, NotWatchable> {
    let mut pod = recorded();
    for (place, value) in changes {
        let (parent, key) = place.rsplit_once('/').unwrap();
        let parent = pod.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
            parent => parent[key.replace("~1", "/")] = value.clone(),
        }
    }
    watched_pod(&from_value(pod).unwrap())
}

fn annotated(key: &str, value: &str) -> WatchedPod {
    let place = format!("/metadata/annotations/{}", key.replace('/', "~1"));
    with(&[(&place, json!(value))]).unwrap()
}

#[test]
fn a_recorded_pod_is_a_target() {
    let web = with(&[]).unwrap();
    assert_eq!(web.pod.full_name(), "default/web");
    assert_eq!(web.pod.target_uid(), "b273b0a9/web");
    assert_eq!(web.pod.container_id, ID);
    assert_eq!(web.pod.grace, Duration::from_secs(7));
    assert_eq!(web.pod.owner.as_ref().unwrap().kind, "ReplicaSet");
    assert_eq!((web.settings.ceiling, web.ready), (Remedy::Restart, true));
    assert_eq!(web.address, Some(([10, 88, 0, 2].into(), 8080)));
    assert_eq!((web.no_restart, web.no_evict), (None, None));
    assert_eq!((web.settings.health.clone(), web.settings.soft.clone()), (None, Soft::default()));
    assert_eq!(web.invalid_settings, []);
}

/// A StatefulSet keeps its uid when its template changes.
#[test]
fn another_image_or_revision_is_another_version() {
    let image = "/status/containerStatuses/0/imageID";
    let version = |id: &str| with(&[(image, json!(id))]).unwrap().version;
    assert_eq!(version("docker.io/x/web@sha256:0a1b2c3d4e5f6071").as_deref(), Some("0a1b2c3d4e5f"));
    assert_eq!(version(""), None);
    let labels = json!({ "paramedic.dev/heal": "restart", "controller-revision-hash": "web-7" });
    let revised = with(&[("/metadata/labels", labels)]).unwrap();
    assert_eq!(revised.version.as_deref(), Some("web-7"));
}

#[test]
fn unlabelled_ended_and_waiting_pods_are_not_targets() {
    let terminated = json!({ "terminated": { "exitCode": 0 } });
    let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    for (place, value, why) in [
        ("/metadata/labels", json!({ "app": "web" }), NotWatchable::NoConsent),
        ("/metadata/deletionTimestamp", json!("2026-11-22T21:03:15Z"), NotWatchable::Terminating),
        ("/status/phase", json!("Succeeded"), NotWatchable::Completed),
        ("/status/phase", json!("Failed"), NotWatchable::Completed),
        ("/status", json!(null), NotWatchable::NotRunning),
        ("/status/containerStatuses", json!([]), NotWatchable::NotRunning),
        ("/status/containerStatuses/0/state", terminated, NotWatchable::NotRunning),
        ("/status/containerStatuses/0/state", waiting, NotWatchable::NotRunning),
        (
            "/status/containerStatuses/0/containerID",
            json!("containerd://x"),
            NotWatchable::NotRunning,
        ),
        ("/metadata/uid", json!(null), NotWatchable::Incomplete),
        ("/spec/containers", json!([]), NotWatchable::Incomplete),
    ] {
        assert_eq!(with(&[(place, value)]), Err(why), "{place}");
    }
}

#[test]
fn every_runtimes_scheme_is_understood() {
    for scheme in ["containerd://", "cri-o://", "docker://", ""] {
        let place = "/status/containerStatuses/0/containerID";
        let web = with(&[(place, json!(format!("{scheme}{ID}")))]).unwrap();
        assert_eq!(web.pod.container_id, ID);
    }
}

#[test]
fn a_pod_on_the_nodes_network_or_without_an_address_gets_no_http() {
    assert_eq!(with(&[("/spec/hostNetwork", json!(true))]).unwrap().address, None);
    assert_eq!(with(&[("/status/podIP", json!(null))]).unwrap().address, None);
    assert_eq!(with(&[("/status/podIP", json!("no address"))]).unwrap().address, None);
    let v6 = with(&[("/status/podIP", json!("fd00::7"))]).unwrap();
    assert_eq!(v6.address.unwrap().0.to_string(), "fd00::7");
    let portless = with(&[("/spec/containers/0/ports", json!([]))]).unwrap();
    assert_eq!(portless.address, None, "its port is not known");
}

#[test]
fn the_path_of_a_dump_is_an_annotation() {
    assert_eq!(annotated(DUMP, "/threaddump").settings.dump.as_deref(), Some("/threaddump"));
    assert_eq!(with(&[]).unwrap().settings.dump, None);
}

#[test]
fn an_invalid_setting_lowers_the_ceiling_to_observe() {
    for (key, bad) in [
        (PORT, "0"),
        (PORT, "65536"),
        (PORT, "nowhere"),
        (PORT, "-1"),
        (HEALTH_PATH, "health"),
        (HEALTH_PATH, "/a b"),
        (HEAL_PATH, "/a\r\nX: y"),
        (HEAL_PATH, ""),
        (SOFT, "signal KILL"),
        (SOFT, "exec /bin/sh"),
        (NOT_BETWEEN, "at night"),
        (NOT_BETWEEN, "01:00-02:00 Mars/Base"),
        (DUMP, "threaddump"),
        (DUMP, "http://other/threaddump"),
        (MIN_CONFIDENCE, "0.49"),
        (MIN_CONFIDENCE, "1.01"),
        (MIN_CONFIDENCE, "NaN"),
        (MIN_CONFIDENCE, "high"),
    ] {
        let web = annotated(key, bad);
        assert_eq!(web.settings.ceiling, Remedy::Observe, "{key}={bad}");
        assert_eq!(web.invalid_settings.len(), 1, "{key}={bad}");
        let text = web.invalid_settings[0].to_string();
        assert!(text.contains(key) && text.contains("only observed"), "{text}");
        assert_eq!((web.settings.health.clone(), web.settings.min_confidence), (None, 0.8));
    }
    let mistyped = with(&[("/metadata/labels/paramedic.dev~1heal", json!("restrat"))]).unwrap();
    assert_eq!((mistyped.settings.ceiling, mistyped.invalid_settings.len()), (Remedy::Observe, 1));
    let long = "x".repeat(5000);
    let text =
        with(&[("/metadata/labels/paramedic.dev~1heal", json!(long))]).unwrap().invalid_settings;
    assert!(text[0].value.len() <= 80);
}

#[test]
fn valid_settings_are_applied() {
    assert_eq!(annotated(PORT, "9000").address.unwrap().1, 9000);
    assert_eq!(annotated(PORT, "http").address.unwrap().1, 8080);
    let asked = annotated(HEALTH_PATH, "/status?deep=1").settings.health.unwrap();
    assert_eq!((asked.port, asked.asks.to_string()), (8080, "/status?deep=1".to_owned()));
    let called = annotated(HEALTH_PATH, "grpc:shop.Shop").settings.health.unwrap();
    assert_eq!((called.port, called.asks.to_string()), (8080, "grpc:shop.Shop".to_owned()));
    assert_eq!(annotated(HEAL_PATH, "/reset").settings.soft, Soft::post("/reset"));
    assert_eq!(annotated(SOFT, "signal HUP").settings.soft.to_string(), "signal HUP");
    assert_eq!(annotated(MIN_CONFIDENCE, "0.95").settings.min_confidence, 0.95);
    for remedy in Remedy::ALL {
        let place = "/metadata/labels/paramedic.dev~1heal";
        assert_eq!(with(&[(place, json!(remedy.name()))]).unwrap().settings.ceiling, remedy);
    }
}

#[test]
fn of_several_containers_the_one_behind_the_port_is_the_target() {
    let b = "b".repeat(64);
    let containers = json!([
        { "name": "proxy", "ports": [{ "containerPort": 15001 }] },
        { "name": "web", "ports": [{ "name": "http", "containerPort": 8080 }] },
    ]);
    let statuses = json!([running("proxy", &b), running("web", ID)]);
    let both =
        [("/spec/containers", containers.clone()), ("/status/containerStatuses", statuses.clone())];
    assert_eq!(with(&both).unwrap().pod.container, "web");

    let key = "/metadata/annotations/paramedic.dev~1port";
    let [spec, status] = both.clone();
    let of_port = with(&[spec, status, (key, json!("15001"))]).unwrap();
    assert_eq!((of_port.pod.container.as_str(), of_port.address.unwrap().1), ("proxy", 15001));

    let unnamed = json!([
        { "name": "proxy" },
        { "name": "web", "ports": [{ "containerPort": 8080 }] },
    ]);
    let [_, status] = both.clone();
    let first_with_a_port = with(&[("/spec/containers", unnamed), status]).unwrap();
    assert_eq!(first_with_a_port.pod.container, "web");

    let portless = json!([{ "name": "proxy" }, { "name": "web" }]);
    let default = "/metadata/annotations/kubectl.kubernetes.io~1default-container";
    let [_, status] = both.clone();
    let chosen =
        with(&[("/spec/containers", portless.clone()), status, (default, json!("web"))]).unwrap();
    assert_eq!((chosen.pod.container.as_str(), chosen.address), ("web", None));
    let [_, status] = both;
    assert_eq!(with(&[("/spec/containers", portless), status]).unwrap().pod.container, "proxy");
}

#[test]
fn sidecars_and_init_containers_are_never_the_target() {
    let init = json!([{
        "name": "sidecar", "restartPolicy": "Always",
        "ports": [{ "name": "http", "containerPort": 9999 }],
    }]);
    let web = with(&[("/spec/initContainers", init)]).unwrap();
    assert_eq!((web.pod.container.as_str(), web.address.unwrap().1), ("web", 8080));
    let starting = with(&[
        (
            "/status/containerStatuses/0/state",
            json!({ "waiting": { "reason": "PodInitializing" } }),
        ),
        ("/status/initContainerStatuses", json!([running("sidecar", &"c".repeat(64))])),
    ]);
    assert_eq!(starting, Err(NotWatchable::NotRunning));
}

#[test]
fn obstacles_to_a_hard_remedy() {
    let never = with(&[("/spec/restartPolicy", json!("OnFailure"))]).unwrap();
    assert_eq!(never.no_restart, Some(Obstacle::RestartPolicy));
    let own = with(&[("/spec/containers/0/restartPolicy", json!("Never"))]).unwrap();
    assert_eq!(own.no_restart, Some(Obstacle::RestartPolicy), "the container's own comes first");
    let hook = json!({ "preStop": { "exec": { "command": ["sync"] } } });
    let hooked = with(&[("/spec/containers/0/lifecycle", hook)]).unwrap();
    assert_eq!(hooked.no_restart, Some(Obstacle::PreStopHook));
    let bare = with(&[("/metadata/ownerReferences", json!([]))]).unwrap();
    assert_eq!(bare.no_evict, Some(Obstacle::NoController));
    let place = "/metadata/annotations/kubernetes.io~1config.mirror";
    assert_eq!(with(&[(place, json!("x"))]).unwrap().no_evict, Some(Obstacle::StaticPod));
}

#[test]
fn a_drain_and_a_quarantine_are_settings_of_the_owner() {
    let plain = with(&[]).unwrap().settings;
    assert_eq!((plain.drain, plain.quarantine), (None, None));
    let drained = annotated(DRAIN, "10s").settings;
    assert_eq!(drained.drain, Some(Duration::from_secs(10)));
    assert_eq!(drained.means(Remedy::Restart), "drain");
    let wrong = annotated(DRAIN, "10m");
    assert_eq!((wrong.settings.ceiling, wrong.invalid_settings.len()), (Remedy::Observe, 1));

    let kept = annotated(GIVE_UP, "quarantine");
    assert_eq!(kept.settings.quarantine, Some(Quarantine { lasts: Quarantine::LASTS }));
    assert_eq!(kept.settings.called(Remedy::Evict), "quarantine");
    assert_eq!(kept.no_evict, None);
    let label = "/metadata/labels/paramedic.dev~1give-up";
    let by_label = with(&[(label, json!("quarantine"))]).unwrap().settings;
    assert!(by_label.quarantine.is_some());
    let wrong = with(&[(label, json!("delete"))]).unwrap();
    assert_eq!((wrong.settings.ceiling, wrong.invalid_settings.len()), (Remedy::Observe, 1));
}

#[test]
fn only_a_pod_that_a_replica_set_replaces_is_quarantined() {
    let of = |version: &str, kind: &str| {
        let owner = json!([{
            "apiVersion": version, "kind": kind, "name": "x", "uid": "r", "controller": true,
        }]);
        let asks = "/metadata/annotations/paramedic.dev~1give-up";
        let owned = ("/metadata/ownerReferences", owner);
        let asked = with(&[owned.clone(), (asks, json!("quarantine"))]).unwrap();
        assert_eq!(with(&[owned]).unwrap().no_evict, None, "an eviction is possible");
        asked.no_evict
    };
    assert_eq!(of("apps/v1", "ReplicaSet"), None);
    assert_eq!(of("apps/v1", "StatefulSet"), Some(Obstacle::NameTaken));
    for (version, kind) in [
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("v1", "ReplicationController"),
        ("example.com/v1", "ReplicaSet"),
    ] {
        assert_eq!(of(version, kind), Some(Obstacle::NotReleased), "{kind}");
    }
}

#[test]
fn a_pod_in_quarantine_is_only_observed() {
    for note in ["{}", "", r#"{"labels":{"app":"web"}}"#] {
        let kept = annotated(QUARANTINED, note);
        assert_eq!(kept.settings.ceiling, Remedy::Observe, "{note:?}");
        assert_eq!(kept.no_evict, Some(Obstacle::InQuarantine));
        assert_eq!(kept.invalid_settings, []);
    }
}
