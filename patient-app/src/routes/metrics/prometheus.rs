//! The metrics in Prometheus' text format 0.0.4.
use std::fmt::Write;

use crate::illness::Name;
use crate::state::App;

pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn text(app: &App) -> String {
    let (health, vitals) = app.health();
    let (tally, illnesses) = (&app.tally, app.illnesses.snapshot());
    let mut page = Page(String::with_capacity(4096));

    page.family("http_responses_total", "counter", "Responses sent, by status class.");
    for (class, n) in tally.responses() {
        page.sample("http_responses_total", &format!("{{class=\"{class}\"}}"), n as f64);
    }
    page.single("errors_total", "counter", "Errors of the app.", tally.errors.get() as f64);
    page.single(
        "errors_since_reset",
        "gauge",
        "Errors of the app since the last reset: error_count of /health.",
        health.error_count as f64,
    );
    page.single("heals_total", "counter", "Soft remedies received.", tally.heals.get() as f64);
    page.single(
        "connection_resets_total",
        "counter",
        "Connections reset instead of a response.",
        tally.resets.get() as f64,
    );
    page.single("uptime_seconds", "gauge", "Time since the start.", health.uptime as f64);
    if let Some(cpu) = vitals.cpu {
        page.single("cpu_seconds_total", "counter", "CPU time used.", cpu.used);
        page.single("cpu_limit_cores", "gauge", "Cores that may be used.", cpu.limit);
    }
    if let Some(ratio) = vitals.cpu_ratio {
        page.single("cpu_usage_ratio", "gauge", "Share of the CPU limit in use, 0 to 1.", ratio);
    }
    if let Some(memory) = vitals.memory {
        page.single("memory_usage_bytes", "gauge", "Memory in use.", memory.used);
        page.single("memory_limit_bytes", "gauge", "Memory that may be used.", memory.limit);
    }
    page.family("illness", "gauge", "Whether an injected illness is active.");
    for name in Name::ALL {
        let on = if illnesses.get(name).is_some() { 1.0 } else { 0.0 };
        page.sample("illness", &format!("{{name=\"{}\"}}", name.as_str()), on);
    }
    page.0
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP patient_{name} {help}\n# TYPE patient_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "patient_{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}
