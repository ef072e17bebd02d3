//! The series of a target: a fixed number, created and removed together.
//!
//! Each sample sets all of them. Finding a series by its labels costs more than setting it, so the
//! series of each target are kept.
use std::{array, collections::HashMap};

use paramedic_core::{
    decide::{Action, Decision},
    features::{FEATURES, Feature, FeatureVector, Load},
    signal::KernelReading,
    target::Target,
};
use parking_lot::Mutex;
use prometheus::{Error, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::{Maker, TargetState, latency::RequestDurations};

/// The labels that identify a target: namespace and name for a pod, else `target`. An unused label
/// is empty, which Prometheus treats like a missing label.
pub(super) const TARGET: [&str; 3] = ["namespace", "pod", "target"];

/// The values of [`TARGET`], and of one more label.
fn labels<'a>(target: &'a Target, more: &'a str) -> [&'a str; 4] {
    let [namespace, pod, name] = identity(target);
    [namespace, pod, name, more]
}

pub(super) fn identity(target: &Target) -> [&str; 3] {
    match target.pod() {
        Some(pod) => [&pod.namespace, &pod.name, ""],
        None => ["", "", &target.name],
    }
}

/// Classes of HTTP responses, as label values.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Reasons why a message was not read, as label values.
const UNREADABLE: [&str; 2] = ["not_understood", "unknown_status"];
/// Reasons for which requests got no response.
const UNANSWERED: [&str; 2] = ["dropped", "given_up"];

#[derive(Debug)]
pub(super) struct TargetMetrics {
    responses: IntCounterVec,
    features: GaugeVec,
    unhealthy: GaugeVec,
    load: [GaugeVec; 4],
    states: IntGaugeVec,
    blind: IntGaugeVec,
    durations: RequestDurations,
    in_flight: GaugeVec,
    unreadable: IntCounterVec,
    unanswered: IntCounterVec,
    /// By the target's uid.
    known: Mutex<HashMap<String, Series>>,
}

/// The series of one target; `None` for one that does not exist.
#[derive(Debug, Default)]
struct Series {
    responses: Option<[IntCounter; 5]>,
    features: [Option<Gauge>; FEATURES.len()],
    unhealthy: Option<Gauge>,
    load: [Option<Gauge>; 4],
    in_flight: Option<Gauge>,
    unreadable: Option<[IntCounter; 2]>,
    unanswered: Option<[IntCounter; 2]>,
    state: Option<TargetState>,
}

/// Raises a counter to what the kernel has counted since the start of watching. A smaller count is a
/// fresh start, and is exported as a counter reset, which Prometheus handles.
fn count_to(counter: &IntCounter, so_far: u64) {
    if so_far < counter.get() {
        counter.reset();
    }
    counter.inc_by(so_far.saturating_sub(counter.get()));
}

/// Sets a series, which is created if it does not exist; removes it if there is no value.
fn set(known: &mut Option<Gauge>, of: &GaugeVec, labels: &[&str], value: Option<f64>) {
    match value {
        Some(value) => known.get_or_insert_with(|| of.with_label_values(labels)).set(value),
        None if known.take().is_some() => drop(of.remove_label_values(labels)),
        None => {}
    }
}

impl TargetMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            responses: make.counters(
                "target_http_responses_total",
                "HTTP responses that the kernel saw the target send, by class. They include \
                 the responses to the agent's own polls of /health.",
                &[TARGET[0], TARGET[1], TARGET[2], "class"],
            )?,
            features: make.ratios(
                "target_feature",
                "Last row that the model saw of the target: one series per column of the feature \
                 schema, in the unit of the column (percent, seconds, per second, 0-1).",
                &[TARGET[0], TARGET[1], TARGET[2], "feature"],
            )?,
            unhealthy: make.ratios(
                "target_unhealthy_probability",
                "Calibrated probability that the target needs a remedy, 0 to 1: 1 minus the \
                 probability of no_action.",
                &TARGET,
            )?,
            load: [
                make.ratios(
                    "target_http_requests_per_second",
                    "HTTP responses per second over the last 10 s without those to the \
                     agent's own polls, as the metrics API serves them for autoscaling. No series \
                     if the kernel cannot read the traffic.",
                    &TARGET,
                )?,
                make.ratios(
                    "target_http_5xx_ratio",
                    "Share of 5xx among the responses of \
                     paramedic_target_http_requests_per_second, 0 to 1; 0 if there were no \
                     responses.",
                    &TARGET,
                )?,
                make.ratios(
                    "target_cpu_throttled_ratio",
                    "Share of the CPU quota periods of the last 10 s in which the kernel \
                     throttled the target, 0 to 1.",
                    &TARGET,
                )?,
                make.ratios(
                    "target_http_request_duration_p95_seconds",
                    "Time within which 95 % of the responses of the last 10 to 20 s came, in \
                     seconds; without responses how long the oldest request waits, 0 if none does.",
                    &TARGET,
                )?,
            ],
            blind: make.gauges(
                "target_blind",
                "1 if the agent's own polls are answered but the kernel does not see the \
                 responses (TLS, a socket of another cgroup): the target's HTTP series are \
                 missing, not zero.",
                &TARGET,
            )?,
            states: make.gauges(
                "target_state",
                "1 for the current state of the target, 0 for the others: unknown, well, sick, \
                 healing, verifying, exhausted (every permitted remedy was tried).",
                &[TARGET[0], TARGET[1], TARGET[2], "state"],
            )?,
            durations: make.add(RequestDurations::new())?,
            in_flight: make.ratios(
                "target_http_requests_in_flight",
                "Requests to the target without a response so far, at its last sample. No series if \
                 the kernel cannot tell.",
                &TARGET,
            )?,
            unreadable: make.counters(
                "target_http_unreadable_total",
                "HTTP messages of the target and of its clients that the kernel saw and could not \
                 read, by reason: not_understood (no message was found where one begins, or a packet \
                 was not followed to its end), unknown_status (HTTP/2: the status refers to what was \
                 said before the agent watched the connection).",
                &[TARGET[0], TARGET[1], TARGET[2], "reason"],
            )?,
            unanswered: make.counters(
                "target_http_requests_unanswered_total",
                "Requests to the target that ended without a response, by reason: dropped (the target \
                 closed the connection or the stream), given_up (the client did).",
                &[TARGET[0], TARGET[1], TARGET[2], "reason"],
            )?,
            known: Mutex::default(),
        })
    }

    fn with(&self, target: &Target, change: impl FnOnce(&mut Series)) {
        let mut known = self.known.lock();
        if let Some(series) = known.get_mut(&target.id.uid) {
            change(series);
        } else {
            change(known.entry(target.id.uid.clone()).or_default());
        }
    }

    pub(super) fn verdict(
        &self,
        target: &Target,
        row: &FeatureVector,
        decision: &Decision,
        sees_traffic: bool,
    ) {
        self.with(target, |series| {
            for feature in Feature::ALL {
                // A zero would mean an idle service.
                let is_known = sees_traffic || !feature.is_http();
                let value = is_known.then(|| f64::from(row[feature]));
                let labels = labels(target, feature.name());
                set(&mut series.features[feature as usize], &self.features, &labels, value);
            }
            let well = f64::from(decision.probabilities[Action::NoAction as usize]);
            let value = Some((1.0 - well).clamp(0.0, 1.0));
            set(&mut series.unhealthy, &self.unhealthy, &identity(target), value);
        });
    }

    /// An unknown value has no series: a zero would be a value.
    pub(super) fn load(&self, target: &Target, load: Option<&Load>) {
        self.with(target, |series| {
            let values = load.map_or([None; 4], |load| {
                [load.responses_per_second, load.ratio_5xx, load.throttled_ratio, load.p95_seconds]
            });
            for ((known, of), value) in series.load.iter_mut().zip(&self.load).zip(values) {
                set(known, of, &identity(target), value.map(f64::from));
            }
        });
    }

    /// Removes the series that autoscalers read. The judged row stays, for display.
    pub(super) fn absent(&self, target: &Target) {
        self.with(target, |series| {
            set(&mut series.unhealthy, &self.unhealthy, &identity(target), None);
        });
        self.load(target, None);
    }

    /// What the kernel counted beside the responses.
    pub(super) fn traffic(&self, target: &Target, kernel: &KernelReading) {
        if let Some(latencies) = &kernel.latencies {
            self.durations.set(target, latencies);
        }
        self.with(target, |series| {
            let in_flight = kernel.waiting.map(|waiting| f64::from(waiting.requests));
            set(&mut series.in_flight, &self.in_flight, &identity(target), in_flight);
            let of = |reason: usize| {
                self.unreadable.with_label_values(&labels(target, UNREADABLE[reason]))
            };
            let counters = series.unreadable.get_or_insert_with(|| array::from_fn(of));
            let so_far = [kernel.counters.not_understood, kernel.counters.unknown];
            for (counter, so_far) in counters.iter().zip(so_far) {
                count_to(counter, so_far);
            }
            let of = |reason: usize| {
                self.unanswered.with_label_values(&labels(target, UNANSWERED[reason]))
            };
            let counters = series.unanswered.get_or_insert_with(|| array::from_fn(of));
            let so_far = [kernel.counters.dropped, kernel.counters.given_up.iter().sum()];
            for (counter, so_far) in counters.iter().zip(so_far) {
                count_to(counter, so_far);
            }
        });
    }

    pub(super) fn responses(&self, target: &Target, so_far: &[u64; 5]) {
        self.with(target, |series| {
            let of =
                |class: usize| self.responses.with_label_values(&labels(target, CLASSES[class]));
            let counters = series.responses.get_or_insert_with(|| array::from_fn(of));
            for (counter, &so_far) in counters.iter().zip(so_far) {
                count_to(counter, so_far);
            }
        });
    }

    pub(super) fn blind(&self, target: &Target) {
        self.blind.with_label_values(&identity(target)).set(1);
    }

    pub(super) fn state(&self, target: &Target, state: TargetState) {
        self.with(target, |series| {
            if series.state.replace(state) == Some(state) {
                return;
            }
            for other in TargetState::ALL {
                let gauge = self.states.with_label_values(&labels(target, other.name()));
                gauge.set((other == state).into());
            }
        });
    }

    /// Removes the series of a target, as far as they exist.
    pub(super) fn forget(&self, target: &Target) {
        self.absent(target);
        self.durations.forget(target);
        let _ = self.in_flight.remove_label_values(&identity(target));
        for reason in UNREADABLE {
            let _ = self.unreadable.remove_label_values(&labels(target, reason));
        }
        for reason in UNANSWERED {
            let _ = self.unanswered.remove_label_values(&labels(target, reason));
        }
        self.known.lock().remove(&target.id.uid);
        for class in CLASSES {
            let _ = self.responses.remove_label_values(&labels(target, class));
        }
        for feature in FEATURES {
            let _ = self.features.remove_label_values(&labels(target, feature));
        }
        let _ = self.blind.remove_label_values(&identity(target));
        for state in TargetState::ALL {
            let _ = self.states.remove_label_values(&labels(target, state.name()));
        }
    }
}
