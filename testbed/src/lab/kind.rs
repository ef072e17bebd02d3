//! The kinds of episodes: faults, and healthy targets.
use serde::{Deserialize, Serialize};

/// A kind of episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A share of the responses is 500 until the app is reset.
    ErrorBurst,
    /// The same, but only a restart clears it; a reset reports success all the same.
    BadState,
    /// The workers hang.
    Stuck,
    /// Memory grows towards the limit, and near it everything is slow. The growth is real; the
    /// slowness is a task that burns CPU and a delay in each answer, injected five seconds later.
    Leak,
    /// A runaway task takes the CPU quota, and requests are slow, until the app is reset. The
    /// burning is real; most of the slowness is a delay in each answer, injected beside it.
    CpuBurn,
    /// More requests than the CPU quota can answer.
    Quota,
    /// Its upstream answers 5xx.
    Upstream,
    /// Its clients reset their connections.
    ClientResets,
    /// A client connects and closes the connection, again and again.
    PortScan,
    /// Slow for an external reason: it is as slow after a restart.
    Slow,
    /// A share of the responses is 500, and `/health` says that all is well.
    LiesHealthy,
    /// `/health` says that the app is critical, but it works.
    LiesSick,
    /// It hangs for a second or two, or fails a few times, and recovers.
    Blip,
    /// Errors that come and go, until the app is reset.
    Flapping,
    /// Many times the usual traffic, all of it answered well.
    HighLoad,
    /// All requests but those to `/health` hang.
    HangUnseen,
    /// A share of the requests hangs, as if they waited for a connection from a pool that is used
    /// up.
    PoolUsedUp,
    /// A share of the requests is cut off, as if their handler ended its process.
    CutOff,
    /// A signal has stopped the process.
    Stopped,
    /// The requests are slow, but not `/health`, and no remedy helps.
    SlowHandler,
    /// Its upstream does not answer.
    UpstreamSilent,
    /// A neighbour takes the CPU that both share.
    Starved,
    /// Clients that send their requests byte by byte hold connections.
    SlowLoris,
    /// Clients hold connections without a request.
    IdleConnections,
    /// Well, with hardly a request.
    HealthyIdle,
    /// Well, with steady traffic.
    HealthySteady,
    /// Well, with traffic in bursts.
    HealthyBursty,
    /// Well, but for a rare 5xx.
    HealthyRareErrors,
    /// Well, with its memory nearly full of a cache.
    HealthyFullCache,
    /// Well, and restarted by its owner once.
    HealthyDeploy,
}

impl Kind {
    /// The kinds of faults.
    pub(crate) const FAULTS: [Self; 24] = [
        Self::ErrorBurst,
        Self::BadState,
        Self::Stuck,
        Self::Leak,
        Self::CpuBurn,
        Self::Quota,
        Self::Upstream,
        Self::ClientResets,
        Self::PortScan,
        Self::Slow,
        Self::LiesHealthy,
        Self::LiesSick,
        Self::Blip,
        Self::Flapping,
        Self::HighLoad,
        Self::HangUnseen,
        Self::PoolUsedUp,
        Self::CutOff,
        Self::Stopped,
        Self::SlowHandler,
        Self::UpstreamSilent,
        Self::Starved,
        Self::SlowLoris,
        Self::IdleConnections,
    ];

    /// The kinds of healthy targets.
    pub(crate) const HEALTHY: [Self; 6] = [
        Self::HealthyIdle,
        Self::HealthySteady,
        Self::HealthyBursty,
        Self::HealthyRareErrors,
        Self::HealthyFullCache,
        Self::HealthyDeploy,
    ];

    pub(crate) fn is_healthy(self) -> bool {
        Self::HEALTHY.contains(&self)
    }

    /// The name in files and reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ErrorBurst => "error_burst",
            Self::BadState => "bad_state",
            Self::Stuck => "stuck",
            Self::Leak => "leak",
            Self::CpuBurn => "cpu_burn",
            Self::Quota => "quota",
            Self::Upstream => "upstream",
            Self::ClientResets => "client_resets",
            Self::PortScan => "port_scan",
            Self::Slow => "slow",
            Self::LiesHealthy => "lies_healthy",
            Self::LiesSick => "lies_sick",
            Self::Blip => "blip",
            Self::Flapping => "flapping",
            Self::HighLoad => "high_load",
            Self::HangUnseen => "hang_unseen",
            Self::PoolUsedUp => "pool_used_up",
            Self::CutOff => "cut_off",
            Self::Stopped => "stopped",
            Self::SlowHandler => "slow_handler",
            Self::UpstreamSilent => "upstream_silent",
            Self::Starved => "starved",
            Self::SlowLoris => "slow_loris",
            Self::IdleConnections => "idle_connections",
            Self::HealthyIdle => "healthy_idle",
            Self::HealthySteady => "healthy_steady",
            Self::HealthyBursty => "healthy_bursty",
            Self::HealthyRareErrors => "healthy_rare_errors",
            Self::HealthyFullCache => "healthy_full_cache",
            Self::HealthyDeploy => "healthy_deploy",
        }
    }
}

/// A remedy that is tried on one of the paired subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Remedy {
    NoAction,
    ResetErrors,
    RestartService,
}

impl Remedy {
    /// Mildest first.
    pub(crate) const ALL: [Self; 3] = [Self::NoAction, Self::ResetErrors, Self::RestartService];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoAction => "no_action",
            Self::ResetErrors => "reset_errors",
            Self::RestartService => "restart_service",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_in_files() {
        for kind in Kind::FAULTS.into_iter().chain(Kind::HEALTHY) {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for remedy in Remedy::ALL {
            assert_eq!(serde_json::to_value(remedy).unwrap(), remedy.name());
        }
    }
}
