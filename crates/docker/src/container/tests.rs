//! Containers as an engine reports them: one of Docker 26, and variations of it.
use std::net::{Ipv4Addr, Ipv6Addr};

use paramedic_core::target::{
    Remedy, Soft,
    consent::{DUMP, HEAL_PATH, HEALTH_PATH, MIN_CONFIDENCE, PORT, SOFT},
};
use serde_json::{Value, from_value, json};

use super::*;

const ID: &str = "4f1c8597baaf07228e316624c14139b2ea14fca9e334c667c767709d9bcbdc81";

/// The response to `GET /containers/patient-app/json`, without unused fields.
fn recorded() -> Value {
    json!({
        "Id": ID,
        "Name": "/patient-app",
        "Image": "sha256:a0e1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f",
        "RestartCount": 0,
        "State": {
            "Status": "running", "Running": true, "Paused": false, "Restarting": false,
            "OOMKilled": false, "Dead": false, "Pid": 4242, "ExitCode": 0, "Error": "",
            "StartedAt": "2026-11-26T21:13:19.123456789Z", "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "HostConfig": {
            "NetworkMode": "bridge",
            "RestartPolicy": { "Name": "unless-stopped", "MaximumRetryCount": 0 },
        },
        "Config": {
            "User": "10001:10001",
            "ExposedPorts": { "5000/tcp": {} },
            "Labels": { "paramedic.dev/heal": "restart" },
            "StopTimeout": 7,
        },
        "NetworkSettings": {
            "Ports": { "5000/tcp": [
                { "HostIp": "0.0.0.0", "HostPort": "5001" }, { "HostIp": "::", "HostPort": "5001" },
            ] },
            "Networks": {
                "zone": { "IPAddress": "172.19.0.2", "GlobalIPv6Address": "" },
                "bridge": { "IPAddress": "172.17.0.2", "GlobalIPv6Address": "" },
            },
        },
    })
}

/// The recorded container with changes at these JSON pointers.
fn with(changes: &[(&str, Value)]) -> ContainerInspectResponse {
    let mut container = recorded();
    for (place, value) in changes {
        *container.pointer_mut(place).unwrap() = value.clone();
    }
    from_value(container).unwrap()
}

fn labelled(more: &[(&str, &str)]) -> Result<WatchedContainer, NotWatchable> {
    let mut labels = json!({ "paramedic.dev/heal": "restart" });
    for (key, value) in more {
        labels[*key] = json!(value);
    }
    by_labels(&with(&[("/Config/Labels", labels)]))
}

#[test]
fn a_labelled_container_is_a_target() {
    let watched_container = labelled(&[]).unwrap();
    let grace = Duration::from_secs(7);
    let container = ContainerRef {
        id: ID.to_owned(),
        name: "patient-app".to_owned(),
        pid: 4242,
        started: "2026-11-26T21:13:19.123456789Z".to_owned(),
        grace,
        stop_signal: libc::SIGTERM,
        image: Some("a0e1b2c3d4e5".to_owned()),
        ip: Some([172, 17, 0, 2].into()),
    };
    assert_eq!(watched_container.container, container);
    assert_eq!(watched_container.settings.ceiling, Remedy::Restart);
    assert_eq!(
        watched_container.address,
        Some("172.17.0.2:5000".parse().unwrap()),
        "the first by name"
    );
    assert_eq!(
        (watched_container.settings.health.clone(), watched_container.settings.soft.clone()),
        (None, Soft::default())
    );
    assert_eq!(
        (watched_container.no_restart, watched_container.invalid_settings),
        (None, Vec::new())
    );
}

#[test]
fn a_container_without_the_label_is_not_a_target() {
    let refused = |labels: Value| by_labels(&with(&[("/Config/Labels", labels)])).unwrap_err();
    assert_eq!(refused(json!({})), NotWatchable::NoConsent);
    assert_eq!(refused(json!(null)), NotWatchable::NoConsent);
    assert_eq!(labelled(&[(POD, "b273b0a9")]).unwrap_err(), NotWatchable::OfPod);
}

#[test]
fn a_container_that_does_not_run_is_not_watched() {
    for (place, value, why) in [
        ("/State/Running", json!(false), NotWatchable::NotRunning),
        ("/State/Restarting", json!(true), NotWatchable::NotRunning),
        ("/State/Paused", json!(true), NotWatchable::Paused),
        ("/State", json!(null), NotWatchable::Incomplete),
        ("/State/Pid", json!(0), NotWatchable::Incomplete),
        ("/State/Pid", json!(1_i64 << 40), NotWatchable::Incomplete),
        ("/Id", json!("../../etc"), NotWatchable::Incomplete),
        ("/Name", json!("/"), NotWatchable::Incomplete),
    ] {
        let changes = [(place, value)];
        assert_eq!(by_labels(&with(&changes)).unwrap_err(), why, "{place}");
        assert_eq!(by_name(&with(&changes), 5001, &LOCAL).unwrap_err(), why, "{place}");
    }
}

#[test]
fn the_port_is_the_labelled_or_the_only_one() {
    let at = |watched_container: WatchedContainer| {
        watched_container.address.map(|address| address.port())
    };
    let exposing = |ports: Value| by_labels(&with(&[("/Config/ExposedPorts", ports)])).unwrap();
    assert_eq!(at(exposing(json!({ "5000/tcp": {}, "53/udp": {} }))), Some(5000));
    assert_eq!(at(exposing(json!({ "5000/tcp": {}, "9000/tcp": {} }))), None, "which?");
    assert_eq!(at(exposing(json!({}))), None);
    assert_eq!(at(labelled(&[(PORT, "8080")]).unwrap()), Some(8080));
    let nowhere = json!({ "host": { "IPAddress": "", "GlobalIPv6Address": "" } });
    assert_eq!(at(by_labels(&with(&[("/NetworkSettings/Networks", nowhere)])).unwrap()), None);
    let v6 = json!({ "six": { "IPAddress": "", "GlobalIPv6Address": "fd00::7" } });
    let v6 = by_labels(&with(&[("/NetworkSettings/Networks", v6)])).unwrap();
    assert_eq!(v6.address, Some("[fd00::7]:5000".parse().unwrap()));
}

#[test]
fn an_invalid_setting_lowers_the_ceiling_to_observe() {
    for (key, bad) in [
        (HEAL_LABEL, "yes"),
        (PORT, "http"),
        (PORT, "0"),
        (HEALTH_PATH, "health"),
        (HEAL_PATH, "/a b"),
        (SOFT, "signal QUIT"),
        (MIN_CONFIDENCE, "0.1"),
        (DUMP, "threaddump"),
    ] {
        let watched_container = labelled(&[(key, bad)]).unwrap();
        assert_eq!(
            (watched_container.settings.ceiling, watched_container.invalid_settings.len()),
            (Remedy::Observe, 1),
            "{key}={bad}"
        );
    }
}

#[test]
fn the_path_of_a_dump_is_a_label() {
    let watched_container = labelled(&[(DUMP, "/threaddump")]).unwrap();
    assert_eq!(watched_container.settings.dump.as_deref(), Some("/threaddump"));
}

#[test]
fn swarm_restarts_its_tasks_by_itself() {
    let task = labelled(&[(SWARM, "x")]).unwrap();
    assert_eq!(task.no_restart, Some(Obstacle::SwarmTask));
}

/// The addresses of `localhost`.
const LOCAL: [IpAddr; 2] = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];

#[test]
fn a_named_container_must_own_the_port() {
    let (container, address, no_restart) = by_name(&with(&[]), 5001, &LOCAL).unwrap();
    assert_eq!((container.name.as_str(), no_restart), ("patient-app", None));
    assert_eq!(address.to_string(), "[::1]:5001", "the one asked for first");
    let other = by_name(&with(&[]), 5000, &LOCAL).unwrap_err();
    let why = "the URL's port 5000 does not lead into it: it publishes 5001";
    assert_eq!(other.to_string(), why);
    let publishing = |bindings: Value| {
        let ports = json!({ "5000/tcp": bindings });
        by_name(&with(&[("/NetworkSettings/Ports", ports)]), 5001, &LOCAL)
    };
    assert!(publishing(json!(null)).unwrap_err().to_string().contains("--publish"));
    let at = |ip: &str| {
        let found = publishing(json!([{ "HostIp": ip, "HostPort": "5001" }]));
        found.map(|(_, address, _)| address.to_string())
    };
    assert_eq!(at("127.0.0.1").unwrap(), "127.0.0.1:5001", "nobody answers at the other");
    assert_eq!(at("0.0.0.0").unwrap(), "127.0.0.1:5001");
    assert_eq!(at("").unwrap(), "[::1]:5001");
    assert!(at("192.0.2.1").is_err() && at("nowhere").is_err(), "another address than the URL's");
    let host = with(&[("/HostConfig/NetworkMode", json!("host"))]);
    let why = by_name(&host, 5001, &LOCAL).unwrap_err();
    assert_eq!(why, NotWatchable::HostNetwork, "whose is the port?");
}

#[test]
fn the_stop_signal_is_the_containers_own() {
    let of = |signal: Value| {
        let mut container = recorded();
        container["Config"]["StopSignal"] = signal;
        by_labels(&from_value(container).unwrap()).unwrap().container.stop_signal
    };
    let all = [json!(null), json!("SIGQUIT"), json!("INT"), json!("28"), json!("RTMIN+3")].map(of);
    assert_eq!(all, [15, 3, 2, 28, 15]);
}

#[test]
fn the_grace_is_the_containers_own_within_bounds() {
    let grace = |seconds: Value| {
        by_labels(&with(&[("/Config/StopTimeout", seconds)])).unwrap().container.grace.as_secs()
    };
    let all = [json!(null), json!(0), json!(30), json!(86_400), json!(-1)].map(grace);
    assert_eq!(all, [10, 0, 30, 600, 600]);
}
