//! `paramedic metrics-api`: what the agents measure, as `custom.metrics.k8s.io`, for the HPA.
//!
//! Every replica holds one stream to each agent (`agents`), knows which pod runs on which node and
//! has which labels (`pods`), and joins the two when it is asked (`store`). The API server is the
//! only one who may ask, on behalf of somebody (`front_proxy`) whose rights are asked for in turn
//! (`access`). What is not known is missing: nothing is invented, and no average is taken.
//!
//! No part here decides about healing, and no agent needs this to heal.
mod authentication;
mod authority;
mod keeper;
mod registration;
mod front_proxy;
mod access;
mod agents;
mod stream;
mod pods;
mod store;
mod selector;
mod path;
mod answer;
mod discovery;
mod openapi;
mod server;
mod readiness;
mod run;
#[cfg(test)]
mod tests;

pub use run::{Config, MetricsApi};

/// The group that the HPA asks.
const GROUP: &str = "custom.metrics.k8s.io";

/// The versions of the group: the same answers under two sets of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1beta1,
    V1beta2,
}

impl Version {
    /// The preferred one first.
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
