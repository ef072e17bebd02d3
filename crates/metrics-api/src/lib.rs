//! `paramedic-metrics-api`: serves what the agents measure as `custom.metrics.k8s.io`, for the HPA.
//!
//! Every replica holds one stream to each agent (`agents`), knows the node and labels of each pod
//! (`pods`), and joins the two for each request (`store`). Only the API server may connect, on
//! behalf of a user (`front_proxy`) whose rights are checked in turn (`access`). Unknown values are
//! missing: the metrics API neither invents nor averages values.
//!
//! It takes no part in healing decisions, and no agent needs it to heal.
mod authentication;
mod authority;
mod ca_store;
mod registration;
mod front_proxy;
mod access;
mod agents;
mod stream;
mod pods;
mod store;
mod forecasts;
mod history;
pub mod selector;
pub mod path;
mod answer;
mod discovery;
mod openapi;
mod server;
mod readiness;
mod run;
#[cfg(test)]
mod tests;

use paramedic_pod_metrics::FORECAST;
pub use run::{Config, MetricsApi};

/// The API group that the HPA queries.
const GROUP: &str = "custom.metrics.k8s.io";

/// The versions of the group: the same values under two sets of field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `v1beta1`, which names a metric only.
    V1beta1,
    /// `v1beta2`, which names a metric and its selector.
    V1beta2,
}

impl Version {
    /// The preferred version first.
    const ALL: [Self; 2] = [Self::V1beta2, Self::V1beta1];

    const fn name(self) -> &'static str {
        match self {
            Self::V1beta1 => "v1beta1",
            Self::V1beta2 => "v1beta2",
        }
    }

    /// Group and version.
    const fn api_version(self) -> &'static str {
        match self {
            Self::V1beta1 => "custom.metrics.k8s.io/v1beta1",
            Self::V1beta2 => "custom.metrics.k8s.io/v1beta2",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }
}
