//! The load that the metrics API expects of a pod's workload, or why it expects none.
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use paramedic_api_server::{Workload, within};
use paramedic_pod_metrics::FORECAST;
use serde::Serialize;
use serde_json::Value;

use super::reach::Cluster;

/// What is expected of a workload.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Forecast {
    /// `Deployment/web`; `null` if the pod has none that can have a forecast, or if it is not known.
    workload: Option<String>,
    /// The most requests per second within the metrics API's horizon.
    http_requests_per_second: Option<f64>,
    /// The reason if `http_requests_per_second` is `null`.
    missing: Option<String>,
}

impl Forecast {
    fn missing(workload: Option<String>, why: String) -> Self {
        Self { workload, missing: Some(why), ..Self::default() }
    }

    /// Asks with the caller's rights: for the pod, which tells its workload, then for the metric.
    pub(super) async fn of(cluster: &Cluster, namespace: &str, pod: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let found = match within(pods.get(pod)).await {
            Ok(found) => found,
            Err(error) => {
                return Self::missing(None, format!("its workload cannot be read: {error}"));
            }
        };
        let Some(workload) = Workload::of(&found) else {
            let why = "the pod belongs to no Deployment or StatefulSet";
            return Self::missing(None, why.to_owned());
        };
        let title = Some(format!("{}/{}", workload.kind.name(), workload.name));
        let path = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/{}/{}/{FORECAST}",
            workload.kind.resource(),
            workload.name
        );
        match cluster.read(&path).await.and_then(|answer| value(&answer)) {
            Ok(expected) => {
                Self { workload: title, http_requests_per_second: Some(expected), missing: None }
            }
            Err(why) => Self::missing(title, why),
        }
    }
}

/// The value in a `MetricValueList` of one item.
fn value(list: &Value) -> Result<f64, String> {
    let quantity = list["items"][0]["value"].as_str();
    let number = quantity.and_then(|text| match text.strip_suffix('m') {
        Some(thousandths) => Some(thousandths.parse::<f64>().ok()? / 1000.0),
        None => text.parse().ok(),
    });
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| "cannot read the value that the metrics API sent".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quantity_is_read_as_the_metrics_api_writes_it() {
        let list = |value: Value| json!({ "items": [{ "value": value }] });
        for (text, expected) in [("15500m", 15.5), ("0", 0.0), ("1000000000", 1e9)] {
            assert_eq!(value(&list(json!(text))), Ok(expected));
        }
        for bad in [json!("12k"), json!("inf"), json!("m"), json!(5), Value::Null] {
            assert!(value(&list(bad.clone())).is_err(), "{bad}");
        }
        assert!(value(&json!({ "items": [] })).is_err());
    }
}
