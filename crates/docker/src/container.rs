//! Docker mode: turns the engine's report on a container, and its owner's labels, into a target.
//!
//! Consent comes by the same labels as a pod's, or from the user who names the container on the
//! command line. If a URL and a name are given, the agent heals the container only if the URL leads
//! into it: another service might answer there.
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bollard::models::{ContainerInspectResponse, ContainerState, EndpointSettings, PortBinding};
use nix::sys::signal::Signal;
use paramedic_core::target::{
    Allowance, ContainerRef, HealthProbe, MAX_GRACE, Obstacle, Settings,
    consent::{HEAL_LABEL, InvalidSetting, Port, SettingsReader},
    version,
};
use paramedic_host::container::is_id;

/// Label set by cri-dockerd: the kubelet owns such a container, and the cluster's agent watches its
/// pod.
const POD: &str = "io.kubernetes.pod.uid";
/// Label set by Swarm on its tasks.
const SWARM: &str = "com.docker.swarm.service.id";
/// Time from SIGTERM to SIGKILL if the container sets none: the engine's own default.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// A running container that consents.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedContainer {
    /// The container.
    pub container: ContainerRef,
    /// Why it cannot be restarted, if so.
    pub no_restart: Option<Obstacle>,
    /// Address of its HTTP server; `None`: no HTTP from the agent.
    pub address: Option<SocketAddr>,
    /// Its settings.
    pub settings: Settings,
    /// Invalid settings.
    pub invalid_settings: Vec<InvalidSetting>,
}

/// Why a container is not watched at present.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWatchable {
    /// It has no label, and so no consent.
    #[error("it does not carry the label paramedic.dev/heal")]
    NoConsent,
    /// The kubelet owns it.
    #[error("it belongs to a pod: the agent of the cluster watches that")]
    OfPod,
    /// It has not started, has ended, or is being started again.
    #[error("it is not running")]
    NotRunning,
    /// Its processes are frozen.
    #[error("it is paused")]
    Paused,
    /// The engine's report on it is incomplete.
    #[error("the engine reports no id, name or process for it")]
    Incomplete,
    /// The agent cannot tell which of the host's ports belong to it.
    #[error(
        "it is on the host's network: watch it without its name, as a process \
         (--restart-command 'docker restart NAME')"
    )]
    HostNetwork,
    /// The URL does not lead into it.
    #[error("the URL's port {port} does not lead into it: {}", published(.others))]
    OtherPort {
        /// The port of the URL.
        port: u16,
        /// The ports that it publishes.
        others: Vec<u16>,
    },
}

fn published(ports: &[u16]) -> String {
    match ports {
        [] => "it publishes none; publish it (docker run --publish)".to_owned(),
        some => {
            let list: Vec<_> = some.iter().map(u16::to_string).collect();
            format!("it publishes {}", list.join(", "))
        }
    }
}

/// Reads a container that consents by its labels. The agent uses its own address.
///
/// # Errors
/// Why it is not a target, or not yet.
pub fn by_labels(seen: &ContainerInspectResponse) -> Result<WatchedContainer, NotWatchable> {
    let consent = label(seen, HEAL_LABEL).ok_or(NotWatchable::NoConsent)?;
    if label(seen, POD).is_some() {
        return Err(NotWatchable::OfPod);
    }
    let container = running(seen)?;
    let mut reader = SettingsReader::new(|key| label(seen, key));
    let ceiling = reader.remedy(consent);
    let port = match reader.port(|_| false) {
        Some(Port::Number(number)) => Some(number),
        Some(Port::Name(_)) => None,
        None => only_port(seen),
    };
    let asks = reader.health_ask();
    let settings = Settings {
        ceiling,
        capped: None,
        health: asks.zip(port).map(|(asks, port)| HealthProbe { port, tls: false, asks }),
        soft: reader.soft(),
        min_confidence: reader.min_confidence(),
        patience: Allowance { set: reader.patience(), ..Allowance::default() },
        warm_up: Allowance { set: reader.warm_up(), ..Allowance::default() },
        not_between: reader.not_between(),
        ask_before: reader.ask_before(),
        approved: None,
        tls_probes: reader.tls_probes(),
        dump: reader.dump(),
        resize: reader.resize(),
        drain: None,
        quarantine: None,
        notify: reader.notify(),
    };
    Ok(WatchedContainer {
        settings: reader.capped(settings),
        no_restart: no_restart(seen),
        address: container.ip.zip(port).map(SocketAddr::from),
        container,
        invalid_settings: reader.invalid_settings,
    })
}

/// Reads a container that the user named together with a port of this machine, and addresses of it
/// in the order of preference: naming it is the consent. Also returns the address to use.
///
/// # Errors
/// Why it is not watched, or not yet.
pub fn by_name(
    seen: &ContainerInspectResponse,
    port: u16,
    addresses: &[IpAddr],
) -> Result<(ContainerRef, SocketAddr, Option<Obstacle>), NotWatchable> {
    let container = running(seen)?;
    if of_host_network(seen) {
        return Err(NotWatchable::HostNetwork);
    }
    let bindings = bindings(seen);
    let leads_in = |ip: &&IpAddr| bindings.iter().any(|binding| binding.accepts(**ip, port));
    let ip = addresses.iter().find(leads_in);
    let Some(&ip) = ip else {
        let mut others: Vec<u16> = bindings.iter().map(|binding| binding.port).collect();
        // Once for each address family.
        others.sort_unstable();
        others.dedup();
        return Err(NotWatchable::OtherPort { port, others });
    };
    Ok((container, (ip, port).into(), no_restart(seen)))
}

fn label<'a>(seen: &'a ContainerInspectResponse, key: &str) -> Option<&'a str> {
    seen.config.as_ref()?.labels.as_ref()?.get(key).map(String::as_str)
}

/// The name without the leading slash of the engine.
#[must_use]
pub fn plain(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

fn name(seen: &ContainerInspectResponse) -> Option<&str> {
    let name = plain(seen.name.as_deref()?);
    (!name.is_empty() && name.len() <= 255).then_some(name)
}

/// The running instance of a container.
///
/// # Errors
/// Why it is not a target at present.
pub fn running(seen: &ContainerInspectResponse) -> Result<ContainerRef, NotWatchable> {
    let Some(state) = &seen.state else { return Err(NotWatchable::Incomplete) };
    let is = |of: fn(&ContainerState) -> Option<bool>| of(state) == Some(true);
    if is(|state| state.paused) {
        return Err(NotWatchable::Paused);
    }
    if !is(|state| state.running) || is(|state| state.restarting) {
        return Err(NotWatchable::NotRunning);
    }
    let id = seen.id.as_deref().filter(|id| is_id(id)).ok_or(NotWatchable::Incomplete)?;
    let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|&pid| pid > 0);
    Ok(ContainerRef {
        id: id.to_owned(),
        name: name(seen).ok_or(NotWatchable::Incomplete)?.to_owned(),
        pid: pid.ok_or(NotWatchable::Incomplete)?,
        started: state.started_at.clone().ok_or(NotWatchable::Incomplete)?,
        grace: grace(seen),
        stop_signal: stop_signal(seen),
        image: version::of_image(seen.image.as_deref(), None),
        ip: own_address(seen),
    })
}

fn grace(seen: &ContainerInspectResponse) -> Duration {
    let seconds = seen.config.as_ref().and_then(|config| config.stop_timeout);
    match seconds {
        // A negative value means that the engine waits forever.
        Some(seconds) => u64::try_from(seconds).map_or(MAX_GRACE, Duration::from_secs),
        None => DEFAULT_GRACE,
    }
    .min(MAX_GRACE)
}

/// As in `STOPSIGNAL` of a Dockerfile; SIGTERM if it is missing or unknown.
fn stop_signal(seen: &ContainerInspectResponse) -> i32 {
    let given = seen.config.as_ref().and_then(|config| config.stop_signal.as_deref());
    given.and_then(signal).unwrap_or(libc::SIGTERM)
}

/// A signal by its number or its name, with or without `SIG`.
#[must_use]
pub fn signal(text: &str) -> Option<i32> {
    let name = || format!("SIG{}", text.strip_prefix("SIG").unwrap_or(text));
    text.parse().ok().or_else(|| name().parse::<Signal>().ok().map(|signal| signal as i32))
}

fn no_restart(seen: &ContainerInspectResponse) -> Option<Obstacle> {
    label(seen, SWARM).map(|_| Obstacle::SwarmTask)
}

fn of_host_network(seen: &ContainerInspectResponse) -> bool {
    let mode = seen.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
    mode == Some("host")
}

/// The TCP port that the image exposes; `None` if it exposes several, which is ambiguous.
fn only_port(seen: &ContainerInspectResponse) -> Option<u16> {
    let exposed = seen.config.as_ref()?.exposed_ports.as_ref()?;
    let mut ports = exposed.iter().filter_map(|port| tcp(port));
    let first = ports.next()?;
    ports.next().is_none().then_some(first)
}

/// Parses `5000/tcp`.
fn tcp(port: &str) -> Option<u16> {
    port.strip_suffix("/tcp")?.parse().ok().filter(|&port| port > 0)
}

/// A port of this machine that leads into the container.
struct Binding {
    /// `None`: every address of both families.
    ip: Option<IpAddr>,
    port: u16,
}

impl Binding {
    fn accepts(&self, ip: IpAddr, port: u16) -> bool {
        let at = |own: IpAddr| own == ip || own.is_unspecified() && own.is_ipv4() == ip.is_ipv4();
        self.port == port && self.ip.is_none_or(at)
    }
}

fn bindings(seen: &ContainerInspectResponse) -> Vec<Binding> {
    let all = seen.network_settings.as_ref().and_then(|network| network.ports.as_ref());
    let all = all.into_iter().flatten().filter(|(port, _)| tcp(port).is_some());
    let read = |binding: &PortBinding| {
        let ip = binding.host_ip.as_deref().filter(|ip| !ip.is_empty());
        let ip = ip.map(str::parse).transpose().ok()?;
        Some(Binding { ip, port: binding.host_port.as_ref()?.parse().ok()? })
    };
    all.flat_map(|(_, bindings)| bindings.iter().flatten()).filter_map(read).collect()
}

/// Its address on the first of its networks, by name; `None` if it has none.
fn own_address(seen: &ContainerInspectResponse) -> Option<IpAddr> {
    let networks = seen.network_settings.as_ref()?.networks.as_ref()?;
    let networks: BTreeMap<&String, &EndpointSettings> = networks.iter().collect();
    let address = |network: &EndpointSettings| {
        let v6 = || network.global_ipv6_address.as_deref()?.parse().ok();
        network.ip_address.as_deref().and_then(|ip| ip.parse().ok()).or_else(v6)
    };
    let mut addresses = networks.values().filter_map(|network| address(network));
    addresses.find(|ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests;
