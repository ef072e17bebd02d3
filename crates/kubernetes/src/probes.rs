//! Reads a container's own probes: where and how to ask for its health, and how long it may fail.
//!
//! The owner has already configured where the kubelet polls the app and how long it may fail. The
//! liveness probe goes first, because it checks the process itself; a readiness probe often
//! includes dependencies.
use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Container, GRPCAction, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use paramedic_core::{
    health::grpc::is_service,
    target::{HealthAsk, HealthProbe},
};

/// Kubernetes' own defaults.
const PERIOD_S: i32 = 10;
const FAILURES: i32 = 3;
/// Maximum: a probe can specify `i32` seconds times `i32` failures.
const LONGEST: Duration = Duration::from_secs(3600);

/// The endpoint of a probe by HTTP or gRPC. A probe with another host polls something else.
pub(super) fn health(container: &Container) -> Option<HealthProbe> {
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    let asks = |probe: &Option<Probe>| {
        let probe = probe.as_ref()?;
        let http = probe.http_get.as_ref().and_then(|get| http(container, get));
        http.or_else(|| grpc(probe.grpc.as_ref()?))
    };
    probes.into_iter().find_map(asks)
}

fn grpc(call: &GRPCAction) -> Option<HealthProbe> {
    let service = call.service.clone().unwrap_or_default();
    let port = u16::try_from(call.port).ok().filter(|port| *port > 0)?;
    is_service(&service).then_some(HealthProbe { port, tls: false, asks: HealthAsk::Grpc(service) })
}

fn http(container: &Container, get: &HTTPGetAction) -> Option<HealthProbe> {
    if get.host.as_deref().is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let port = match &get.port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => named(container, name)?,
    };
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let plain = path.len() <= 1024 && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let tls = get.scheme.as_deref() == Some("HTTPS");
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    plain.then_some(HealthProbe { port, tls, asks: HealthAsk::Path(path) })
}

fn named(container: &Container, name: &str) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    if let Some(port) = ports.find(|port| port.name.as_deref() == Some(name)) {
        return Some(port.container_port);
    }
    name.parse().ok()
}

/// How long the liveness probe may fail before the kubelet restarts the container.
pub(super) fn patience(container: &Container) -> Duration {
    container.liveness_probe.as_ref().map_or(Duration::ZERO, span)
}

/// How long the startup probe lets the container take to start.
pub(super) fn warm_up(container: &Container) -> Duration {
    container.startup_probe.as_ref().map_or(Duration::ZERO, |probe| {
        (seconds(probe.initial_delay_seconds.unwrap_or(0)) + span(probe)).min(LONGEST)
    })
}

fn span(probe: &Probe) -> Duration {
    let period = seconds(probe.period_seconds.unwrap_or(PERIOD_S));
    let failures = u32::try_from(probe.failure_threshold.unwrap_or(FAILURES)).unwrap_or(0);
    period.saturating_mul(failures).min(LONGEST)
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn container(probes: Value) -> Container {
        let mut container = json!({
            "name": "app",
            "ports": [{ "containerPort": 8080 }, { "name": "admin", "containerPort": 9000 }],
        });
        for (name, probe) in probes.as_object().unwrap() {
            container[name] = probe.clone();
        }
        from_value(container).unwrap()
    }

    fn asked(get: Value) -> Option<HealthProbe> {
        health(&container(json!({ "livenessProbe": { "httpGet": get } })))
    }

    #[test]
    fn an_http_probe_tells_port_scheme_and_path() {
        let at = |port, tls, path: &str| {
            Some(HealthProbe { port, tls, asks: HealthAsk::Path(path.to_owned()) })
        };
        assert_eq!(asked(json!({ "port": 8080, "path": "/live" })), at(8080, false, "/live"));
        assert_eq!(asked(json!({ "port": "admin", "path": "live" })), at(9000, false, "/live"));
        assert_eq!(asked(json!({ "port": "admin", "scheme": "HTTPS" })), at(9000, true, "/"));
        assert_eq!(asked(json!({ "port": "8081", "path": "/x?y=1" })), at(8081, false, "/x?y=1"));
    }

    #[test]
    fn a_grpc_probe_tells_port_and_service() {
        let asked = |call: Value| health(&container(json!({ "livenessProbe": { "grpc": call } })));
        let at = |port, service: &str| {
            Some(HealthProbe { port, tls: false, asks: HealthAsk::Grpc(service.to_owned()) })
        };
        assert_eq!(asked(json!({ "port": 9000 })), at(9000, ""));
        assert_eq!(asked(json!({ "port": 9000, "service": "shop.Shop" })), at(9000, "shop.Shop"));
        assert_eq!(asked(json!({ "port": 9000, "service": "a b" })), None);
        assert_eq!(asked(json!({ "port": 0 })), None);
        assert_eq!(asked(json!({ "port": 70000 })), None);
        let ready = json!({
            "livenessProbe": { "exec": {} }, "readinessProbe": { "grpc": { "port": 9000 } },
        });
        assert_eq!(health(&container(ready)), at(9000, ""));
    }

    #[test]
    fn invalid_probes_and_probes_of_other_hosts_are_ignored() {
        assert_eq!(asked(json!({ "port": 8080, "host": "example.com" })), None);
        assert_eq!(asked(json!({ "port": "nowhere" })), None);
        assert_eq!(asked(json!({ "port": 0 })), None);
        assert_eq!(asked(json!({ "port": 70000 })), None);
        assert_eq!(asked(json!({ "port": 8080, "path": "/a b" })), None);
        assert_eq!(health(&container(json!({ "livenessProbe": { "exec": {} } }))), None);
    }

    #[test]
    fn liveness_goes_before_readiness_and_startup() {
        let get = |path: &str| json!({ "httpGet": { "port": 8080, "path": path } });
        let all = json!({
            "startupProbe": get("/started"), "readinessProbe": get("/ready"), "livenessProbe": get("/live"),
        });
        let path = |probes| health(&container(probes)).unwrap().asks.to_string();
        assert_eq!(path(all.clone()), "/live");
        let mut others = all;
        others["livenessProbe"] = json!({ "tcpSocket": { "port": 8080 } });
        assert_eq!(path(others), "/ready");
    }

    #[test]
    fn probes_grant_their_period_times_their_failures() {
        let liveness =
            |probe: Value| patience(&container(json!({ "livenessProbe": probe }))).as_secs();
        assert_eq!(patience(&container(json!({}))), Duration::ZERO);
        assert_eq!(liveness(json!({})), 30, "the kubelet's defaults");
        assert_eq!(liveness(json!({ "periodSeconds": 5, "failureThreshold": 4 })), 20);
        assert_eq!(
            liveness(json!({ "periodSeconds": i32::MAX, "failureThreshold": i32::MAX })),
            3600
        );
        assert_eq!(liveness(json!({ "periodSeconds": -1, "failureThreshold": -1 })), 0);
        let startup = json!({ "startupProbe": {
            "initialDelaySeconds": 15, "periodSeconds": 10, "failureThreshold": 30,
        } });
        assert_eq!(warm_up(&container(startup)).as_secs(), 315);
    }
}
