//! Discovery: lists groups, versions and resources in the forms that Kubernetes requests.
//!
//! Every metric is a subresource of pods; the forecast is one of workloads. Discovery is public: the API server requests it as a user
//! without groups, so no access check is made.
use paramedic_api_server::Kind;
use paramedic_pod_metrics::Metric;
use serde_json::{Value, json};

use super::{FORECAST, GROUP, Version};

/// The media type of aggregated discovery, without the version of its own format.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=";

/// `/apis`: aggregated if `accept` requests that. Also returns the content type.
pub(super) fn groups(accept: &str) -> (String, Value) {
    for version in ["v2", "v2beta1"] {
        let kind = format!("{AGGREGATED}{version};as=APIGroupDiscoveryList");
        if accept.split(',').any(|one| one.trim() == kind) {
            return (kind, aggregated(version));
        }
    }
    let list = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [about_group()]});
    ("application/json".to_owned(), list)
}

fn aggregated(format: &str) -> Value {
    let resources: Vec<Value> = resource_metrics()
        .map(|(resource, metrics)| {
            let subresources = metrics.iter().map(|metric| {
                json!({
                    "subresource": metric,
                    "responseKind": {"group": "", "version": "", "kind": "MetricValueList"},
                    "verbs": ["get"],
                })
            });
            json!({
                "resource": resource,
                "responseKind": {"group": "", "version": "", "kind": ""},
                "scope": "Namespaced",
                "singularResource": "",
                "verbs": null,
                "subresources": subresources.collect::<Vec<_>>(),
            })
        })
        .collect();
    let versions = Version::ALL.map(|version| {
        json!({
            "version": version.name(),
            "freshness": "Current",
            "resources": resources,
        })
    });
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{format}"),
        "metadata": {},
        "items": [{"metadata": {"name": GROUP}, "versions": versions}],
    })
}

/// Each resource that has metrics, and their names.
fn resource_metrics() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let of_pods = ("pods", Metric::ALL.map(Metric::name).to_vec());
    let of_workloads = Kind::ALL.map(|kind| (kind.resource(), vec![FORECAST]));
    std::iter::once(of_pods).chain(of_workloads)
}

/// `/apis/custom.metrics.k8s.io`.
pub(super) fn group() -> Value {
    let mut group = about_group();
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    group
}

fn about_group() -> Value {
    let versions = Version::ALL
        .map(|version| json!({"groupVersion": version.api_version(), "version": version.name()}));
    json!({"name": GROUP, "versions": versions, "preferredVersion": versions[0]})
}

/// `/apis/custom.metrics.k8s.io/v1beta2`.
pub(super) fn resources(version: Version) -> Value {
    let names = resource_metrics().flat_map(|(resource, metrics)| {
        metrics.into_iter().map(move |metric| format!("{resource}/{metric}"))
    });
    let resources = names.map(|name| {
        json!({
            "name": name,
            "singularName": "",
            "namespaced": true,
            "kind": "MetricValueList",
            "verbs": ["get"],
        })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version.api_version(),
        "resources": resources.collect::<Vec<_>>(),
    })
}
