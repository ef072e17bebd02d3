//! The pods and workloads of the scenes: patient-app in a small pod, with consent or without.
use serde_json::{Value, json};

use super::stage::NAMESPACE;

/// One kind of pod that a scene needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct PatientSpec {
    pub(super) name: &'static str,
    /// The value of the label `paramedic.dev/heal`; without it there is no consent.
    pub(super) consent: Option<&'static str>,
    /// An annotation, if it has one.
    pub(super) annotation: Option<(&'static str, &'static str)>,
    /// Whether it has a preStop hook. A restart in place would skip the hook, so the agent refuses
    /// it.
    pub(super) has_hook: bool,
    /// Its illness from the start.
    pub(super) illness: Option<&'static str>,
}

/// The label with the scene for which an object was made.
pub(super) const SCENE: &str = "e2e-scene";

const IMAGE: &str = concat!("docker.io/paramedic/patient:", env!("CARGO_PKG_VERSION"));

impl PatientSpec {
    pub(super) const fn new(name: &'static str, consent: Option<&'static str>) -> Self {
        Self { name, consent, annotation: None, has_hook: false, illness: None }
    }

    /// A pod without an owner.
    pub(super) fn pod(&self, scene: &str) -> Value {
        let mut pod = self.template(scene);
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(self.name);
        pod["metadata"]["namespace"] = json!(NAMESPACE);
        pod
    }

    /// A workload with this many replicas.
    pub(super) fn deployment(&self, scene: &str, replicas: u32) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(scene),
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": self.name } },
                "template": self.template(scene),
            },
        })
    }

    /// A budget for that workload, with this minimum.
    pub(super) fn budget(&self, scene: &str, min_available: u32) -> Value {
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self.metadata(scene),
            "spec": {
                "minAvailable": min_available,
                "selector": { "matchLabels": { "app": self.name } },
            },
        })
    }

    /// A Service in front of that workload.
    pub(super) fn service(&self, scene: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(scene),
            "spec": {
                "selector": { "app": self.name },
                "ports": [{ "name": "http", "port": 5000, "targetPort": "http" }],
            },
        })
    }

    fn metadata(&self, scene: &str) -> Value {
        json!({ "name": self.name, "namespace": NAMESPACE, "labels": { SCENE: scene } })
    }

    fn template(&self, scene: &str) -> Value {
        let mut metadata = json!({ "labels": { "app": self.name, SCENE: scene } });
        if let Some(consent) = self.consent {
            metadata["labels"]["paramedic.dev/heal"] = json!(consent);
            // Its readiness probe polls another path, which reports less.
            metadata["annotations"] = json!({ "paramedic.dev/health-path": "/health" });
        }
        if let Some((key, value)) = self.annotation {
            metadata["annotations"][key] = json!(value);
        }
        let mut container = container();
        if let Some(illness) = self.illness {
            container["args"] = json!(["--data-failure-ratio=0", "--illness", illness]);
        }
        if self.has_hook {
            let hook = json!({ "httpGet": { "path": "/healthz", "port": "http" } });
            container["lifecycle"] = json!({ "preStop": hook });
        }
        json!({
            "metadata": metadata,
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 10,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": 10001,
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [container],
            },
        })
    }
}

fn container() -> Value {
    json!({
        "name": "patient",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--data-failure-ratio=0"],
        "ports": [{ "name": "http", "containerPort": 5000 }],
        "readinessProbe": { "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 1 },
        "resources": {
            "requests": { "cpu": "10m", "memory": "32Mi" },
            "limits": { "cpu": "250m", "memory": "128Mi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_consent_there_is_no_label() {
        let pod = PatientSpec::new("a", None).pod("scene");
        assert_eq!(pod["metadata"]["labels"], json!({ "app": "a", SCENE: "scene" }));
        assert_eq!(pod["metadata"]["annotations"], Value::Null);
        let pod = PatientSpec::new("a", Some("soft")).pod("scene");
        assert_eq!(pod["metadata"]["labels"]["paramedic.dev/heal"], "soft");
        let asked = json!({ "paramedic.dev/health-path": "/health" });
        assert_eq!(pod["metadata"]["annotations"], asked);
    }

    #[test]
    fn a_budget_is_for_the_pods_of_its_workload() {
        let patient = PatientSpec { has_hook: true, ..PatientSpec::new("a", Some("evict")) };
        let deployment = patient.deployment("scene", 2);
        let budget = patient.budget("scene", 1);
        assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
        for object in [&deployment, &budget, &patient.pod("scene")] {
            assert_eq!(object["metadata"]["namespace"], NAMESPACE);
        }
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["app"], "a");
        assert!(template["spec"]["containers"][0]["lifecycle"]["preStop"].is_object());
    }
}
