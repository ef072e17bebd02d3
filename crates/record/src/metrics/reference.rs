//! Generates `docs/metrics.md`, the reference of all metrics, from their definitions.
use std::fmt::Write as _;

use prometheus::{
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};

use super::Metrics;

/// The description of a metric, known before it has a series.
#[derive(Debug)]
pub(super) struct Described {
    name: String,
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

impl Described {
    pub(super) fn new<'a>(
        name: &str,
        kind: MetricType,
        labels: impl IntoIterator<Item = &'a str>,
        help: &str,
    ) -> Self {
        let kind = match kind {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let labels = labels.into_iter().map(str::to_owned).collect();
        Self { name: name.to_owned(), kind, labels, help: help.to_owned() }
    }

    pub(super) fn of(metric: &impl Collector) -> Vec<Self> {
        let families = metric.collect();
        let kind = families.first().map_or(MetricType::GAUGE, MetricFamily::get_field_type);
        let described = |desc: &&Desc| {
            let labels = desc.variable_labels.iter().map(String::as_str);
            Self::new(&desc.fq_name, kind, labels, &desc.help)
        };
        metric.desc().iter().map(described).collect()
    }
}

const HEAD: &str = "\
# Metrics

The metrics that an agent serves at `:9100/metrics`, in the Prometheus text format. The command
`paramedic metrics-reference` generates this page from the agent's own registry; a test compares the two.

Series of a target carry the labels `namespace` and `pod`, or outside a cluster `target`. Each target has
the same number of series, which are removed with it. The columns of `paramedic_target_feature` are those
of the model's schema. All other labels have finite sets of values. Series with known label values start
at 0, so that the first event is already an increase. A ready dashboard and alerts are in
[manifests/observability](../manifests/observability/README.md).
";

impl Metrics {
    /// The reference as Markdown.
    #[must_use]
    pub fn reference(&self) -> String {
        let mut page = HEAD.to_owned();
        let mut described: Vec<&Described> = self.described.iter().collect();
        described.sort_by_key(|metric| &metric.name);
        for Described { name, kind, labels, help } in described {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let by = if labels.is_empty() {
                String::new()
            } else {
                format!(" by {}", labels.join(", "))
            };
            // Writing to a string does not fail.
            let _ = write!(page, "\n## {name}\n\nA {kind}{by}. {help}\n");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn read(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// All metric names in a text.
    fn names(text: &str) -> BTreeSet<&str> {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        text.split(|c| !is_part(c)).filter(|word| word.starts_with("paramedic_")).collect()
    }

    #[test]
    fn the_committed_page_equals_the_generated_one() {
        let reference = Metrics::new("0").unwrap().reference();
        assert!(
            read("docs/metrics.md") == reference,
            "`paramedic metrics-reference > docs/metrics.md` puts it right"
        );
    }

    #[test]
    fn dashboard_and_alerts_use_existing_metrics() {
        let metrics = Metrics::new("0").unwrap();
        let there: BTreeSet<&str> = metrics.described.iter().map(|m| m.name.as_str()).collect();
        let histogram = |name: &str| {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            metrics.described.iter().any(|m| m.kind == "histogram" && Some(m.name.as_str()) == base)
        };
        for (file, least) in [
            ("observability/dashboard.json", 8),
            ("observability/rules.yaml", 8),
            ("observability/rules_test.yaml", 8),
            ("prometheus/rules.yaml", 3),
        ] {
            let text = read(&format!("manifests/{file}"));
            let used = names(&text);
            assert!(used.len() > least, "{file} uses only {used:?}");
            for name in used {
                assert!(there.contains(name) || histogram(name), "{file} uses {name}");
            }
        }
    }

    #[test]
    fn every_metric_is_on_the_dashboard() {
        let metrics = Metrics::new("0").unwrap();
        let dashboard = read("manifests/observability/dashboard.json");
        for Described { name, .. } in &metrics.described {
            assert!(dashboard.contains(name.as_str()), "{name} is shown nowhere");
        }
    }

    #[test]
    fn every_panel_has_a_query_on_the_selected_datasource() {
        let dashboard: serde_json::Value =
            serde_json::from_str(&read("manifests/observability/dashboard.json")).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let rows: Vec<_> =
            panels.iter().filter(|p| p["type"] == "row").map(|p| &p["title"]).collect();
        assert_eq!(rows, ["This node", "One pod", "Healing", "Autoscaling", "The agent itself"]);
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let title = panel["title"].as_str().unwrap();
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
                assert!(!target["expr"].as_str().unwrap().is_empty(), "{title}");
            }
        }
    }
}
