//! Prometheus metrics of the agent and its targets.
//!
//! There is one [`Metrics`] with its own registry, registered once and passed down. Each method
//! states what happened, so that no other module knows the name of a metric. Names carry their base
//! unit. Labels have finite sets of values, except those of the target: each target has the same
//! number of series, which are removed with it ([`Metrics::forget_target`]).
mod latency;
mod reference;
mod target;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, time::Duration};

use paramedic_core::{
    decide::{Action, Decision, Source},
    features::{FeatureVector, Load},
    guard::Gate,
    resize::{Direction, Reason, ResizeOutcome, Resource, Step},
    signal::{KernelReading, Trigger},
    target::{Remedy, Target},
    verify::Outcome,
};
use paramedic_probes::Cause;
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

use self::{reference::Described, target::TargetMetrics};
use super::incident::name_of;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Upper bounds in seconds: from a sample of microseconds to one that waits for a slow `/health`.
const SAMPLE_BUCKETS: [f64; 10] = [1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 0.1, 0.5, 1.0];

/// Upper bounds in seconds: from a soft remedy that helps at once to a pod that starts slowly.
const HEAL_BUCKETS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0];

/// The value of the label `remedy` for a resize in place.
const RESIZE: &str = "resize";

/// The value of the label `means` for a resize in place.
const fn means_of(resource: Resource, direction: Direction) -> &'static str {
    match (resource, direction) {
        (Resource::Cpu, Direction::Up) => "cpu_up",
        (Resource::Cpu, Direction::Down) => "cpu_down",
        (Resource::Memory, Direction::Up) => "memory_up",
        (Resource::Memory, Direction::Down) => "memory_down",
    }
}

/// The state of a target; it is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetState {
    /// Too few samples to judge it.
    Unknown,
    /// The last decision was to do nothing.
    Well,
    /// The last decision was a remedy, which is not or not yet applied.
    Sick,
    /// A remedy is being applied.
    Healing,
    /// A remedy was applied and is being verified.
    Verifying,
    /// Every permitted remedy was tried and none helped.
    Exhausted,
}

impl TargetState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Well, Self::Sick, Self::Healing, Self::Verifying, Self::Exhausted];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Well => "well",
            Self::Sick => "sick",
            Self::Healing => "healing",
            Self::Verifying => "verifying",
            Self::Exhausted => "exhausted",
        }
    }
}

/// All metrics of the agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
    targets: IntGauge,
    samples: IntCounterVec,
    sample_duration: Histogram,
    wakeups: IntCounterVec,
    health_polls: IntCounterVec,
    decisions: IntCounterVec,
    refusals: IntCounterVec,
    resize_refusals: IntCounterVec,
    heals: IntCounterVec,
    drains: IntCounterVec,
    heal_duration: HistogramVec,
    probe_attached: IntGaugeVec,
    model_info: IntGaugeVec,
    rules_active: IntGauge,
    journal_writable: IntGauge,
    withheld: IntCounterVec,
    api_requests: IntCounterVec,
    api_heard: IntGauge,
    notifications: IntCounterVec,
    notifications_pending: IntGaugeVec,
    target: TargetMetrics,
}

/// The kinds of channels through which people are told, as in the label `channel`.
pub const CHANNELS: [&str; 4] = ["webhook", "slack", "alertmanager", "pagerduty"];

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotificationResult {
    /// The receiver has accepted it.
    Delivered,
    /// The receiver has refused it for good.
    Refused,
    /// It could not be delivered within the time limit.
    Expired,
    /// There were too many, or it was for a channel that no longer exists.
    Dropped,
}

impl NotificationResult {
    /// All results.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Refused, Self::Expired, Self::Dropped];

    /// The value of the label, and the result in the journal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

impl Metrics {
    /// Registers all metrics. Series with known label values start at 0, so that the first event is
    /// already an increase.
    ///
    /// # Errors
    /// Only if a metric's definition is invalid or duplicated: a bug.
    pub fn new(version: &str) -> Result<Self, Error> {
        let registry = Registry::new();
        let make = Maker { registry: &registry, described: RefCell::default() };
        let build =
            make.gauges("build_info", "Always 1; the label is the agent's version.", &["version"])?;
        build.with_label_values(&[version]).set(1);
        let metrics = Self {
            targets: make.gauge("targets", "Targets that the agent watches.")?,
            samples: make.counters(
                "samples_total",
                "Samples of a target, each with a decision, by trigger: the regular tick, a \
                 wake-up by the kernel, a verdict to confirm, a remedy to verify.",
                &["trigger"],
            )?,
            sample_duration: make.add(Histogram::with_opts(
                HistogramOpts::new(
                    "paramedic_sample_duration_seconds",
                    "Duration of one sample of one target, from reading the signals to the \
                     verdict, in seconds. The poll of /health runs in parallel and is not \
                     included.",
                )
                .buckets(SAMPLE_BUCKETS.to_vec()),
            ))?,
            wakeups: make.counters(
                "wakeups_total",
                "Wake-ups by the kernel, by the first bad event that caused them. The kernel \
                 wakes the agent at most once per sample, so this counts requested samples, not \
                 events.",
                &["cause"],
            )?,
            health_polls: make.counters(
                "health_polls_total",
                "Polls of a target's health endpoint, by result: well, warns, ill, \
                 blames_dependency, not_now, or the name of the error that prevented a readable \
                 response.",
                &["result"],
            )?,
            decisions: make.counters(
                "decisions_total",
                "Decisions by recommended action and by source (model or rules). They are advice: \
                 most are no_action, and the guard may refuse the others.",
                &["action", "source"],
            )?,
            refusals: make.counters(
                "refusals_total",
                "Remedies that the guard refused, by the first gate that refused.",
                &["gate"],
            )?,
            resize_refusals: make.counters(
                "resize_refusals_total",
                "Resizes in place that were wanted and not made, by reason.",
                &["reason"],
            )?,
            heals: make.counters(
                "heals_total",
                "Remedies applied, by remedy, by its means (of a soft one `http` or `signal`, of a restart \
                 `drain` and of an eviction `quarantine` if the owner opted into that, of a resize \
                 resource and direction as in `cpu_up` or `memory_down`), and by verified \
                 outcome.",
                &["remedy", "means", "outcome"],
            )?,
            drains: make.counters(
                "drains_total",
                "Restarts of pods whose owner wants them drained before, by what became of the drain: \
                 `drained`; `nothing_to_drain` (no Service selects the pod, or it serves nobody); \
                 `abandoned` (put back, or not taken out, and not restarted).",
                &["result"],
            )?,
            heal_duration: make.add(HistogramVec::new(
                HistogramOpts::new(
                    "paramedic_heal_duration_seconds",
                    "Time from the intention in the journal to the verified outcome, in seconds. \
                     It includes the verification window.",
                )
                .buckets(HEAL_BUCKETS.to_vec()),
                &["remedy"],
            ))?,
            probe_attached: make.gauges(
                "probe_attached",
                "1 if the agent reads the kernel signal by this mechanism, 0 if it could not be \
                 attached; `paramedic check` shows why.",
                &["signal", "mechanism"],
            )?,
            model_info: make.gauges(
                "model_info",
                "Always 1; the labels name the model in use: its engine, its source and its \
                 version. No series while the rules decide.",
                &["engine", "source", "version"],
            )?,
            rules_active: make.gauge(
                "rules_active",
                "1 while the built-in rules decide because no model is usable, else 0.",
            )?,
            journal_writable: make.gauge(
                "journal_writable",
                "1 if the agent can write incidents to disk, else 0. Without a journal it applies \
                 no hard remedy.",
            )?,
            withheld: make.counters(
                "heals_withheld_total",
                "Remedies that every gate permitted but that were not applied because of \
                 --dry-run.",
                &["remedy"],
            )?,
            api_requests: make.counters(
                "api_requests_total",
                "Requests to the Kubernetes API server, by method and status; status 0 means no \
                 response. A watch is one request.",
                &["method", "status"],
            )?,
            api_heard: make.gauge(
                "api_server_heard",
                "1 while the agent receives the watch of this node's pods, else 0: then it \
                 applies no hard remedy. Always 0 outside a cluster.",
            )?,
            notifications: make.counters(
                "notifications_total",
                "Notifications of --notify, by kind of channel and by what became of them: \
                 delivered, refused by the receiver, expired after an hour of attempts, or \
                 dropped because too many waited.",
                &["channel", "result"],
            )?,
            notifications_pending: make.gauges(
                "notifications_pending",
                "Notifications of --notify that wait for their delivery, by kind of channel.",
                &["channel"],
            )?,
            target: TargetMetrics::default(),
            described: make
                .described
                .into_inner()
                .into_iter()
                .chain(TargetMetrics::described())
                .collect(),
            registry,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn start_at_zero(&self) {
        for trigger in Trigger::ALL {
            self.samples.with_label_values(&[trigger.name()]);
        }
        for cause in [Cause::Http5xx, Cause::Reset, Cause::Throttled, Cause::OomKill] {
            self.wakeups.with_label_values(&[cause.name()]);
        }
        self.health_polls.with_label_values(&["ok"]);
        for channel in CHANNELS {
            self.notifications_pending.with_label_values(&[channel]);
            for result in NotificationResult::ALL {
                self.notifications.with_label_values(&[channel, result.name()]);
            }
        }
        for gate in Gate::ALL {
            self.refusals.with_label_values(&[gate.name()]);
        }
        for action in Action::ALL {
            for source in [Source::Model, Source::Rules] {
                self.decisions.with_label_values(&[action.name(), name_of(source)]);
            }
        }
        for result in ["drained", "nothing_to_drain", "abandoned"] {
            self.drains.with_label_values(&[result]);
        }
        for reason in Reason::ALL {
            self.resize_refusals.with_label_values(&[reason.name()]);
        }
        self.heal_duration.with_label_values(&[RESIZE]);
        self.withheld.with_label_values(&[RESIZE]);
        for (resource, direction) in
            Resource::ALL.into_iter().flat_map(|resource| Direction::ALL.map(|way| (resource, way)))
        {
            for outcome in ResizeOutcome::ALL {
                let means = means_of(resource, direction);
                self.heals.with_label_values(&[RESIZE, means, outcome.name()]);
            }
        }
        for remedy in [Remedy::Soft, Remedy::Restart, Remedy::Evict] {
            self.heal_duration.with_label_values(&[remedy.name()]);
            self.withheld.with_label_values(&[remedy.name()]);
            for outcome in [
                Outcome::Healed,
                Outcome::NotHealed,
                Outcome::Worse,
                Outcome::Unverified,
                Outcome::Failed,
            ] {
                let all: [&str; 2] = match remedy {
                    Remedy::Soft => ["http", "signal"],
                    Remedy::Restart => ["", "drain"],
                    _ => ["", "quarantine"],
                };
                for means in all {
                    self.heals.with_label_values(&[remedy.name(), means, outcome.name()]);
                }
            }
        }
    }

    /// Sets the number of watched targets.
    pub fn set_targets(&self, count: usize) {
        self.targets.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a sample of one target and its duration.
    pub fn sample(&self, trigger: Trigger, took: Duration) {
        self.samples.with_label_values(&[trigger.name()]).inc();
        self.sample_duration.observe(took.as_secs_f64());
    }

    /// Counts a wake-up by the kernel.
    pub fn wakeup(&self, cause: Cause) {
        self.wakeups.with_label_values(&[cause.name()]).inc();
    }

    /// Counts a poll of `/health`: `ok`, or the name of its error.
    pub fn health_poll(&self, result: &'static str) {
        self.health_polls.with_label_values(&[result]).inc();
    }

    /// Counts a decision.
    pub fn decision(&self, action: Action, source: Source) {
        self.decisions.with_label_values(&[action.name(), name_of(source)]).inc();
    }

    /// Counts a refusal by a gate of the guard.
    pub fn refusal(&self, gate: Gate) {
        self.refusals.with_label_values(&[gate.name()]).inc();
    }

    /// Refusals since the start, in the order in which the gates are asked.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Gate, u64)> {
        let so_far = |gate: Gate| (gate, self.refusals.with_label_values(&[gate.name()]).get());
        Gate::ALL.map(so_far).to_vec()
    }

    /// Counts a remedy with its outcome, and the time since the intention; `None` if that was in an
    /// earlier boot. `means` is how it was applied: [`Settings::means`].
    ///
    /// [`Settings::means`]: paramedic_core::target::Settings::means
    pub fn heal(&self, remedy: Remedy, means: &str, outcome: Outcome, took: Option<Duration>) {
        self.heals.with_label_values(&[remedy.name(), means, outcome.name()]).inc();
        if let Some(took) = took {
            self.heal_duration.with_label_values(&[remedy.name()]).observe(took.as_secs_f64());
        }
    }

    /// Counts a restart of a target whose owner wants a drain, by what became of that.
    pub fn drain(&self, result: &'static str) {
        self.drains.with_label_values(&[result]).inc();
    }

    /// Counts a resize in place with its outcome and the time since it was accepted.
    pub fn resize(&self, step: &Step, outcome: ResizeOutcome, took: Duration) {
        let means = means_of(step.resource, step.direction());
        self.heals.with_label_values(&[RESIZE, means, outcome.name()]).inc();
        self.heal_duration.with_label_values(&[RESIZE]).observe(took.as_secs_f64());
    }

    /// Counts a resize in place that was not made.
    pub fn resize_refused(&self, reason: Reason) {
        self.resize_refusals.with_label_values(&[reason.name()]).inc();
    }

    /// Counts a resize in place that was planned and, on purpose, not made.
    pub fn resize_withheld(&self) {
        self.withheld.with_label_values(&[RESIZE]).inc();
    }

    /// Sets whether the agent reads a kernel signal by this mechanism.
    pub fn probe(&self, signal: &'static str, mechanism: &'static str, attached: bool) {
        self.probe_attached.with_label_values(&[signal, mechanism]).set(attached.into());
    }

    /// Sets the model in use: its engine, source and version.
    pub fn model(&self, engine: &'static str, source: &'static str, version: &str) {
        self.model_info.reset();
        self.model_info.with_label_values(&[engine, source, version]).set(1);
        self.rules_active.set(0);
    }

    /// Sets that the rules decide.
    pub fn rules(&self) {
        self.model_info.reset();
        self.rules_active.set(1);
    }

    /// Sets whether incidents can be written to disk.
    pub fn set_journal_writable(&self, writable: bool) {
        self.journal_writable.set(writable.into());
    }

    /// Counts a remedy that the dry run did not apply.
    pub fn withheld(&self, remedy: Remedy) {
        self.withheld.with_label_values(&[remedy.name()]).inc();
    }

    /// Counts a request to the API server by status; 0 means no response.
    pub fn api_request(&self, method: &str, status: u16) {
        self.api_requests.with_label_values(&[method, &status.to_string()]).inc();
    }

    /// Sets whether the agent receives the watch of the API server.
    pub fn set_api_server_heard(&self, heard: bool) {
        self.api_heard.set(heard.into());
    }

    /// Counts a notification by what became of it; `channel` is one of [`CHANNELS`].
    pub fn notification(&self, channel: &'static str, result: NotificationResult) {
        self.notifications.with_label_values(&[channel, result.name()]).inc();
    }

    /// Adds to the number of notifications that wait for a channel of this kind.
    pub fn notifications_pending(&self, channel: &'static str, more: i64) {
        self.notifications_pending.with_label_values(&[channel]).add(more);
    }

    /// Sets the row that the model saw of a target, and its verdict.
    pub fn target_verdict(
        &self,
        target: &Target,
        row: &FeatureVector,
        decision: &Decision,
        sees_traffic: bool,
    ) {
        self.target.verdict(target, row, decision, sees_traffic);
    }

    /// Sets that the kernel does not see the target's HTTP.
    pub fn target_blind(&self, target: &Target) {
        self.target.blind(target);
    }

    /// Sets the load of a target, as far as it is known.
    pub fn target_load(&self, target: &Target, load: Option<&Load>) {
        self.target.load(target, load);
    }

    /// Removes the series of load and verdict of an absent target.
    pub fn target_absent(&self, target: &Target) {
        self.target.absent(target);
    }

    /// Sets the HTTP responses of a target that the kernel has counted, by class (1xx to 5xx).
    pub fn target_responses(&self, target: &Target, so_far: &[u64; 5]) {
        self.target.responses(target, so_far);
    }

    /// Sets what else the kernel counted of a target's traffic.
    pub fn target_traffic(&self, target: &Target, kernel: &KernelReading) {
        self.target.traffic(target, kernel);
    }

    /// Sets the state of a target.
    pub fn target_state(&self, target: &Target, state: TargetState) {
        self.target.state(target, state);
    }

    /// Removes all series of a target. Call it last: a later call for this target creates them
    /// again.
    pub fn forget_target(&self, target: &Target) {
        self.target.forget(target);
    }

    /// Renders the text exposition format, see [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// Only if a metric is malformed: a bug.
    pub fn render(&self) -> Result<String, Error> {
        let mut page = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        self.target.render(&mut page)?;
        Ok(page)
    }
}

/// Creates metrics with the prefix `paramedic_` and registers them.
struct Maker<'a> {
    registry: &'a Registry,
    described: RefCell<Vec<Described>>,
}

impl Maker<'_> {
    fn add<C: Collector + Clone + 'static>(&self, metric: Result<C, Error>) -> Result<C, Error> {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        self.described.borrow_mut().extend(Described::of(&metric));
        Ok(metric)
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("paramedic")
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.add(IntGaugeVec::new(Self::opts(name, help), labels))
    }
}
