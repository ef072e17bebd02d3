//! The whole controller against a fake API server, in process and on a paused clock.
mod controller;
mod manifests;
mod outages;

use std::{sync::LazyLock, time::Duration};

use fake_apiserver::{FakeApi, Identity, Kind, PodTemplate, Rule, granted_by};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

use crate::{Config, Controller, settings::KEYS};

const OWN: &str = "paramedic-system";
const HEAL: &str = "/metadata/labels/paramedic.dev~1heal";
const RECORD: &str = "/metadata/annotations/paramedic.dev~1from-policy";

/// The rules of `manifests/60-policy.yaml` that its bindings grant to the controller.
fn granted() -> Vec<Rule> {
    static GRANTED: LazyLock<Vec<Rule>> =
        LazyLock::new(|| granted_by("60-policy.yaml", "paramedic-policy"));
    GRANTED.clone()
}

/// A cluster with two Deployments, `web` and `db`, of three pods each.
struct Scene {
    fake: FakeApi,
    web: Vec<String>,
    db: Vec<String>,
}

/// One replica of the controller.
struct Replica {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Replica {
    /// Ends it as SIGTERM does.
    async fn stops(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }

    /// Ends it as SIGKILL does.
    fn dies(self) {
        self.task.abort();
    }
}

impl Scene {
    fn new() -> Self {
        let fake = FakeApi::new();
        fake.add_namespace(OWN, &[], &[]);
        fake.add_node("node1");
        let add = |name| fake.add_deployment("default", name, 3, &PodTemplate::new(), &["node1"]);
        let (web, db) = (add("web"), add("db"));
        Self { fake, web, db }
    }

    fn replica(&self, name: &str) -> Replica {
        let account = Identity::service_account(OWN, "paramedic-policy");
        self.fake.identity(name, account.may(granted()));
        let client = self.fake.client(name);
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            namespace: OWN.to_owned(),
            lease: "paramedic-policy".to_owned(),
            holder: name.to_owned(),
        };
        let controller = Controller::bind(config).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(controller.run(client, async {
            let _ = stopped.await;
        }));
        Replica { stop: Some(stop), task }
    }

    /// A policy for the pods of a Deployment.
    fn policy(&self, name: &str, app: &str, ceiling: &str) {
        self.spec(
            name,
            json!({ "selector": { "matchLabels": { "app": app } }, "ceiling": ceiling }),
        );
    }

    fn spec(&self, name: &str, spec: Value) {
        let metadata = json!({ "name": name, "namespace": "default" });
        match self.fake.get(Kind::HealingPolicy, "default", name) {
            Some(_) => {
                let patch = json!({ "spec": spec });
                self.fake.patch(Kind::HealingPolicy, "default", name, &patch).unwrap();
            }
            None => {
                self.fake.put(Kind::HealingPolicy, json!({ "metadata": metadata, "spec": spec }));
            }
        }
    }

    fn delete(&self, name: &str) {
        self.fake.delete(Kind::HealingPolicy, "default", name).unwrap();
    }

    fn pod(&self, name: &str) -> Value {
        self.fake.get(Kind::Pod, "default", name).unwrap()
    }

    /// The label of each pod.
    fn labels(&self, pods: &[String]) -> Vec<Option<String>> {
        let label = |name| Some(self.pod(name).pointer(HEAL)?.as_str()?.to_owned());
        pods.iter().map(|name| label(name)).collect()
    }

    /// Whether all these pods have this label, or none.
    fn all_have(&self, pods: &[String], label: Option<&str>) -> bool {
        self.labels(pods).iter().all(|is| is.as_deref() == label)
    }

    fn status(&self, policy: &str) -> Value {
        self.fake.get(Kind::HealingPolicy, "default", policy).unwrap()["status"].clone()
    }

    /// A condition as `STATUS REASON`.
    fn condition(&self, policy: &str, kind: &str) -> String {
        let status = self.status(policy);
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|one| one["type"] == kind);
        let text = |field: &str| one.and_then(|one| one[field].as_str()).unwrap_or("-").to_owned();
        format!("{} {}", text("status"), text("reason"))
    }

    /// The writes since the last call, as `verb resource status`.
    fn written(&self) -> Vec<String> {
        let requests = self.fake.requests();
        self.fake.clear_requests();
        let writes = requests.iter().filter(|one| one.verb == "patch");
        writes
            .map(|one| {
                let slash = if one.subresource.is_empty() { "" } else { "/" };
                let status = one.status.unwrap_or_default();
                format!("{}{slash}{} {status}", one.resource, one.subresource)
            })
            .collect()
    }
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
