//! The series of a target: a fixed number, created and removed together.
//!
//! A node has hundreds of targets, each sampled many times between two scrapes. So a sample only stores
//! its values here, and the series are made when somebody asks for them.
use std::collections::HashMap;

use agent_common::Latencies;
use paramedic_core::{
    decide::{Action, Decision},
    features::{Feature, FeatureVector, Load},
    signal::KernelReading,
    target::Target,
};
use parking_lot::Mutex;
use prometheus::{
    Error, TextEncoder,
    proto::{Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{TargetState, latency, reference::Described};

/// The labels that identify a target: namespace and name for a pod, else `target`. An unused label
/// is empty, which Prometheus treats like a missing label.
const TARGET: [&str; 3] = ["namespace", "pod", "target"];

/// The values of [`TARGET`].
fn identity(target: &Target) -> [&str; 3] {
    match target.pod() {
        Some(pod) => [&pod.namespace, &pod.name, ""],
        None => ["", "", &target.name],
    }
}

/// A metric of targets.
struct Family {
    name: &'static str,
    help: &'static str,
    /// The label beside [`TARGET`], if there is one.
    label: Option<&'static str>,
    series: Series,
}

/// The series of one target. A series without a value does not exist: a zero would be a value.
enum Series {
    Gauge(fn(&Values) -> Option<f64>),
    /// Each with its value of the label.
    Gauges(fn(&Values, &mut dyn FnMut(&'static str, f64))),
    /// One for each of these values of the label; the counts are empty if they are not known.
    Counters(&'static [&'static str], fn(&Values) -> &[u64]),
    Histogram(fn(&Values) -> Option<Histogram>),
}

/// In the order in which they are rendered.
static FAMILIES: [Family; 13] = [
    Family {
        name: "paramedic_target_blind",
        help: "1 if the agent's own polls are answered but the kernel does not see the responses (TLS, \
               a socket of another cgroup): the target's HTTP series are missing, not zero.",
        label: None,
        series: Series::Gauge(|values| values.is_blind.then_some(1.0)),
    },
    Family {
        name: "paramedic_target_cpu_throttled_ratio",
        help: "Share of the CPU quota periods of the last 10 s in which the kernel throttled the \
               target, 0 to 1.",
        label: None,
        series: Series::Gauge(|values| values.load?.throttled_ratio.map(f64::from)),
    },
    Family {
        name: "paramedic_target_feature",
        help: "Last row that the model saw of the target: one series per column of the feature schema, \
               in the unit of the column (percent, seconds, per second, 0-1).",
        label: Some("feature"),
        series: Series::Gauges(|values, add| {
            let Some((row, sees_traffic)) = &values.row else { return };
            // A zero would mean an idle service.
            let known = Feature::ALL.into_iter().filter(|f| *sees_traffic || !f.is_http());
            known.for_each(|feature| add(feature.name(), row[feature].into()));
        }),
    },
    Family {
        name: "paramedic_target_http_5xx_ratio",
        help: "Share of 5xx among the responses of paramedic_target_http_requests_per_second, 0 to 1; 0 \
               if there were no responses.",
        label: None,
        series: Series::Gauge(|values| values.load?.ratio_5xx.map(f64::from)),
    },
    Family {
        name: "paramedic_target_http_request_duration_p95_seconds",
        help: "Time within which 95 % of the responses of the last 10 to 20 s came, in seconds; without \
               responses how long the oldest request waits, 0 if none does.",
        label: None,
        series: Series::Gauge(|values| values.load?.p95_seconds.map(f64::from)),
    },
    Family {
        name: "paramedic_target_http_request_duration_seconds",
        help: "Time from the first byte of a request to the head of its final response, as the kernel \
               saw it, since the target's instance is watched. The sum is estimated: each response \
               counts as the middle of its bucket.",
        label: None,
        series: Series::Histogram(|values| values.latencies.as_ref().map(latency::histogram)),
    },
    Family {
        name: "paramedic_target_http_requests_in_flight",
        help: "Requests to the target without a response so far, at its last sample. No series if the \
               kernel cannot tell.",
        label: None,
        series: Series::Gauge(|values| values.in_flight.map(f64::from)),
    },
    Family {
        name: "paramedic_target_http_requests_per_second",
        help: "HTTP responses per second over the last 10 s without those to the agent's own polls, as \
               the metrics API serves them for autoscaling. No series if the kernel cannot read the \
               traffic.",
        label: None,
        series: Series::Gauge(|values| values.load?.responses_per_second.map(f64::from)),
    },
    Family {
        name: "paramedic_target_http_requests_unanswered_total",
        help: "Requests to the target that ended without a response, by reason: dropped (the target \
               closed the connection or the stream), given_up (the client did).",
        label: Some("reason"),
        series: Series::Counters(&["dropped", "given_up"], |values| {
            values.unanswered.as_slice().as_flattened()
        }),
    },
    Family {
        name: "paramedic_target_http_responses_total",
        help: "HTTP responses that the kernel saw the target send, by class. They include the responses \
               to the agent's own polls of /health.",
        label: Some("class"),
        series: Series::Counters(&["1xx", "2xx", "3xx", "4xx", "5xx"], |values| {
            values.responses.as_slice().as_flattened()
        }),
    },
    Family {
        name: "paramedic_target_http_unreadable_total",
        help: "HTTP messages of the target and of its clients that the kernel saw and could not read, by \
               reason: not_understood (no message was found where one begins, or a packet was not \
               followed to its end), unknown_status (HTTP/2: the status refers to what was said before \
               the agent watched the connection).",
        label: Some("reason"),
        series: Series::Counters(&["not_understood", "unknown_status"], |values| {
            values.unreadable.as_slice().as_flattened()
        }),
    },
    Family {
        name: "paramedic_target_state",
        help: "1 for the current state of the target, 0 for the others: unknown, well, sick, healing, \
               verifying, exhausted (every permitted remedy was tried).",
        label: Some("state"),
        series: Series::Gauges(|values, add| {
            let Some(state) = values.state else { return };
            for other in TargetState::ALL {
                add(other.name(), f64::from(u8::from(other == state)));
            }
        }),
    },
    Family {
        name: "paramedic_target_unhealthy_probability",
        help: "Calibrated probability that the target needs a remedy, 0 to 1: 1 minus the probability of \
               no_action.",
        label: None,
        series: Series::Gauge(|values| values.unhealthy),
    },
];

/// The last values of all targets, by their uid.
#[derive(Debug, Default)]
pub(super) struct TargetMetrics(Mutex<HashMap<String, Values>>);

/// The last values of one target, as far as they are known. The counts are the kernel's since it watches
/// the instance, in the order of the labels in [`FAMILIES`].
#[derive(Debug, Default)]
struct Values {
    identity: [String; 3],
    /// The row that the model saw, and whether the kernel saw the target's HTTP.
    row: Option<(FeatureVector, bool)>,
    unhealthy: Option<f64>,
    load: Option<Load>,
    state: Option<TargetState>,
    is_blind: bool,
    responses: Option<[u64; 5]>,
    unanswered: Option<[u64; 2]>,
    unreadable: Option<[u64; 2]>,
    latencies: Option<Latencies>,
    in_flight: Option<u32>,
}

impl TargetMetrics {
    fn with(&self, target: &Target, change: impl FnOnce(&mut Values)) {
        let (mut known, identity) = (self.0.lock(), identity(target));
        if let Some(values) = known.get_mut(&target.id.uid)
            && values.identity == identity
        {
            return change(values);
        }
        // A container was renamed, or this pod succeeds one of its name whose end is still awaited. Two
        // series with the same labels would be invalid.
        let mut values = known.remove(&target.id.uid).unwrap_or_default();
        known.retain(|_, other| other.identity != identity);
        values.identity = identity.map(str::to_owned);
        change(known.entry(target.id.uid.clone()).or_insert(values));
    }

    pub(super) fn verdict(
        &self,
        target: &Target,
        row: &FeatureVector,
        decision: &Decision,
        sees_traffic: bool,
    ) {
        let well = f64::from(decision.probabilities[Action::NoAction as usize]);
        self.with(target, |values| {
            values.row = Some((*row, sees_traffic));
            values.unhealthy = Some((1.0 - well).clamp(0.0, 1.0));
        });
    }

    pub(super) fn load(&self, target: &Target, load: Option<&Load>) {
        self.with(target, |values| values.load = load.copied());
    }

    /// Removes the series that autoscalers read. The judged row stays, for display.
    pub(super) fn absent(&self, target: &Target) {
        self.with(target, |values| (values.unhealthy, values.load) = (None, None));
    }

    /// What the kernel counted beside the responses.
    pub(super) fn traffic(&self, target: &Target, kernel: &KernelReading) {
        let counters = &kernel.counters;
        self.with(target, |values| {
            values.latencies = kernel.latencies.or(values.latencies);
            values.in_flight = kernel.waiting.map(|waiting| waiting.requests);
            values.unanswered = Some([counters.dropped, counters.given_up.iter().sum()]);
            values.unreadable = Some([counters.not_understood, counters.unknown]);
        });
    }

    /// What the kernel has counted since the start of watching. A smaller count is a fresh start, which
    /// Prometheus handles as a counter reset.
    pub(super) fn responses(&self, target: &Target, so_far: &[u64; 5]) {
        self.with(target, |values| values.responses = Some(*so_far));
    }

    pub(super) fn blind(&self, target: &Target) {
        self.with(target, |values| values.is_blind = true);
    }

    pub(super) fn state(&self, target: &Target, state: TargetState) {
        self.with(target, |values| values.state = Some(state));
    }

    pub(super) fn forget(&self, target: &Target) {
        self.0.lock().remove(&target.id.uid);
    }

    /// Appends all families, one after the other: all at once they would take as much memory as
    /// everything else that is known of the targets.
    pub(super) fn render(&self, page: &mut String) -> Result<(), Error> {
        let known = self.0.lock();
        let mut targets: Vec<&Values> = known.values().collect();
        targets.sort_unstable_by_key(|values| &values.identity);
        for family in &FAMILIES {
            let metrics: Vec<Metric> =
                targets.iter().flat_map(|values| family.metrics(values)).collect();
            // The encoder refuses a family without series.
            if !metrics.is_empty() {
                TextEncoder::new().encode_utf8(&[family.with(metrics)], page)?;
            }
        }
        Ok(())
    }

    /// The families, whether they have series or not.
    pub(super) fn described() -> impl Iterator<Item = Described> {
        FAMILIES.iter().map(|family| {
            let labels = TARGET.into_iter().chain(family.label);
            Described::new(family.name, family.kind(), labels, family.help)
        })
    }
}

impl Family {
    const fn kind(&self) -> MetricType {
        match self.series {
            Series::Gauge(_) | Series::Gauges(_) => MetricType::GAUGE,
            Series::Counters(..) => MetricType::COUNTER,
            Series::Histogram(_) => MetricType::HISTOGRAM,
        }
    }

    fn with(&self, metrics: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind());
        family.set_metric(metrics);
        family
    }

    /// The series of one target.
    fn metrics(&self, values: &Values) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let mut add = |more: Option<&str>, value: Value| {
            metrics.push(self.metric(values, more, value));
        };
        match self.series {
            Series::Gauge(of) => of(values).into_iter().for_each(|v| add(None, Value::Gauge(v))),
            Series::Gauges(of) => of(values, &mut |more, v| add(Some(more), Value::Gauge(v))),
            Series::Counters(labels, of) => {
                let counts = of(values).iter().map(|&count| Value::Counter(count as f64));
                labels.iter().zip(counts).for_each(|(label, count)| add(Some(label), count));
            }
            Series::Histogram(of) => {
                of(values).into_iter().for_each(|v| add(None, Value::Histogram(v)));
            }
        }
        metrics
    }

    fn metric(&self, values: &Values, more: Option<&str>, value: Value) -> Metric {
        let identity = TARGET.into_iter().zip(values.identity.iter().map(String::as_str));
        let mut labels: Vec<_> =
            identity.chain(self.label.zip(more)).map(|(name, value)| pair(name, value)).collect();
        labels.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let mut metric = Metric::from_label(labels);
        match value {
            Value::Gauge(value) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Value::Counter(value) => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Value::Histogram(histogram) => metric.set_histogram(histogram),
        }
        metric
    }
}

enum Value {
    Gauge(f64),
    Counter(f64),
    Histogram(Histogram),
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
