//! The HPA scales on the agents' measurements, without a Prometheus in between.
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::e2e::{
    patient::{PatientSpec, SCENE},
    proxy::Proxy,
    stage::{NAMESPACE, Stage},
};

const GROUP: &str = "/apis/custom.metrics.k8s.io";
const RATE: &str = "http_requests_per_second";
/// From an agent's first sample to a value at the API server.
const SERVED: Duration = Duration::from_secs(60);
/// The minute in which the load begins, and the next.
const LEARNED: Duration = Duration::from_secs(150);

fn values(stage: &Stage<'_>, version: &str, app: &str, metric: &str) -> Result<Vec<Value>> {
    let path = format!(
        "{GROUP}/{version}/namespaces/{NAMESPACE}/pods/*/{metric}?labelSelector=app%3D{app}"
    );
    let list: Value = serde_json::from_str(&stage.kubectl.get_raw(&path)?)?;
    ensure!(list["kind"] == "MetricValueList", "{path} is a {}", list["kind"]);
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// What every user may read of the group, what needs rights, and what does not exist.
pub(super) fn metrics_api(stage: &Stage<'_>) -> Result<String> {
    let patient = PatientSpec::new("measured", Some("observe"));
    let pods = stage.admit_workload(&patient, 2)?;
    let _traffic = stage.traffic(&pods[0]);
    let names = [
        RATE,
        "http_5xx_ratio",
        "cpu_throttled_ratio",
        "unhealthy_probability",
        "http_request_duration_p95_seconds",
        "http_requests_in_flight",
    ];
    for metric in names {
        stage.until(&format!("{metric} of both pods"), SERVED, || {
            let found = values(stage, "v1beta2", patient.name, metric)?.len();
            ensure!(found == 2, "of {found} pods");
            Ok(())
        })?;
    }
    let rates = stage.until("a rate above 1 of the busy pod alone", SERVED, || {
        let items = values(stage, "v1beta1", patient.name, RATE)?;
        let busy = items.iter().find(|item| item["describedObject"]["name"] == pods[0].name());
        let value = quantity(&busy.context("the busy pod has no value")?["value"])?;
        ensure!(value > 1.0, "it has {value}");
        Ok(items)
    })?;
    stage.tell(&format!("{}", json!(rates)));
    let unknown = format!("{GROUP}/v1beta2/namespaces/{NAMESPACE}/pods/*/nonsense");
    let refused = stage.kubectl.get_raw(&unknown).err().context("an unknown metric has a value")?;
    ensure!(format!("{refused:#}").contains(RATE), "the known ones are not named: {refused:#}");
    // A forecast comes after two days. That the load is learned shows in the reason.
    let forecast = format!(
        "{GROUP}/v1beta2/namespaces/{NAMESPACE}/deployments.apps/{}/{RATE}_forecast",
        patient.name
    );
    stage.until("the first minute of the load is learned", LEARNED, || {
        let refused = stage.kubectl.get_raw(&forecast).err().context("a forecast at once")?;
        let why = format!("{refused:#}");
        ensure!(why.contains("minutes have been measured") && !why.contains(": 0 of"), "{why}");
        Ok(())
    })?;
    let bystander = ["--as=system:serviceaccount:default:default"];
    let path = format!("{GROUP}/v1beta2/namespaces/{NAMESPACE}/pods/*/{RATE}");
    let forbidden = stage.kubectl.text(&[&["get", "--raw", &path][..], &bystander].concat());
    ensure!(
        format!("{:#}", forbidden.err().context("a user without rights may read metrics")?)
            .contains("orbidden"),
        "refused, and not for want of rights"
    );
    let documents = stage.kubectl.get_raw("/openapi/v2")?;
    ensure!(documents.contains("custom.metrics.k8s.io/v1beta2"), "not in the cluster's OpenAPI");
    Ok("six metrics in two versions; why there is no forecast; nothing without rights".to_owned())
}

fn quantity(value: &Value) -> Result<f64> {
    let text = value.as_str().context("no quantity")?;
    Ok(match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>()? / 1000.0,
        None => text.parse()?,
    })
}

/// Requests per second of each pod that the HPA aims at: low, for a small cluster.
const TARGET: u32 = 10;
const MOST: i64 = 4;
/// At the default sync of 15 s an HPA sees a load within that time; pods that have just started,
/// and have not been measured yet, count as idle for some time.
const SCALED: Duration = Duration::from_secs(120);

pub(super) fn autoscaling(stage: &Stage<'_>) -> Result<String> {
    let patient = PatientSpec::new("scaled", Some("observe"));
    stage.admit_workload(&patient, 2)?;
    stage.kubectl.apply(&[hpa(&patient, stage.scene), patient.service(stage.scene)])?;
    stage.until("the HPA has seen the metric", SCALED, || {
        let hpa = the_hpa(stage, &patient)?;
        ensure!(!hpa["status"]["currentMetrics"][0]["pods"].is_null(), "{}", conditions(&hpa));
        Ok(())
    })?;
    stage.stays(Duration::from_secs(5), || {
        let desired = desired(&the_hpa(stage, &patient)?);
        ensure!(desired == 2, "it wants {desired} at rest");
        Ok(())
    })?;
    let proxy = Proxy::start()?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/{}:5000/proxy/data", patient.name);
    let clients: Vec<_> = (0..6).map(|_| proxy.client(&path, Duration::from_millis(50))).collect();
    let begun = Instant::now();
    stage.tell("six clients, some 15 requests a second each");
    let first = stage.until("more pods wanted", SCALED, || {
        let desired = desired(&the_hpa(stage, &patient)?);
        ensure!(desired > 2, "it wants {desired}");
        Ok((desired, begun.elapsed()))
    })?;
    stage.tell(&format!("{} pods wanted {:.1} s after the load", first.0, first.1.as_secs_f64()));
    stage.until("all of them", SCALED, || {
        let hpa = the_hpa(stage, &patient)?;
        let current = hpa["status"]["currentReplicas"].as_i64().unwrap_or_default();
        ensure!(current == MOST && desired(&hpa) == MOST, "{current} pods are there");
        Ok(())
    })?;
    stage.tell(&format!("{MOST} pods, the most that it may make"));
    drop(clients);
    let rest = Instant::now();
    stage.until("two pods again", SCALED, || {
        let desired = desired(&the_hpa(stage, &patient)?);
        ensure!(desired == 2, "it wants {desired}");
        Ok(())
    })?;
    Ok(format!(
        "2 → {MOST} → 2; load to new desiredReplicas {:.1} s, rest to 2 again {:.1} s",
        first.1.as_secs_f64(),
        rest.elapsed().as_secs_f64()
    ))
}

fn hpa(patient: &PatientSpec, scene: &str) -> Value {
    let quick = json!({ "type": "Pods", "value": 4, "periodSeconds": 15 });
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": patient.name, "namespace": NAMESPACE, "labels": { SCENE: scene },
        },
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1", "kind": "Deployment", "name": patient.name,
            },
            "minReplicas": 2,
            "maxReplicas": MOST,
            "metrics": [{
                "type": "Pods",
                "pods": {
                    "metric": { "name": RATE },
                    "target": { "type": "AverageValue", "averageValue": TARGET.to_string() },
                },
            }],
            "behavior": {
                "scaleUp": { "stabilizationWindowSeconds": 0, "policies": [quick] },
                "scaleDown": { "stabilizationWindowSeconds": 0, "policies": [quick] },
            },
        },
    })
}

fn the_hpa(stage: &Stage<'_>, patient: &PatientSpec) -> Result<Value> {
    let found: Option<Value> =
        stage.kubectl.get(&["horizontalpodautoscaler", patient.name, "--namespace", NAMESPACE])?;
    found.context("the HPA is gone")
}

fn desired(hpa: &Value) -> i64 {
    hpa["status"]["desiredReplicas"].as_i64().unwrap_or_default()
}

fn conditions(hpa: &Value) -> String {
    let of = |condition: &Value| format!("{}: {}", condition["type"], condition["message"]);
    let all = hpa["status"]["conditions"].as_array();
    all.map(|all| all.iter().map(of).collect::<Vec<_>>().join("; ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        assert_eq!(quantity(&json!("15500m")).unwrap(), 15.5);
        assert_eq!(quantity(&json!("15")).unwrap(), 15.0);
        assert!(quantity(&json!(15)).is_err());
    }
}
