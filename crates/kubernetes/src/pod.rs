//! Node mode: turns a pod's label, annotations and status into a target.
//!
//! One container of a pod is the target: the one behind the polled port. Sidecars, init containers
//! and ephemeral containers never are. A pod that has ended, or is ending, is not a target.
use std::{net::IpAddr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use paramedic_core::target::{
    Allowance, HealthProbe, MAX_GRACE, Obstacle, Owner, PodRef, Settings,
    consent::{GIVE_UP, HEAL_LABEL, InvalidSetting, Port, SettingsReader},
    version,
};

use crate::{labels::QUARANTINED, probes};

/// kubectl's annotation, for pods whose ports do not identify the container.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Set by the kubelet on the API server's copy of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Set by the controllers that keep their uid when the template of their pods changes: StatefulSet
/// and DaemonSet. A Deployment has another ReplicaSet then.
const REVISION: &str = "controller-revision-hash";

/// Kubernetes' own default.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// A labelled pod whose container runs.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedPod {
    /// The pod.
    pub pod: PodRef,
    /// Why it cannot be restarted in place, if so.
    pub no_restart: Option<Obstacle>,
    /// Why it cannot be evicted, if so.
    pub no_evict: Option<Obstacle>,
    /// Address of its HTTP server; `None`: no HTTP from the agent.
    pub address: Option<(IpAddr, u16)>,
    /// The version of its program, if the API server reports it.
    pub version: Option<String>,
    /// Its settings.
    pub settings: Settings,
    /// Whether the kubelet calls the container ready.
    pub ready: bool,
    /// Invalid settings.
    pub invalid_settings: Vec<InvalidSetting>,
}

/// Why a pod is not watched at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWatchable {
    /// It has no label, and so no consent.
    #[error("it does not carry the label paramedic.dev/heal")]
    NoConsent,
    /// All its containers have ended for good.
    #[error("it has completed")]
    Completed,
    /// It is being deleted.
    #[error("it is being deleted")]
    Terminating,
    /// The container has not started, or waits to be started again.
    #[error("its container is not running")]
    NotRunning,
    /// The API server's object is incomplete.
    #[error("its name, uid or containers are missing")]
    Incomplete,
}

/// Reads one pod.
///
/// # Errors
/// Why it is not a target, or not yet.
pub fn watched_pod(pod: &Pod) -> Result<WatchedPod, NotWatchable> {
    let consent = label(pod, HEAL_LABEL).ok_or(NotWatchable::NoConsent)?;
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(NotWatchable::Terminating);
    }
    let status = pod.status.as_ref().ok_or(NotWatchable::NotRunning)?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Err(NotWatchable::Completed);
    }
    // What is wanted at last may also be a label.
    let mut reader = SettingsReader::new(|key| match key {
        GIVE_UP => label(pod, key).or_else(|| annotation(pod, key)),
        _ => annotation(pod, key),
    });
    let ceiling = reader.remedy(consent);
    let port = reader.port(|name| containers(pod).any(|container| has_port(container, name)));
    let container = container(pod, port.as_ref()).ok_or(NotWatchable::Incomplete)?;
    let running = running(pod, &container.name).ok_or(NotWatchable::NotRunning)?;
    let container_id =
        running.container_id.as_deref().and_then(id).ok_or(NotWatchable::NotRunning)?;
    let address = address(pod, container, port.as_ref());
    let health = match (reader.health_ask(), address) {
        (Some(asks), Some((_, port))) => Some(HealthProbe { port, tls: false, asks }),
        _ => probes::health(container),
    };
    let settings = Settings {
        ceiling,
        capped: None,
        health,
        soft: reader.soft(),
        min_confidence: reader.min_confidence(),
        patience: Allowance { set: reader.patience(), granted: probes::patience(container) },
        warm_up: Allowance { set: reader.warm_up(), granted: probes::warm_up(container) },
        not_between: reader.not_between(),
        ask_before: reader.ask_before(),
        approved: reader.approved(),
        tls_probes: reader.tls_probes(),
        dump: reader.dump(),
        resize: reader.resize(),
        drain: reader.drain(),
        quarantine: reader.quarantine(),
        notify: reader.notify(),
    };
    let no_evict = no_evict(pod, &settings);
    Ok(WatchedPod {
        pod: PodRef {
            namespace: pod.metadata.namespace.clone().ok_or(NotWatchable::Incomplete)?,
            name: pod.metadata.name.clone().ok_or(NotWatchable::Incomplete)?,
            uid: pod.metadata.uid.clone().ok_or(NotWatchable::Incomplete)?,
            container: container.name.clone(),
            container_id: container_id.to_owned(),
            owner: controller(pod).map(owner),
            grace: grace(pod),
        },
        settings: reader.capped(settings.of_quarantined(is_quarantined(pod))),
        no_restart: no_restart(pod, container),
        no_evict,
        address,
        version: version::of_image(Some(&running.image_id), label(pod, REVISION)),
        ready: running.ready,
        invalid_settings: reader.invalid_settings,
    })
}

/// A container id of any runtime without its scheme (`containerd://`, `cri-o://`, `docker://`).
fn id(text: &str) -> Option<&str> {
    let id = text.split_once("://").map_or(text, |(_, id)| id);
    paramedic_host::container::is_id(id).then_some(id)
}

fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The part of an owner reference that the agent uses.
fn owner(reference: &OwnerReference) -> Owner {
    Owner {
        api_version: reference.api_version.clone(),
        kind: reference.kind.clone(),
        name: reference.name.clone(),
        uid: reference.uid.clone(),
    }
}

fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn grace(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let grace = seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    grace.unwrap_or(DEFAULT_GRACE).min(MAX_GRACE)
}

/// The pod's main containers; sidecars are init containers that stay.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}

fn has_port(container: &Container, name: &str) -> bool {
    container.ports.iter().flatten().any(|port| port.name.as_deref() == Some(name))
}

/// The container of the port; else the one with a port called `http`, else kubectl's default
/// container, else the first with any port, else the first.
fn container<'a>(pod: &'a Pod, port: Option<&Port>) -> Option<&'a Container> {
    let with = |fits: &dyn Fn(i32, Option<&str>) -> bool| {
        containers(pod).find(|container| {
            let mut ports = container.ports.iter().flatten();
            ports.any(|port| fits(port.container_port, port.name.as_deref()))
        })
    };
    let of_port = match port {
        Some(Port::Number(number)) => with(&|other, _| other == i32::from(*number)),
        Some(Port::Name(name)) => with(&|_, other| other == Some(name)),
        None => with(&|_, name| name == Some("http")),
    };
    of_port
        .or_else(|| {
            let name = annotation(pod, DEFAULT_CONTAINER)?;
            containers(pod).find(|container| container.name == name)
        })
        .or_else(|| with(&|_, _| true))
        .or_else(|| containers(pod).next())
}

fn running<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    status.state.as_ref()?.running.as_ref()?;
    Some(status)
}

/// The agent connects only to the pod's own IP; other pods share the node's IP.
fn address(pod: &Pod, container: &Container, port: Option<&Port>) -> Option<(IpAddr, u16)> {
    let host_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    if host_network {
        return None;
    }
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    let mut ports = container.ports.iter().flatten();
    let declared = |number: i32| u16::try_from(number).ok().filter(|&n| n > 0);
    let named = |name: &str| {
        let mut ports = container.ports.iter().flatten();
        ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port)
    };
    let number = match port {
        Some(Port::Number(number)) => *number,
        Some(Port::Name(name)) => declared(named(name)?)?,
        None => declared(named("http").or_else(|| Some(ports.next()?.container_port))?)?,
    };
    Some((ip, number))
}

/// The kubelet restarts a container only if the policy says so, and a signal from outside would
/// skip a preStop hook that its owner relies on.
fn no_restart(pod: &Pod, container: &Container) -> Option<Obstacle> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let policy = container.restart_policy.as_deref().or(of_pod).unwrap_or("Always");
    if policy != "Always" {
        return Some(Obstacle::RestartPolicy);
    }
    let hook = container.lifecycle.as_ref().is_some_and(|hooks| hooks.pre_stop.is_some());
    hook.then_some(Obstacle::PreStopHook)
}

fn no_evict(pod: &Pod, settings: &Settings) -> Option<Obstacle> {
    if is_quarantined(pod) {
        return Some(Obstacle::InQuarantine);
    }
    if annotation(pod, MIRROR).is_some() {
        return Some(Obstacle::StaticPod);
    }
    let Some(controller) = controller(pod) else { return Some(Obstacle::NoController) };
    settings.quarantine?;
    // Its owner wants a quarantine, and nothing stronger.
    match (controller.api_version.split_once('/'), controller.kind.as_str()) {
        (Some(("apps", _)), "ReplicaSet") => None,
        (Some(("apps", _)), "StatefulSet") => Some(Obstacle::NameTaken),
        _ => Some(Obstacle::NotReleased),
    }
}

/// Whether it is in quarantine, readable or not: in doubt it is left alone.
fn is_quarantined(pod: &Pod) -> bool {
    annotation(pod, QUARANTINED).is_some()
}

#[cfg(test)]
mod tests;
