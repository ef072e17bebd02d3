//! Discovery: lists groups, versions and resources in the forms that Kubernetes requests.
//!
//! Every metric is a subresource of pods. Discovery is public: the API server requests it as a user
//! without groups, so no access check is made.
use paramedic_pod_metrics::Metric;
use serde_json::{Value, json};

use super::{GROUP, Version};

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
    let subresources = Metric::ALL.map(|metric| {
        json!({
            "subresource": metric.name(),
            "responseKind": {"group": "", "version": "", "kind": "MetricValueList"},
            "verbs": ["get"],
        })
    });
    let versions = Version::ALL.map(|version| {
        json!({
            "version": version.name(),
            "freshness": "Current",
            "resources": [{
                "resource": "pods",
                "responseKind": {"group": "", "version": "", "kind": ""},
                "scope": "Namespaced",
                "singularResource": "",
                "verbs": null,
                "subresources": subresources,
            }],
        })
    });
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{format}"),
        "metadata": {},
        "items": [{"metadata": {"name": GROUP}, "versions": versions}],
    })
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
    let resources = Metric::ALL.map(|metric| {
        json!({
            "name": format!("pods/{}", metric.name()),
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
        "resources": resources,
    })
}
