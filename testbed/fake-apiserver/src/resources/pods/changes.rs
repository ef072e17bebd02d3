//! `PATCH pods/NAME`: labels and annotations, within the fence. Of each change of labels there is a
//! record.
use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::status::is_ready;
use crate::{
    FakeApi,
    access::{Access, Identity},
    api::{json as j, kind::Kind, status::Status},
    cluster::Cluster,
    requests::{Answer, Asked},
    resources::{objects, workloads::owners},
};

/// A patch by a client that changed the labels of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relabelled {
    /// When, since the fake was made.
    pub at: Duration,
    /// The user of the request.
    pub username: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Kind and name of the workload that it belonged to before.
    pub workload: Option<(String, String)>,
    /// Whether it was ready.
    pub was_ready: bool,
    /// Its labels before.
    pub before: BTreeMap<String, String>,
    /// And after.
    pub after: BTreeMap<String, String>,
}

impl Relabelled {
    /// Whether a label went from one value to another; `None`: it was, or is, not there.
    #[must_use]
    pub fn changes(&self, key: &str, from: Option<&str>, to: Option<&str>) -> bool {
        let value = |labels: &BTreeMap<String, String>| labels.get(key).cloned();
        value(&self.before).as_deref() == from && value(&self.after).as_deref() == to
    }
}

/// The changes of labels.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<Relabelled>);

impl Changes {
    pub(crate) fn patch(
        &mut self,
        cluster: &mut Cluster,
        access: &Access,
        identity: &Identity,
        asked: &Asked,
    ) -> Result<Answer, Status> {
        let (old, mut new) = objects::patched(cluster, Kind::Pod, asked)?;
        // Only its own subresource changes it.
        new["status"] = old["status"].clone();
        access.fence_change(identity, &asked.route, &old, &new)?;
        if asked.route.is_dry_run() {
            return Ok(Answer::Json(200, new));
        }
        let (before, after) = (labels(&old), labels(&new));
        if before != after {
            self.0.push(Relabelled {
                at: cluster.now,
                username: identity.username.clone(),
                namespace: j::namespace(&old).to_owned(),
                pod: j::name(&old).to_owned(),
                uid: j::uid(&old).to_owned(),
                node: j::text(&old, "/spec/nodeName").to_owned(),
                workload: owners::workload_of(&cluster.store, &old),
                was_ready: is_ready(&old),
                before,
                after,
            });
        }
        let new = cluster.write(Kind::Pod, new);
        Ok(Answer::Json(200, Value::clone(&new)))
    }
}

fn labels(pod: &Value) -> BTreeMap<String, String> {
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    labels.map(|(key, value)| (key.clone(), text(value))).collect()
}

/// Changes by clients.
impl FakeApi {
    /// The changes of labels of pods by clients, oldest first.
    #[must_use]
    pub fn relabelled(&self) -> Vec<Relabelled> {
        self.with(|state| state.changes.0.clone())
    }
}
