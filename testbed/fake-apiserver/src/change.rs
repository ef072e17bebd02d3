//! What a test can do to what is in the cluster, and look up.
use serde_json::{Value, json};

use crate::{
    FakeApi, Kind, Rollout, json as j,
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
}

/// Changes.
impl FakeApi {
    /// Stores any object, new or in place of the one with its name, and returns it as it is then.
    pub fn put(&self, kind: Kind, mut object: Value) -> Value {
        self.with(|state| {
            let (namespace, name) = (j::namespace(&object).to_owned(), j::name(&object));
            if kind.is_namespaced() {
                state.ensure_namespace(&namespace);
            }
            if let Ok(old) = state.find(kind, &namespace, name) {
                for kept in ["uid", "creationTimestamp", "generation"] {
                    if let Some(value) = old["metadata"].get(kept) {
                        object["metadata"][kept] = value.clone();
                    }
                }
            }
            Value::clone(&state.create(kind, object))
        })
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

    /// Makes all containers of a pod ready, or none. A restart makes its container ready again.
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
    /// it in its own time, see [`Timing`](crate::Timing). Nothing happens to a container that does
    /// not run.
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
