//! What a test can put into the cluster.
use serde_json::{Value, json};

use crate::{FakeApi, Kind, PodTemplate, Timing, json as j, make, state::State};

impl State {
    /// Creates a workload, and its pods, which run and are ready already.
    fn add_workload(&mut self, kind: Kind, workload: Workload<'_>) -> Vec<String> {
        let Workload { namespace, name, spec, template, nodes } = workload;
        self.ensure_namespace(namespace);
        let mut template = template.value();
        if template["metadata"]["labels"]["app"].is_null() {
            template["metadata"]["labels"]["app"] = json!(name);
        }
        if kind == Kind::Job && template["spec"]["restartPolicy"].is_null() {
            template["spec"]["restartPolicy"] = json!("Never");
        }
        let selector = json!({"matchLabels": {"app": template["metadata"]["labels"]["app"]}});
        let mut object = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": selector, "template": template},
        });
        j::merge(&mut object["spec"], &spec);
        let uid = make::uid(self.serial());
        object["metadata"]["uid"] = json!(uid);
        let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
        self.workloads.nodes.insert(uid, nodes.clone());
        let above = self.create(kind, object);
        let key = (namespace.to_owned(), name.to_owned());
        if kind != Kind::Deployment {
            return self.make_up_running(kind, &key);
        }
        let hash = make::suffix(self.serial()) + &make::suffix(self.serial());
        let mut set = json!({
            "metadata": {"name": format!("{name}-{hash}"), "namespace": namespace,
                "labels": template["metadata"]["labels"],
                "ownerReferences": make::owned_by(&above)},
            "spec": above["spec"],
        });
        set["metadata"]["uid"] = json!(make::uid(self.serial()));
        set["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        set["spec"]["selector"]["matchLabels"]["pod-template-hash"] = json!(hash);
        set["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        self.workloads.nodes.insert(j::uid(&set).to_owned(), nodes);
        let set = self.create(Kind::ReplicaSet, set);
        self.make_up_running(Kind::ReplicaSet, &(key.0, j::name(&set).to_owned()))
    }
}

/// A workload to be created.
struct Workload<'a> {
    namespace: &'a str,
    name: &'a str,
    spec: Value,
    template: &'a PodTemplate,
    nodes: &'a [&'a str],
}

/// The cluster.
impl FakeApi {
    /// Sets how long things take from now on.
    pub fn set_timing(&self, timing: Timing) {
        self.with(|state| state.timing = timing);
    }

    /// Adds a node.
    pub fn add_node(&self, name: &str) {
        self.with(|state| {
            let count = state.store.all(Kind::Node).count();
            let address = format!("10.99.0.{}", count + 1);
            state.create(Kind::Node, make::node(name, &address));
        });
    }

    /// Adds a namespace, or sets the labels and annotations of one that is there.
    pub fn add_namespace(&self, name: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) {
        let map = |pairs: &[(&str, &str)]| -> Value {
            Value::Object(pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect())
        };
        let metadata = json!({"labels": map(labels), "annotations": map(annotations)});
        self.with(|state| {
            state.ensure_namespace(name);
            state.update(Kind::Namespace, "", name, |namespace| {
                j::merge(&mut namespace["metadata"], &metadata);
            });
        });
    }

    /// Adds a Deployment, its ReplicaSet, and their pods, running and ready, on the least loaded
    /// of `nodes` (of all, if none are given). Its selector is the label `app`, by default its
    /// name. Returns the pods' names.
    pub fn add_deployment(
        &self,
        namespace: &str,
        name: &str,
        replicas: u32,
        template: &PodTemplate,
        nodes: &[&str],
    ) -> Vec<String> {
        let spec = json!({"replicas": replicas});
        let workload = Workload { namespace, name, spec, template, nodes };
        self.with(|state| state.add_workload(Kind::Deployment, workload))
    }

    /// Adds a ReplicaSet of nobody, as [`FakeApi::add_deployment`] does.
    pub fn add_replicaset(
        &self,
        namespace: &str,
        name: &str,
        replicas: u32,
        template: &PodTemplate,
        nodes: &[&str],
    ) -> Vec<String> {
        let spec = json!({"replicas": replicas});
        let workload = Workload { namespace, name, spec, template, nodes };
        self.with(|state| state.add_workload(Kind::ReplicaSet, workload))
    }

    /// Adds a StatefulSet, as [`FakeApi::add_deployment`] does. A pod's successor has its name,
    /// and comes only when it is gone.
    pub fn add_statefulset(
        &self,
        namespace: &str,
        name: &str,
        replicas: u32,
        template: &PodTemplate,
        nodes: &[&str],
    ) -> Vec<String> {
        let spec = json!({"replicas": replicas, "serviceName": name});
        let workload = Workload { namespace, name, spec, template, nodes };
        self.with(|state| state.add_workload(Kind::StatefulSet, workload))
    }

    /// Adds a DaemonSet with a pod on each of `nodes`.
    pub fn add_daemonset(
        &self,
        namespace: &str,
        name: &str,
        template: &PodTemplate,
        nodes: &[&str],
    ) -> Vec<String> {
        let workload = Workload { namespace, name, spec: json!({}), template, nodes };
        self.with(|state| state.add_workload(Kind::DaemonSet, workload))
    }

    /// Adds a Job with so many pods at a time.
    pub fn add_job(
        &self,
        namespace: &str,
        name: &str,
        parallelism: u32,
        template: &PodTemplate,
        nodes: &[&str],
    ) -> Vec<String> {
        let spec = json!({"parallelism": parallelism, "completions": parallelism});
        let workload = Workload { namespace, name, spec, template, nodes };
        self.with(|state| state.add_workload(Kind::Job, workload))
    }

    /// Adds a pod of nobody, of which only the name and `spec.nodeName` must be given. Without a
    /// status it runs and is ready already. Returns its uid.
    pub fn add_pod(&self, pod: Value) -> String {
        self.with(|state| {
            let namespace = j::namespace(&pod).to_owned();
            state.ensure_namespace(if namespace.is_empty() { "default" } else { &namespace });
            state.add_running_pod(pod).uid
        })
    }

    /// The same, but the pod starts now, through all its phases.
    pub fn start_pod(&self, pod: Value) -> String {
        self.with(|state| {
            let namespace = j::namespace(&pod).to_owned();
            state.ensure_namespace(if namespace.is_empty() { "default" } else { &namespace });
            state.start_pod(pod).uid
        })
    }

    /// Adds a PodDisruptionBudget for the pods with the label `app`. `spec` is merged into its
    /// spec, such as `{"minAvailable": 1}`, and may bring another selector.
    pub fn add_pdb(&self, namespace: &str, name: &str, app: &str, spec: &Value) {
        let mut object = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": app}}},
        });
        j::merge(&mut object["spec"], spec);
        self.put(Kind::PodDisruptionBudget, object);
    }
}
