//! A target as JSON at `/api/v1/targets`.
use paramedic_core::{
    boot_time::BootTime,
    decide::{Decision, Reasons},
    engine::Case,
    features::{Feature, FeatureVector},
    guard::Gate,
    health::Word,
    target::{Remedy, TargetId},
};
use serde::{Serialize, Serializer};

/// Maximum number of reasons.
pub(crate) const REASONS: usize = 5;

/// One target: its signals, decision and state.
#[derive(Clone, Debug, Serialize)]
pub struct TargetView {
    /// Identity.
    pub id: TargetId,
    /// Readable name.
    pub name: String,
    /// The strongest remedy permitted.
    pub ceiling: Remedy,
    /// What lowered it below what its owner consents to, in words.
    pub capped: Option<String>,
    /// `watching`, `healing` or `verifying`.
    pub state: &'static str,
    /// Whether foreign processes share its cgroup.
    pub shared: bool,
    /// The last row of features, by name; `null` for those that the kernel cannot see.
    pub features: Seen,
    /// The result of the last health poll; `null` if it is not polled.
    pub health: Option<HealthView>,
    /// Why the kernel does not see its HTTP traffic, if so.
    pub blind: Option<String>,
    /// What is seen of its TLS, or why nothing is; `null` if it did not opt in.
    pub tls: Option<String>,
    /// How its clients fare, as the kernel sees it; `null` where it cannot see that.
    pub clients: Option<Clients>,
    /// The last decision; `null` before the first sample.
    pub decision: Option<Decision>,
    /// Its strongest reasons, [`REASONS`] at most; the classifier gives them.
    pub reasons: Option<Reasons>,
    /// Whether its process has ended and no successor was found yet.
    pub absent: bool,
    /// The gate that refuses at present.
    pub refused_by: Option<Gate>,
    /// The reason of that refusal.
    pub refused_why: Option<String>,
    /// What the agent asks people; `null` if nothing.
    pub asks: Option<Asks>,
    /// How far its limits may be raised, and what was done to them; `null` if its owner does not
    /// permit that.
    pub resize: Option<String>,
    /// What was unusual on the machine when a remedy was considered; `null` if nothing was.
    pub witnesses: Option<String>,
    /// The symptom that needs no remedy.
    pub left_alone: Option<String>,
    /// What earlier remedies for its workload showed, one sentence for each remedy and symptom.
    pub remembered: Vec<String>,
    /// Whether every permitted remedy was tried and none helped.
    pub exhausted: bool,
}

/// A request to people that is open.
#[derive(Clone, Debug, Serialize)]
pub struct Asks {
    /// Its text, such as `restart-1a2b3c`.
    pub request: String,
    /// Whether it was approved.
    pub approved: bool,
    /// The pod's namespace; `null` for a service or a container.
    pub namespace: Option<String>,
    /// The pod's name; `null` for a service or a container.
    pub pod: Option<String>,
}

impl Asks {
    /// What is asked about a case.
    #[must_use]
    pub fn of(case: &Case, now: BootTime) -> Option<Self> {
        let asked = case.asked(now)?;
        let pod = case.target.pod();
        Some(Self {
            request: asked.request.to_string(),
            approved: asked.is_approved(),
            namespace: pod.map(|pod| pod.namespace.clone()),
            pod: pod.map(|pod| pod.name.clone()),
        })
    }
}

/// How the clients of a target fare.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Clients {
    /// Half of the responses of the last 10 to 20 s came within this many seconds; `null` without
    /// responses.
    pub duration_p50: Option<f64>,
    /// 95 % of them came within this many seconds.
    pub duration_p95: Option<f64>,
    /// Requests without a response so far.
    pub in_flight: u32,
    /// For how many seconds the oldest of them has waited.
    pub oldest_s: Option<f64>,
}

impl Clients {
    fn of(case: &Case) -> Option<Self> {
        // Of TLS no requests are seen.
        let sees_requests = case.sees_traffic() && !case.target.settings.tls_probes;
        let waiting = case.waiting().filter(|_| sees_requests)?;
        let percentile = |share| case.durations().percentile(share).map(|time| time.as_secs_f64());
        Some(Self {
            duration_p50: percentile(0.5),
            duration_p95: percentile(0.95),
            in_flight: waiting.requests,
            oldest_s: waiting.oldest.map(|oldest| case.decided_at.since(oldest).as_secs_f64()),
        })
    }
}

/// A row of features for display: a missing value is not zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The judged row, in which missing values are neutral.
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

/// The result of a poll.
#[derive(Clone, Debug, Serialize)]
pub struct HealthView {
    /// `well`, `warns`, `ill`, `blames_dependency`, `not_now`, `unreadable`, `silent` or
    /// `not_asked`.
    pub result: &'static str,
    /// The reason, in words.
    pub reason: String,
    /// The polled path.
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
            capped: case.target.settings.capped.map(|capped| capped.to_string()),
            state: case.state.name(),
            shared: case.target.cgroups.shared,
            features: Seen { row: case.row, sees_traffic: case.sees_traffic() },
            health: case.health().map(HealthView::of),
            blind: case.blind().map(|blind| blind.to_string()),
            tls: None,
            decision: case.decision,
            reasons: None,
            absent: !case.is_present(),
            refused_by: case.refused.as_ref().map(|refusal| refusal.gate),
            asks: None,
            resize: None,
            refused_why: case.refused.as_ref().map(|refusal| refusal.why.to_string()),
            clients: Clients::of(case),
            witnesses: case.witnesses().map(ToString::to_string).filter(|text| !text.is_empty()),
            left_alone: case.left_alone.map(|notable| notable.to_string()),
            remembered: Vec::new(),
            exhausted: case.history.is_exhausted(),
        }
    }
}
