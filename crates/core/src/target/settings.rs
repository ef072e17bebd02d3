//! Settings of a target: the owner's, with defaults for the rest.
use std::{fmt, time::Duration};

use super::{Capped, ChannelNames, Remedy, Request, Soft, Windows};
use crate::{health::grpc::is_service, resize::Ceilings};

/// The health endpoint, if the owner or the container's own probe names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthProbe {
    /// The port, at the target's address.
    pub port: u16,
    /// Whether to use TLS; like the kubelet, the agent does not verify the certificate.
    pub tls: bool,
    /// What to ask for.
    pub asks: HealthAsk,
}

/// What to ask for at a health endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthAsk {
    /// `GET` this path, with an optional query.
    Path(String),
    /// Call `grpc.health.v1.Health/Check` for this service; empty for the whole server.
    Grpc(String),
}

impl HealthAsk {
    /// Reads `grpc` or `grpc:SERVICE`; any other text is a path.
    ///
    /// # Errors
    /// If it is neither, with the reason.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let service = if text == "grpc" { Some("") } else { text.strip_prefix("grpc:") };
        match service {
            Some(service) if is_service(service) => Ok(Self::Grpc(service.to_owned())),
            Some(_) => Err("not the name of a gRPC service: at most 256 printable characters"),
            None if is_path(text) => Ok(Self::Path(text.to_owned())),
            None => Err(
                "neither a path, which begins with / and has no spaces, nor `grpc` or `grpc:SERVICE`",
            ),
        }
    }
}

impl fmt::Display for HealthAsk {
    /// As [`HealthAsk::read`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Grpc(service) if service.is_empty() => f.write_str("grpc"),
            Self::Grpc(service) => write!(f, "grpc:{service}"),
        }
    }
}

pub(super) fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 1024
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// A time limit of the guard: the owner's setting; else the longer of the agent's default and what
/// the container's own probe grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// The owner's setting.
    pub set: Option<Duration>,
    /// What the container's own probe grants.
    pub granted: Duration,
}

impl Allowance {
    /// The limit, with this default of the agent.
    #[must_use]
    pub fn or(self, default: Duration) -> Duration {
        self.set.unwrap_or_else(|| default.max(self.granted))
    }
}

/// Settings of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The strongest remedy that its owner consents to, or its namespace permits if that is less.
    pub ceiling: Remedy,
    /// What lowered the ceiling below what its owner consents to.
    pub capped: Option<Capped>,
    /// The health endpoint; `None`: the first of the known paths that answers.
    pub health: Option<HealthProbe>,
    /// The soft remedy.
    pub soft: Soft,
    /// Minimum calibrated confidence for a remedy, 0–1.
    pub min_confidence: f32,
    /// How long it may fail to answer before that counts.
    pub patience: Allowance,
    /// How long a new instance may take before it answers well.
    pub warm_up: Allowance,
    /// When it gets no remedy.
    pub not_between: Windows,
    /// The mildest hard remedy before which its owner wants to be asked.
    pub ask_before: Option<Remedy>,
    /// What its owner has approved, if that is written on the target.
    pub approved: Option<Request>,
    /// Whether to attach to the functions of its TLS library, which takes CPU time of it.
    pub tls_probes: bool,
    /// Path of the app's own dump of its state, to be read before a hard remedy; `None`: no dump.
    pub dump: Option<String>,
    /// How far its limits may be raised; `None`: not at all.
    pub resize: Option<Ceilings>,
    /// How long a pod is out of its Services before a restart; `None`: it is not drained.
    pub drain: Option<Duration>,
    /// What takes the place of an eviction; `None`: it is evicted.
    pub quarantine: Option<Quarantine>,
    /// The channels through which people are told of it, beside those that are told of all targets.
    pub notify: ChannelNames,
}

/// Maximum time that a pod is drained.
pub const MAX_DRAIN: Duration = Duration::from_secs(120);

/// A quarantine: a pod that is kept, out of its workload and its Services, for people to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// How long; then the pod is evicted.
    pub lasts: Duration,
}

impl Quarantine {
    /// How long, unless its owner says otherwise.
    pub const LASTS: Duration = Duration::from_secs(24 * 3600);
}

impl Settings {
    /// Default of the minimum calibrated confidence.
    pub const MIN_CONFIDENCE: f32 = 0.8;

    /// The default settings with this ceiling.
    #[must_use]
    pub fn up_to(ceiling: Remedy) -> Self {
        Self {
            ceiling,
            capped: None,
            health: None,
            soft: Soft::default(),
            min_confidence: Self::MIN_CONFIDENCE,
            patience: Allowance::default(),
            warm_up: Allowance::default(),
            not_between: Windows::default(),
            ask_before: None,
            approved: None,
            tls_probes: false,
            dump: None,
            resize: None,
            drain: None,
            quarantine: None,
            notify: ChannelNames::default(),
        }
    }

    /// The same for a pod that is in quarantine, which is only observed.
    #[must_use]
    pub fn of_quarantined(self, is_quarantined: bool) -> Self {
        let ceiling = if is_quarantined { Remedy::Observe } else { self.ceiling };
        Self { ceiling, ..self }
    }

    /// How a remedy is applied to this target, where there is a choice: the kind of soft remedy, or
    /// what its owner opted into. Empty otherwise. As in metrics and the journal.
    #[must_use]
    pub fn means(&self, remedy: Remedy) -> &'static str {
        match remedy {
            Remedy::Soft => self.soft.kind(),
            Remedy::Restart if self.drain.is_some() => "drain",
            Remedy::Evict if self.quarantine.is_some() => "quarantine",
            Remedy::Observe | Remedy::Restart | Remedy::Evict => "",
        }
    }

    /// What a remedy is called where people read it: a quarantine is no eviction.
    #[must_use]
    pub const fn called(&self, remedy: Remedy) -> &'static str {
        match remedy {
            Remedy::Evict if self.quarantine.is_some() => "quarantine",
            _ => remedy.name(),
        }
    }
}
