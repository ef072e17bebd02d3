//! What a manifest grants, so that a test's client has these rights and no others.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use std::{fs, path::Path};

use serde_json::Value;

use super::Rule;

/// The rules that the manifest's bindings give to this service account of `paramedic-system`. Roles
/// of Kubernetes' own, which stand in no manifest, are left out.
#[must_use]
pub fn granted_by(manifest: &str, account: &str) -> Vec<Rule> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests").join(manifest);
    let text = fs::read_to_string(file).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let mut granted = Vec::new();
    for binding in objects.iter().filter(|object| !object["roleRef"].is_null()) {
        let subjects = binding["subjects"].as_array().unwrap();
        let is_ours = |subject: &Value| {
            subject["kind"] == "ServiceAccount"
                && subject["name"] == account
                && subject["namespace"] == "paramedic-system"
        };
        assert!(subjects.iter().all(is_ours), "another account is bound: {binding}");
        let namespace = binding["metadata"]["namespace"].as_str();
        if namespace == Some("kube-system") {
            continue;
        }
        let role = objects.iter().find(|role| {
            role["kind"] == binding["roleRef"]["kind"]
                && role["metadata"]["name"] == binding["roleRef"]["name"]
                && role["metadata"]["namespace"].as_str() == namespace
        });
        let rules = role.expect("a binding of a role that is not there")["rules"].as_array();
        granted.extend(rules.unwrap().iter().map(|rule| rule_of(rule, namespace)));
    }
    granted
}

fn rule_of(rule: &Value, namespace: Option<&str>) -> Rule {
    let list = |field: &str| -> Vec<String> {
        let items = rule[field].as_array().into_iter().flatten();
        items.map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    Rule {
        namespace: namespace.map(str::to_owned),
        api_groups: list("apiGroups"),
        resources: list("resources"),
        resource_names: list("resourceNames"),
        verbs: list("verbs"),
    }
}
