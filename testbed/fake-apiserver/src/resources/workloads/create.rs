//! The workloads that a test can put into the cluster.
use serde_json::{Value, json};

use super::Workloads;
use crate::{
    FakeApi, PodTemplate,
    api::{json as j, kind::Kind, make},
    cluster::Cluster,
    resources::pods::Pods,
};

impl Workloads {
    /// Creates a workload, and its pods, which run and are ready already.
    fn add(
        &mut self,
        cluster: &mut Cluster,
        pods: &mut Pods,
        kind: Kind,
        workload: Workload<'_>,
    ) -> Vec<String> {
        let Workload { namespace, name, spec, template, nodes } = workload;
        cluster.ensure_namespace(namespace);
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
        let uid = make::uid(cluster.serial());
        object["metadata"]["uid"] = json!(uid);
        let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
        self.nodes.insert(uid, nodes.clone());
        let above = cluster.create(kind, object);
        let key = (namespace.to_owned(), name.to_owned());
        if kind != Kind::Deployment {
            return self.make_up_running(cluster, pods, kind, &key);
        }
        let hash = make::suffix(cluster.serial()) + &make::suffix(cluster.serial());
        let mut set = json!({
            "metadata": {"name": format!("{name}-{hash}"), "namespace": namespace,
                "labels": template["metadata"]["labels"],
                "ownerReferences": make::owned_by(&above)},
            "spec": above["spec"],
        });
        set["metadata"]["uid"] = json!(make::uid(cluster.serial()));
        set["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        set["spec"]["selector"]["matchLabels"]["pod-template-hash"] = json!(hash);
        set["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        self.nodes.insert(j::uid(&set).to_owned(), nodes);
        let set = cluster.create(Kind::ReplicaSet, set);
        self.make_up_running(cluster, pods, Kind::ReplicaSet, &(key.0, j::name(&set).to_owned()))
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

/// Workloads.
impl FakeApi {
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
        self.add_workload(Kind::Deployment, workload)
    }

    /// Adds a ReplicaSet without an owner, as [`FakeApi::add_deployment`] does.
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
        self.add_workload(Kind::ReplicaSet, workload)
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
        self.add_workload(Kind::StatefulSet, workload)
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
        self.add_workload(Kind::DaemonSet, workload)
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
        self.add_workload(Kind::Job, workload)
    }

    fn add_workload(&self, kind: Kind, workload: Workload<'_>) -> Vec<String> {
        self.with(|state| state.workloads.add(&mut state.cluster, &mut state.pods, kind, workload))
    }
}
