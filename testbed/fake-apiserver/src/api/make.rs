//! How objects look when they are new.
use serde_json::{Value, json};

use super::json as j;

/// Five characters such as a controller puts behind a pod's name.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Spreads consecutive numbers over all of them: splitmix64.
const fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A uid, the same for the same number.
pub(crate) fn uid(serial: u64) -> String {
    let (a, b) = (mix(serial), serial);
    let (first, second, third) = (a >> 32, (a >> 16) & 0xFFFF, a & 0xFFF);
    format!("{first:08x}-{second:04x}-4{third:03x}-8000-{b:012x}")
}

/// A container id, the same for the same number.
pub(crate) fn container_id(serial: u64) -> String {
    let parts: Vec<String> = (0..4).map(|i| format!("{:016x}", mix(serial * 4 + i))).collect();
    format!("containerd://{}", parts.concat())
}

/// The random-looking end of a generated name.
pub(crate) fn suffix(serial: u64) -> String {
    let mut n = mix(serial);
    let mut next = || {
        let c = ALPHABET[(n % ALPHABET.len() as u64) as usize];
        n /= ALPHABET.len() as u64;
        char::from(c)
    };
    (0..5).map(|_| next()).collect()
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// What pods of a workload, or a single pod, look like.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTemplate(Value);

impl Default for PodTemplate {
    fn default() -> Self {
        Self(json!({"metadata": {"labels": {}}, "spec": {}}))
    }
}

impl PodTemplate {
    /// One container `app` with the port `http`, 5000, and 30 s of grace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    /// With an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    /// With a grace period.
    #[must_use]
    pub fn grace(mut self, seconds: u32) -> Self {
        self.0["spec"]["terminationGracePeriodSeconds"] = json!(seconds);
        self
    }

    /// With this merged into the spec, as by a JSON merge patch.
    #[must_use]
    pub fn spec(mut self, spec: &Value) -> Self {
        j::merge(&mut self.0["spec"], spec);
        self
    }

    pub(crate) fn value(&self) -> Value {
        self.0.clone()
    }
}

/// Fills in what a server and a scheduler would.
pub(crate) fn fill_pod(pod: &mut Value) {
    if pod["metadata"]["namespace"].is_null() {
        pod["metadata"]["namespace"] = json!("default");
    }
    let spec = &mut pod["spec"];
    for (key, value) in [
        (
            "containers",
            json!([{"name": "app", "image": "registry.test/app:1",
                "ports": [{"name": "http", "containerPort": 5000}]}]),
        ),
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", json!("default")),
        ("serviceAccount", json!("default")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("priority", json!(0)),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        if spec[key].is_null() {
            spec[key] = value;
        }
    }
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        for (key, value) in [
            ("resources", json!({})),
            ("terminationMessagePath", json!("/dev/termination-log")),
            ("terminationMessagePolicy", json!("File")),
            ("imagePullPolicy", json!("IfNotPresent")),
        ] {
            if container[key].is_null() {
                container[key] = value;
            }
        }
        for port in container["ports"].as_array_mut().into_iter().flatten() {
            if port["protocol"].is_null() {
                port["protocol"] = json!("TCP");
            }
        }
    }
}

/// The reference by which a controller owns a pod.
pub(crate) fn owned_by(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn generated_names_differ_and_have_the_right_form() {
        let all: BTreeSet<String> = (0..1000).map(suffix).collect();
        assert!(all.len() > 990);
        assert!(all.iter().all(|s| s.len() == 5));
        assert_eq!(uid(7).len(), 36);
        assert_ne!(uid(7), uid(8));
        assert_eq!(container_id(7).len(), "containerd://".len() + 64);
    }
}
