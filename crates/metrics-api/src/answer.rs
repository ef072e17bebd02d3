//! Writes `MetricValueList` and `Status` for the API server and the HPA.
use hyper::StatusCode;
use k8s_openapi::jiff::{self, Timestamp};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{
    FORECAST, Version,
    path::{Forecast, Values},
    store::Value,
};

/// Why a list cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritable {
    #[error("a value's time is out of range: {0}")]
    Time(#[from] jiff::Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// The list of values in the requested version, as JSON.
///
/// # Errors
/// If the time of a value is out of range, which no agent sends.
pub(super) fn list<'a>(
    version: Version,
    asked: &'a Values,
    values: impl Iterator<Item = Value<'a>>,
    now: Timestamp,
) -> Result<Vec<u8>, Unwritable> {
    let items = values.map(|value| {
        let described = Described {
            kind: "Pod",
            namespace: &asked.namespace,
            name: value.pod,
            api_version: "/v1",
        };
        Ok(Item {
            described_object: described,
            metric: Named::new(version, asked.metric.name()),
            timestamp: seconds(now.checked_sub(value.age)?),
            // Kubernetes uses zero for an instantaneous value.
            window_seconds: value.window.as_secs_f64().round() as u64,
            value: quantity(value.value),
        })
    });
    written(version, items.collect::<Result<_, jiff::Error>>()?)
}

/// The list with the forecast of one workload in the requested version, as JSON.
///
/// # Errors
/// As for [`list`].
pub(super) fn forecast(
    version: Version,
    asked: &Forecast,
    value: f32,
    now: Timestamp,
) -> Result<Vec<u8>, Unwritable> {
    let described_object = Described {
        kind: asked.workload.kind.name(),
        namespace: &asked.namespace,
        name: &asked.workload.name,
        api_version: "apps/v1",
    };
    let metric = Named::new(version, FORECAST);
    let (timestamp, value) = (seconds(now), quantity(value));
    written(version, vec![Item { described_object, metric, timestamp, window_seconds: 0, value }])
}

fn written(version: Version, items: Vec<Item<'_>>) -> Result<Vec<u8>, Unwritable> {
    let (kind, api_version) = ("MetricValueList", version.api_version());
    Ok(serde_json::to_vec(&List { kind, api_version, metadata: Empty {}, items })?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    described_object: Described<'a>,
    #[serde(flatten)]
    metric: Named,
    timestamp: String,
    window_seconds: u64,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    /// Group and version; the core group has no name.
    api_version: &'static str,
}

/// The fields whose names depend on the version.
#[derive(Serialize)]
#[serde(untagged)]
enum Named {
    #[serde(rename_all = "camelCase")]
    V1beta1 {
        metric_name: &'static str,
        selector: Option<()>,
    },
    V1beta2 {
        metric: Identifier,
    },
}

#[derive(Serialize)]
struct Identifier {
    name: &'static str,
    selector: Option<()>,
}

impl Named {
    const fn new(version: Version, name: &'static str) -> Self {
        match version {
            Version::V1beta1 => Self::V1beta1 { metric_name: name, selector: None },
            Version::V1beta2 => Self::V1beta2 { metric: Identifier { name, selector: None } },
        }
    }
}

/// RFC 3339 in whole seconds, as Kubernetes writes times.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A Kubernetes quantity, in thousandths where it is not whole: `15`, `15500m`, `620m`.
fn quantity(value: f32) -> String {
    // Readings are finite and at most 10⁹.
    let thousandths = (f64::from(value) * 1000.0).round() as u64;
    if thousandths.is_multiple_of(1000) {
        (thousandths / 1000).to_string()
    } else {
        format!("{thousandths}m")
    }
}

/// A Kubernetes `Status` for a request that failed.
pub(super) fn status(code: StatusCode, message: &str) -> Json {
    let reason = match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code.as_u16(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use paramedic_api_server::{Kind, Workload};
    use paramedic_pod_metrics::Metric;

    use crate::{path::Pods, selector::Selector};

    #[test]
    fn quantities_are_exact_to_the_thousandth() {
        for (value, written) in [
            (0.0, "0"),
            (15.0, "15"),
            (15.5, "15500m"),
            (0.62, "620m"),
            (0.0004, "0"),
            (0.9999, "1"),
            (1e9, "1000000000"),
        ] {
            assert_eq!(quantity(value), written, "{value}");
        }
    }

    #[test]
    fn the_versions_differ_only_in_field_names() {
        let asked = Values {
            namespace: "default".to_owned(),
            pods: Pods::Selected(Selector::default()),
            metric: Metric::HttpRequestsPerSecond,
            of_series: Selector::default(),
        };
        let value = Value {
            pod: "web-1",
            value: 12.5,
            age: Duration::from_millis(1500),
            window: Duration::from_millis(10_040),
        };
        let now: Timestamp = "2026-11-22T21:13:45.2Z".parse().unwrap();
        let mut expected = json!({
            "kind": "MetricValueList",
            "apiVersion": "custom.metrics.k8s.io/v1beta2",
            "metadata": {},
            "items": [{
                "describedObject":
                    {"kind": "Pod", "namespace": "default", "name": "web-1", "apiVersion": "/v1"},
                "metric": {"name": "http_requests_per_second", "selector": null},
                "timestamp": "2026-11-22T21:13:43Z",
                "windowSeconds": 10,
                "value": "12500m",
            }],
        });
        let answered = |version| {
            let body = list(version, &asked, [value].into_iter(), now).unwrap();
            serde_json::from_slice::<Json>(&body).unwrap()
        };
        assert_eq!(answered(Version::V1beta2), expected);
        expected["apiVersion"] = json!("custom.metrics.k8s.io/v1beta1");
        let item = expected["items"][0].as_object_mut().unwrap();
        item.remove("metric");
        item.insert("metricName".to_owned(), json!("http_requests_per_second"));
        item.insert("selector".to_owned(), json!(null));
        assert_eq!(answered(Version::V1beta1), expected);
        let beyond = Value { age: Duration::MAX, ..value };
        let none = list(Version::V1beta2, &asked, [beyond].into_iter(), now);
        assert!(matches!(none, Err(Unwritable::Time(_))));
    }

    #[test]
    fn a_forecast_describes_its_workload() {
        let asked = Forecast {
            namespace: "default".to_owned(),
            workload: Workload { kind: Kind::StatefulSet, name: "db".to_owned() },
            of_series: Selector::default(),
        };
        let now: Timestamp = "2026-11-22T21:13:45.2Z".parse().unwrap();
        let body = forecast(Version::V1beta2, &asked, 40.25, now).unwrap();
        let described = json!({
            "kind": "StatefulSet", "namespace": "default", "name": "db", "apiVersion": "apps/v1",
        });
        let expected = json!({
            "kind": "MetricValueList",
            "apiVersion": "custom.metrics.k8s.io/v1beta2",
            "metadata": {},
            "items": [{
                "describedObject": described,
                "metric": {"name": "http_requests_per_second_forecast", "selector": null},
                "timestamp": "2026-11-22T21:13:45Z",
                "windowSeconds": 0,
                "value": "40250m",
            }],
        });
        assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), expected);
    }
}
