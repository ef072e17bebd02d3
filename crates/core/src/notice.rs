//! Notices about a pod, shown by `kubectl describe pod`.
use std::sync::Arc;

use crate::target::PodRef;

/// Something to be told on a pod.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The pod.
    pub pod: Arc<PodRef>,
    /// Whether somebody should look.
    pub warning: bool,
    /// In CamelCase, for machines.
    pub reason: &'static str,
    /// For people.
    pub note: String,
    /// Notices of one pod with the same reason and the same key are one series; `None`: each is an
    /// Event of its own.
    pub series: Option<&'static str>,
}
