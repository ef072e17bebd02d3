//! The simulated cluster, and what else a test can set and ask.
use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    FakeApi, Fault, Identity, Kind, PodTemplate, Rollout, Timing, json as j,
    log::{Evicted, Logged},
    make,
    state::{PodRef, State},
    store::Object,
};

/// There is no such object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {} {namespace}/{name} in the fake", .kind.name())]
pub struct Missing {
    /// Of this kind.
    pub kind: Kind,
    /// In this namespace.
    pub namespace: String,
    /// With this name.
    pub name: String,
}

impl State {
    fn find(&self, kind: Kind, namespace: &str, name: &str) -> Result<Object, Missing> {
        let missing = || Missing { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        self.store.get(kind, namespace, name).cloned().ok_or_else(missing)
    }

    fn find_pod(&self, namespace: &str, name: &str) -> Result<PodRef, Missing> {
        self.find(Kind::Pod, namespace, name).map(|pod| PodRef::of(&pod))
    }

    /// Creates a workload, and its pods as if they had run for long.
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
    /// status it has been running and ready for a moment. Returns its uid.
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

    /// Stores any object, new or in place of the one with its name.
    pub fn put(&self, kind: Kind, mut object: Value) {
        self.with(|state| {
            let (namespace, name) = (j::namespace(&object).to_owned(), j::name(&object));
            if kind.is_namespaced() {
                state.ensure_namespace(&namespace);
            }
            if let Ok(old) = state.find(kind, &namespace, name) {
                for kept in ["uid", "creationTimestamp", "generation"] {
                    object["metadata"][kept] = old["metadata"][kept].clone();
                }
            }
            state.create(kind, object);
        });
    }

    /// Merges `patch` into an object, as a JSON merge patch: `null` removes.
    ///
    /// # Errors
    /// If it is not there.
    pub fn patch(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), Missing> {
        self.with(|state| {
            state.find(kind, namespace, name)?;
            state.update(kind, namespace, name, |object| j::merge(object, patch));
            Ok(())
        })
    }

    /// Sets or, with `null`, removes labels of a pod.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_labels(&self, namespace: &str, pod: &str, labels: &Value) -> Result<(), Missing> {
        self.patch(Kind::Pod, namespace, pod, &json!({"metadata": {"labels": labels}}))
    }

    /// Makes all containers of a pod ready, or none.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_ready(&self, namespace: &str, pod: &str, ready: bool) -> Result<(), Missing> {
        self.with(|state| {
            let mut object = Value::clone(&*state.find(Kind::Pod, namespace, pod)?);
            state.set_ready_now(&mut object, None, ready);
            state.write(Kind::Pod, object);
            Ok(())
        })
    }

    /// Ends the process of a container now, as a signal would. The kubelet notices and restarts
    /// it in its own time, see [`Timing`]. Nothing happens to a container that does not run.
    ///
    /// # Errors
    /// If the pod is not there.
    pub fn restart_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        exit_code: i64,
    ) -> Result<(), Missing> {
        self.with(|state| {
            let pod = state.find_pod(namespace, pod)?;
            state.kill(&pod, container, exit_code);
            Ok(())
        })
    }

    /// Deletes a pod as `kubectl delete` does, within its grace period.
    ///
    /// # Errors
    /// If it is not there.
    pub fn delete_pod(&self, namespace: &str, pod: &str) -> Result<(), Missing> {
        self.delete(Kind::Pod, namespace, pod)
    }

    /// Deletes any object, and what it owns.
    ///
    /// # Errors
    /// If it is not there.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<(), Missing> {
        self.with(|state| {
            let object = state.find(kind, namespace, name)?;
            state.remove(kind, &object, None);
            Ok(())
        })
    }

    /// Sets the replicas of a Deployment, ReplicaSet or StatefulSet.
    ///
    /// # Errors
    /// If it is not there.
    pub fn scale(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        replicas: u32,
    ) -> Result<(), Missing> {
        self.patch(kind, namespace, name, &json!({"spec": {"replicas": replicas}}))
    }

    /// Lets a workload show a rolling update, without one taking place.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_rolling(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        rollout: Rollout,
    ) -> Result<(), Missing> {
        self.with(|state| {
            let uid = j::uid(&*state.find(kind, namespace, name)?).to_owned();
            let before = state.workloads.rollouts.insert(uid, rollout);
            state.update(kind, namespace, name, |object| {
                if rollout != Rollout::Done && before.is_none_or(|r| r == Rollout::Done) {
                    let generation = j::int(object, "/metadata/generation").unwrap_or(1) + 1;
                    object["metadata"]["generation"] = json!(generation);
                }
            });
            state.look_again();
            Ok(())
        })
    }

    /// Stops the controller that keeps budgets up to date, or lets it catch up.
    pub fn pause_budgets(&self, paused: bool) {
        self.with(|state| {
            state.budgets_paused = paused;
            state.look_again();
        });
    }

    /// One object.
    #[must_use]
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        self.with(|state| state.store.get(kind, namespace, name).map(|o| Value::clone(o)))
    }

    /// All objects of a kind, in the order of namespace and name.
    #[must_use]
    pub fn list(&self, kind: Kind) -> Vec<Value> {
        self.with(|state| state.store.all(kind).map(|(_, o)| Value::clone(o)).collect())
    }

    /// The version of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.with(|state| state.store.version())
    }
}

/// Access.
impl FakeApi {
    /// Registers who stands behind a token.
    pub fn identity(&self, token: &str, identity: Identity) {
        self.with(|state| state.access.identities.insert(token.to_owned(), identity));
    }

    /// Forgets a token, as happens soon after its pod was deleted.
    pub fn revoke(&self, token: &str) {
        self.with(|state| state.access.identities.remove(token));
    }

    /// Whether anybody may do everything, with any token or none.
    pub fn open(&self, open: bool) {
        self.with(|state| state.access.open = open);
    }

    /// Fences the evictions and deletions of this user in, or nobody's.
    pub fn fence(&self, username: Option<&str>) {
        self.with(|state| state.access.fenced = username.map(str::to_owned));
    }
}

/// Faults.
impl FakeApi {
    /// Whether nobody can be reached. Open watches break when it goes down.
    pub fn down(&self, down: bool) {
        self.with(|state| state.faults.down = down);
        if down {
            self.break_watches();
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.with(|state| state.faults.down)
    }

    /// How long each request takes before it is carried out.
    pub fn set_latency(&self, latency: Duration) {
        self.with(|state| state.faults.latency = latency);
    }

    /// How much later watches tell of changes.
    pub fn set_watch_lag(&self, lag: Duration) {
        self.with(|state| {
            state.faults.watch_lag = lag;
            state.pulse += 1;
        });
    }

    /// Breaks the connections of all open watches.
    pub fn break_watches(&self) {
        self.with(|state| {
            state.faults.breaks += 1;
            state.pulse += 1;
        });
    }

    /// The same, in the middle of a line.
    pub fn cut_watches(&self) {
        self.with(|state| {
            state.faults.breaks += 1;
            state.faults.mid_line = Some(state.faults.breaks);
            state.pulse += 1;
        });
    }

    /// Lets the next so many requests that `when` is true of meet a fault.
    pub fn fail_next(
        &self,
        requests: usize,
        when: impl Fn(&Logged) -> bool + Send + 'static,
        fault: Fault,
    ) {
        self.with(|state| state.faults.plan(requests, Box::new(when), fault));
    }

    /// Calls off what [`FakeApi::fail_next`] has planned.
    pub fn forget_faults(&self) {
        self.with(|state| state.faults.forget_planned());
    }

    /// Forgets the changes so far: a watch from an older version is expired, as after a restart
    /// of the server.
    pub fn expire_watches(&self) {
        self.with(|state| state.store.expire_watches());
    }

    /// Forgets the past: a list at an older version is expired, and so are its next pages.
    pub fn compact(&self) {
        self.with(|state| state.store.compact());
    }

    /// Lets versions pass, as changes of objects do that nobody here knows.
    pub fn skip_versions(&self, versions: u64) {
        self.with(|state| state.store.skip_versions(versions));
    }

    /// Whether watches may ask for the initial state first; they may, until told otherwise.
    pub fn set_watch_lists(&self, on: bool) {
        self.with(|state| state.watch_lists = on);
    }
}

/// Records.
impl FakeApi {
    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        self.with(|state| state.log.clone())
    }

    /// Forgets the requests so far. Those under way are not written down any more.
    pub fn clear_requests(&self) {
        self.with(|state| state.log.clear());
    }

    /// The evictions that were carried out.
    #[must_use]
    pub fn evictions(&self) -> Vec<Evicted> {
        self.with(|state| state.evictions.clone())
    }

    /// The evictions that left fewer healthy pods than a budget demands. There should be none,
    /// by construction; they are found by counting pods, not by believing the budget's status.
    #[must_use]
    pub fn violations(&self) -> Vec<Evicted> {
        self.evictions().into_iter().filter(Evicted::is_violation).collect()
    }
}
