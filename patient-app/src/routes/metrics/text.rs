//! The metrics in Prometheus' text format 0.0.4.
//!
//! Each page has a registry of its own: the counters belong to the app, which also reports them as
//! JSON, and a value that cannot be measured has no family.
use prometheus::core::Collector;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Opts, Registry, TextEncoder};

use crate::illness::Name;
use crate::state::App;

pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page at this moment.
///
/// # Errors
/// If a name is invalid or used twice, which is a bug.
pub(super) fn page(app: &App) -> prometheus::Result<String> {
    let (health, vitals) = app.health();
    let (tally, illnesses) = (&app.tally, app.illnesses.snapshot());
    let page = Page(Registry::new());

    let responses = Opts::new("patient_http_responses_total", "Responses sent, by status class.");
    let responses = CounterVec::new(responses, &["class"])?;
    for (class, n) in tally.responses() {
        responses.with_label_values(&[class]).inc_by(n as f64);
    }
    page.add(responses)?;
    page.counter("patient_errors_total", "Errors of the app.", tally.errors.get() as f64)?;
    page.gauge(
        "patient_errors_since_reset",
        "Errors of the app since the last reset: error_count of /health.",
        health.error_count as f64,
    )?;
    page.counter("patient_heals_total", "Soft remedies received.", tally.heals.get() as f64)?;
    page.counter(
        "patient_connection_resets_total",
        "Connections reset instead of a response.",
        tally.resets.get() as f64,
    )?;
    page.gauge("patient_uptime_seconds", "Time since the start.", health.uptime as f64)?;
    if let Some(cpu) = vitals.cpu {
        page.counter("patient_cpu_seconds_total", "CPU time used.", cpu.used)?;
        page.gauge("patient_cpu_limit_cores", "Cores that may be used.", cpu.limit)?;
    }
    if let Some(ratio) = vitals.cpu_ratio {
        let help = "Share of the CPU limit in use, 0 to 1.";
        page.gauge("patient_cpu_usage_ratio", help, ratio)?;
    }
    if let Some(memory) = vitals.memory {
        page.gauge("patient_memory_usage_bytes", "Memory in use.", memory.used)?;
        page.gauge("patient_memory_limit_bytes", "Memory that may be used.", memory.limit)?;
    }
    let illness = Opts::new("patient_illness", "Whether an injected illness is active.");
    let illness = GaugeVec::new(illness, &["name"])?;
    for name in Name::ALL {
        let on = if illnesses.get(name).is_some() { 1.0 } else { 0.0 };
        illness.with_label_values(&[name.as_str()]).set(on);
    }
    page.add(illness)?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}

struct Page(Registry);

impl Page {
    fn add(&self, family: impl Collector + 'static) -> prometheus::Result<()> {
        self.0.register(Box::new(family))
    }

    fn counter(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let counter = Counter::new(name, help)?;
        counter.inc_by(value);
        self.add(counter)
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.add(gauge)
    }
}
