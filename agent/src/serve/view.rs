//! A target as JSON at `/api/v1/targets`.
use paramedic_core::{
    decide::{Decision, Reasons, top_reasons},
    engine::Case,
    features::{Feature, FeatureVector},
    guard::Gate,
    health::Word,
    target::{Rung, TargetId},
};
use serde::{Serialize, Serializer};

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
    /// The last row of features, by name; `null` for those that the kernel cannot see of it.
    pub features: Seen,
    /// What the last poll of its health came to; `null` where it is not polled.
    pub health: Option<HealthView>,
    /// Why the kernel does not see its HTTP traffic, if it does not.
    pub blind: Option<String>,
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

/// A row of features as people see it: what is missing is no zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The row that was judged, in which what is missing has its neutral value.
    pub row: FeatureVector,
    /// Whether the kernel sees the target's HTTP.
    pub sees_traffic: bool,
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = |feature: Feature| {
            (self.sees_traffic || !feature.is_http()).then_some(self.row[feature])
        };
        serializer.collect_map(Feature::ALL.map(|feature| (feature.name(), value(feature))))
    }
}

/// What a poll came to.
#[derive(Clone, Debug, Serialize)]
pub struct HealthView {
    /// `well`, `warns`, `ill`, `blames_dependency`, `not_now`, `unreadable`, `silent` or
    /// `not_asked`.
    pub result: &'static str,
    /// Why, for people.
    pub reason: String,
    /// The path that was asked.
    pub path: String,
}

impl HealthView {
    fn of(word: &Word) -> Self {
        Self { result: word.heard.name(), reason: word.to_string(), path: word.path.to_string() }
    }
}

impl TargetView {
    /// The view of one case.
    #[must_use]
    pub fn of(case: &Case) -> Self {
        Self {
            id: case.target.id.clone(),
            name: case.target.name.clone(),
            ceiling: case.target.settings.ceiling,
            state: case.state.name(),
            shared: case.target.cgroups.shared,
            features: Seen { row: case.row, sees_traffic: case.sees_traffic() },
            health: case.health.as_ref().map(HealthView::of),
            blind: case.blind.map(|blind| blind.to_string()),
            decision: case.decision,
            reasons: case.decision.map(|d| top_reasons(&case.row, d.action, &d.shares, REASONS)),
            absent: case.absent,
            refused_by: case.refused.as_ref().map(|refusal| refusal.gate),
            refused_why: case.refused.as_ref().map(|refusal| refusal.why.to_string()),
            left_alone: case.left_alone.map(|notable| notable.to_string()),
            exhausted: case.history.is_exhausted(),
        }
    }
}
