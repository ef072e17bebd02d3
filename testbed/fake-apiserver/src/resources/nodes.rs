//! Nodes.
use serde_json::{Value, json};

use crate::{FakeApi, Kind};

fn node(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    })
}

/// Nodes.
impl FakeApi {
    /// Adds a node.
    pub fn add_node(&self, name: &str) {
        self.with(|state| {
            let count = state.cluster.store.all(Kind::Node).count();
            let address = format!("10.99.0.{}", count + 1);
            state.cluster.create(Kind::Node, node(name, &address));
        });
    }
}
