//! Namespaces.
use serde_json::{Value, json};

use crate::{FakeApi, Kind, api::json as j};

/// Namespaces.
impl FakeApi {
    /// Adds a namespace, or sets the labels and annotations of one that is there.
    pub fn add_namespace(&self, name: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) {
        let map = |pairs: &[(&str, &str)]| -> Value {
            Value::Object(pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect())
        };
        let metadata = json!({"labels": map(labels), "annotations": map(annotations)});
        self.with(|state| {
            state.cluster.ensure_namespace(name);
            state.cluster.update(Kind::Namespace, "", name, |namespace| {
                j::merge(&mut namespace["metadata"], &metadata);
            });
        });
    }
}
