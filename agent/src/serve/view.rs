//! A target as machines see it, at `/api/v1/targets`.
use serde::Serialize;

use crate::{
    decide::{Decision, Reasons, top_reasons},
    engine::Case,
    features::FeatureVector,
    guard::Gate,
    target::{Rung, TargetId},
};

/// Reasons that are shown.
const REASONS: usize = 5;

/// One target: what is seen, what is decided, what is under way.
#[derive(Clone, Debug, Serialize)]
pub struct TargetView {
    /// Identity.
    pub id: TargetId,
    /// For people.
    pub name: String,
    /// The strongest remedy permitted.
    pub ceiling: Rung,
    /// `watching`, `healing` or `verifying`.
    pub state: &'static str,
    /// Whether foreign processes share its cgroup.
    pub shared: bool,
    /// The last row of features, by name.
    pub features: FeatureVector,
    /// The last decision; `null` before the first look.
    pub decision: Option<Decision>,
    /// Its strongest reasons.
    pub reasons: Option<Reasons>,
    /// Whether its process has ended and none has taken its place yet.
    pub absent: bool,
    /// The gate that refuses at present.
    pub refused_by: Option<Gate>,
    /// And why it does.
    pub refused_why: Option<String>,
    /// What stands out and is left alone, and why.
    pub left_alone: Option<String>,
    /// Whether every permitted remedy was tried in vain.
    pub exhausted: bool,
}

impl TargetView {
    /// The view of one case.
    #[must_use]
    pub fn of(case: &Case) -> Self {
        Self {
            id: case.target.id.clone(),
            name: case.target.name.clone(),
            ceiling: case.target.ceiling,
            state: case.state.name(),
            shared: case.target.cgroups.shared,
            features: case.row,
            decision: case.decision,
            reasons: case.decision.map(|d| top_reasons(&case.row, &d.shares, REASONS)),
            absent: case.absent,
            refused_by: case.refused.as_ref().map(|refusal| refusal.gate),
            refused_why: case.refused.as_ref().map(|refusal| refusal.why.to_string()),
            left_alone: case.left_alone.map(|notable| notable.to_string()),
            exhausted: case.history.is_exhausted(),
        }
    }
}
