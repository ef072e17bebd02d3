//! A target as a line.
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use paramedic_core::{
    resize::Ceilings,
    target::{
        Allowance, Cgroups, Kind, Obstacle, Owner, PodRef, Remedy, Settings, Soft, Target, TargetId,
    },
};
use serde::{Deserialize, Serialize};

use super::line::{Absurd, moment, nanos, span};

/// The parts of a target that the engine and the reader of a replay need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetRecord {
    uid: String,
    instance: String,
    name: String,
    ceiling: Remedy,
    min_confidence: f32,
    /// Whether the agent sends it HTTP requests.
    polled: bool,
    /// Whether its cgroup is shared.
    shared: bool,
    started_ns: u64,
    /// The version of its program; since version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Settings of its owner and grants of its probes, in nanoseconds: how long it may fail to
    /// answer, and how long it may take to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    patience: Option<(Option<u64>, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warm_up: Option<(Option<u64>, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_restart: Option<Obstacle>,
    /// Its soft remedy, if it is not the usual one; since version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    soft: Option<String>,
    /// The mildest remedy before which people are asked; since version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask_before: Option<Remedy>,
    /// How far its limits may be raised; since version 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resize: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_evict: Option<Obstacle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Pod>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pod {
    namespace: String,
    name: String,
    uid: String,
    container: String,
    container_id: String,
    owner: Option<String>,
}

impl TargetRecord {
    pub(super) fn of(target: &Target) -> Self {
        Self {
            uid: target.id.uid.clone(),
            instance: target.id.instance.clone(),
            name: target.name.clone(),
            ceiling: target.settings.ceiling,
            min_confidence: target.settings.min_confidence,
            polled: target.address.is_some(),
            shared: target.cgroups.shared,
            started_ns: target.started.as_nanos(),
            version: target.version.clone(),
            patience: spans(target.settings.patience),
            warm_up: spans(target.settings.warm_up),
            no_restart: target.no_restart,
            soft: target.settings.soft.is_named().then(|| target.settings.soft.to_string()),
            ask_before: target.settings.ask_before,
            resize: target.settings.resize.map(|ceilings| ceilings.to_string()),
            no_evict: target.no_evict,
            pod: target.pod().map(|pod| Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                container: pod.container.clone(),
                container_id: pod.container_id.clone(),
                owner: pod.owner.as_ref().map(|owner| owner.uid.clone()),
            }),
        }
    }

    /// A target that can be judged but not polled or treated: it has no address and no process.
    pub(super) fn target(self) -> Result<Target, Absurd> {
        // This form also refuses NaN.
        if !(0.0..=1.0).contains(&self.min_confidence) {
            return Err(Absurd::Range);
        }
        // Which restriction it is does not matter for decisions, only that there is one.
        const SOMEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let pod = self.pod.map(|pod| PodRef {
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
            container: pod.container,
            container_id: pod.container_id,
            owner: pod.owner.map(|uid| Owner { uid, ..Owner::default() }),
            grace: Duration::ZERO,
        });
        Ok(Target {
            id: TargetId { uid: self.uid, instance: self.instance },
            name: self.name,
            kind: pod.map_or(Kind::Process, |pod| Kind::Pod(Arc::new(pod))),
            settings: Settings {
                soft: match self.soft.as_deref().map(Soft::read) {
                    None => Soft::default(),
                    Some(read) => read.map_err(|_| Absurd::Range)?,
                },
                min_confidence: self.min_confidence,
                patience: allowance(self.patience)?,
                warm_up: allowance(self.warm_up)?,
                ask_before: self.ask_before,
                resize: match self.resize.as_deref().map(Ceilings::read) {
                    None => None,
                    Some(read) => Some(read.map_err(|_| Absurd::Range)?),
                },
                ..Settings::up_to(self.ceiling)
            },
            address: self.polled.then_some(SOMEWHERE),
            tls: false,
            host: String::new(),
            cgroups: Cgroups { shared: self.shared, ..Cgroups::default() },
            port: None,
            started: moment(self.started_ns)?,
            main: None,
            version: self.version,
            no_restart: self.no_restart,
            no_evict: self.no_evict,
        })
    }
}

fn spans(of: Allowance) -> Option<(Option<u64>, u64)> {
    (of != Allowance::default()).then(|| (of.set.map(nanos), nanos(of.granted)))
}

fn allowance(spans: Option<(Option<u64>, u64)>) -> Result<Allowance, Absurd> {
    let Some((set, granted)) = spans else { return Ok(Allowance::default()) };
    Ok(Allowance { set: set.map(span).transpose()?, granted: span(granted)? })
}
