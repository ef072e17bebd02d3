//! Notices about a pod, shown by `kubectl describe pod`.
use std::sync::Arc;

use crate::target::PodRef;

/// A notice about a pod.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The pod.
    pub pod: Arc<PodRef>,
    /// Whether an operator should look.
    pub warning: bool,
    /// Reason in CamelCase, for programs.
    pub reason: &'static str,
    /// Text for users.
    pub note: String,
    /// Notices of one pod with the same reason and the same key form a series; `None`: each is a
    /// separate Event.
    pub series: Option<&'static str>,
}
