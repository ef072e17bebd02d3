//! What a scene works with: pods in a namespace of their own, their Events, and the agents.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    kubectl::Kubectl,
    objects::{Event, Pod},
    patient::PatientSpec,
};
use crate::stage::{Interrupt, traffic::Traffic};

/// The namespace of the scenes' pods. The task makes and deletes it.
pub(super) const NAMESPACE: &str = "paramedic-e2e";
/// The namespace of the agents.
pub(super) const SYSTEM: &str = "paramedic-system";

/// Between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(300);
/// From `kubectl apply` to a pod that is ready and watched.
const ADMITTED: Duration = Duration::from_secs(90);
/// From a fault to the outcome of a remedy. Some gates let the agent ask again after 15 s, a remedy
/// is verified for 15 s, and another one follows if it did not help.
pub(super) const HEALED: Duration = Duration::from_secs(150);

/// For the illness `errors`: every request fails, and a reset does not help.
pub(super) const STUBBORN: &str = r#"{"ratio":1,"cleared_by":"restart"}"#;
/// For the illness `lie`: the app reports the worst health.
pub(super) const CRITICAL: &str = r#"{"as":"critical"}"#;

/// One scene's view of the cluster.
pub(super) struct Stage<'a> {
    pub(super) kubectl: &'a Kubectl,
    pub(super) interrupt: &'a Interrupt,
    pub(super) scene: &'static str,
    begun: Instant,
}

impl<'a> Stage<'a> {
    pub(super) fn new(kubectl: &'a Kubectl, interrupt: &'a Interrupt, scene: &'static str) -> Self {
        Self { kubectl, interrupt, scene, begun: Instant::now() }
    }

    /// Prints a step of the scene, with the time since it began.
    pub(super) fn tell(&self, what: &str) {
        println!("   {:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Calls `look` until it succeeds; an error means not yet.
    pub(super) fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl Fn() -> Result<T>,
    ) -> Result<T> {
        self.interrupt.until(what, limit, PAUSE, look)
    }

    /// Checks for a while that something stays as it is.
    pub(super) fn stays(&self, span: Duration, look: impl Fn() -> Result<()>) -> Result<()> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.interrupt.check()?;
            look()?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Makes pods without an owner, and waits until they are ready.
    pub(super) fn admit(&self, patients: &[PatientSpec]) -> Result<Vec<Pod>> {
        let pods: Vec<_> = patients.iter().map(|patient| patient.pod(self.scene)).collect();
        self.kubectl.apply(&pods)?;
        let mut admitted = Vec::new();
        for patient in patients {
            admitted.extend(self.admitted(patient.name, 1)?);
        }
        Ok(admitted)
    }

    /// Makes a workload, and waits until all of its pods are ready and, with consent, watched.
    pub(super) fn admit_workload(&self, patient: &PatientSpec, replicas: u32) -> Result<Vec<Pod>> {
        self.kubectl.apply(&[patient.deployment(self.scene, replicas)])?;
        let pods = self.admitted(patient.name, replicas)?;
        let nodes: Vec<&str> = pods.iter().map(Pod::node).collect();
        self.tell(&format!("pods of {} on {}", patient.name, nodes.join(", ")));
        for pod in pods.iter().filter(|_| patient.consent.is_some()) {
            self.watched(pod)?;
        }
        Ok(pods)
    }

    /// The pods of a workload once all of them are ready.
    pub(super) fn admitted(&self, app: &str, replicas: u32) -> Result<Vec<Pod>> {
        self.until(&format!("{app} ready"), ADMITTED, || {
            let pods = self.pods_of(app)?;
            if let Some(waiting) = pods.iter().find(|pod| !pod.is_ready()) {
                bail!("{}", waiting.trouble());
            }
            let count = pods.len();
            ensure!(count == replicas as usize, "{count} of {replicas} pods are there");
            Ok(pods)
        })
    }

    /// Waits until the agent of its node has looked at it.
    pub(super) fn watched(&self, pod: &Pod) -> Result<Value> {
        self.until(&format!("{} is watched", pod.name()), ADMITTED, || {
            let view = self.explain(pod)?;
            ensure!(!view["decision"].is_null(), "it is watched, but was not looked at");
            Ok(view)
        })
    }

    /// The pods of one workload, or the one pod of this name.
    pub(super) fn pods_of(&self, app: &str) -> Result<Vec<Pod>> {
        self.kubectl.list(&["pods", "--namespace", NAMESPACE, "--selector", &format!("app={app}")])
    }

    /// The pod as it is now; it must be the same one.
    pub(super) fn again(&self, pod: &Pod) -> Result<Pod> {
        let found: Option<Pod> =
            self.kubectl.get(&["pod", pod.name(), "--namespace", NAMESPACE])?;
        let found = found.with_context(|| format!("pod {} is gone", pod.name()))?;
        ensure!(found.uid() == pod.uid(), "pod {} is another one", pod.name());
        Ok(found)
    }

    /// Fails unless the pod is there and its container was never restarted.
    pub(super) fn untouched(&self, pod: &Pod) -> Result<()> {
        let now = self.again(pod)?;
        let restarts = now.container().restart_count;
        ensure!(restarts == 0, "pod {} was restarted ({restarts})", pod.name());
        ensure!(!now.leaves(), "pod {} is being deleted", pod.name());
        Ok(())
    }

    /// Fails if the app has received a `POST /heal`, according to the app itself.
    pub(super) fn not_asked_to_heal(&self, pod: &Pod) -> Result<()> {
        let clock: Value = serde_json::from_str(&self.get(pod, "/clock")?)?;
        ensure!(clock["last_heal_at_boot_ns"].is_null(), "pod {} got POST /heal", pod.name());
        Ok(())
    }

    /// The agents' Events on the pod, oldest first.
    pub(super) fn events(&self, pod: &Pod) -> Result<Vec<Event>> {
        let mut events: Vec<Event> =
            self.kubectl.list(&["events.events.k8s.io", "--namespace", NAMESPACE])?;
        events.retain(|event| event.is_ours() && event.regarding.uid == pod.uid());
        events.sort_by(|a, b| a.time().cmp(b.time()));
        Ok(events)
    }

    /// Waits for an Event with this reason and a note that contains `note`.
    pub(super) fn event(&self, pod: &Pod, reason: &str, note: &str) -> Result<Event> {
        let event = self.until(&format!("Event {reason} ({note})"), HEALED, || {
            let events = self.events(pod)?;
            let found = events.iter().find(|e| e.reason == reason && e.note.contains(note));
            let told = || events.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            found.cloned().with_context(|| format!("its Events are: {}", told()))
        })?;
        self.tell(&format!("Event on {}: {event}", pod.name()));
        Ok(event)
    }

    /// The app's response to GET, through the API server.
    pub(super) fn get(&self, pod: &Pod, path: &str) -> Result<String> {
        self.kubectl.get_raw(&proxied(NAMESPACE, pod, 5000, path))
    }

    /// Injects an illness into the app.
    pub(super) fn fall_ill(&self, pod: &Pod, illness: &str, parameters: &str) -> Result<()> {
        let path = proxied(NAMESPACE, pod, 5000, &format!("/illness/{illness}"));
        self.kubectl.post_raw(&path, parameters)?;
        self.tell(&format!("{} falls ill: {illness} {parameters}", pod.name()));
        Ok(())
    }

    /// Causes this many errors, which the app counts.
    pub(super) fn errors(&self, pod: &Pod, count: u32) {
        for _ in 0..count {
            // It answers 500, which kubectl reports as a failure.
            let _ = self.get(pod, "/simulate-error");
        }
        self.tell(&format!("{count} errors of {}", pod.name()));
    }

    /// Steady traffic on /data, until it is dropped.
    pub(super) fn traffic(&self, pod: &Pod) -> Traffic {
        let (kubectl, path) = (self.kubectl.clone(), proxied(NAMESPACE, pod, 5000, "/data"));
        Traffic::start(Duration::from_millis(100), move || {
            // An app with an illness answers 500 or not at all; the scene expects that.
            let _ = kubectl.get_raw(&path);
        })
    }

    /// All agents.
    pub(super) fn agents(&self) -> Result<Vec<Pod>> {
        agents(self.kubectl)
    }

    /// The agent of the pod's node.
    pub(super) fn agent_of(&self, pod: &Pod) -> Result<Pod> {
        let mut agents = self.agents()?;
        agents.retain(|agent| agent.node() == pod.node() && agent.is_ready());
        agents.pop().with_context(|| format!("no agent is ready on node {}", pod.node()))
    }

    /// The output of `paramedic` in the agent's pod.
    pub(super) fn paramedic(&self, agent: &Pod, arguments: &[&str]) -> Result<String> {
        let exec = ["exec", "--namespace", SYSTEM, agent.name(), "--", "/paramedic"];
        self.kubectl.text(&[&exec, arguments].concat())
    }

    /// `paramedic explain --json` for a pod.
    pub(super) fn explain(&self, pod: &Pod) -> Result<Value> {
        let name = format!("{NAMESPACE}/{}", pod.name());
        let text = self.paramedic(&self.agent_of(pod)?, &["explain", "--json", &name])?;
        serde_json::from_str(&text).context("paramedic explain --json")
    }

    /// A page of the agent's own server, through the API server.
    pub(super) fn page(&self, agent: &Pod, path: &str) -> Result<String> {
        self.kubectl.get_raw(&proxied(SYSTEM, agent, 9100, path))
    }
}

/// All agents of the cluster.
pub(super) fn agents(kubectl: &Kubectl) -> Result<Vec<Pod>> {
    let selector = "app.kubernetes.io/name=paramedic,app.kubernetes.io/component=agent";
    kubectl.list(&["pods", "--namespace", SYSTEM, "--selector", selector])
}

/// The API server's proxy path for a pod's port.
fn proxied(namespace: &str, pod: &Pod, port: u16, path: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{}:{port}/proxy{path}", pod.name())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_proxy_path_names_pod_and_port() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
        let path = proxied("shop", &pod, 9100, "/metrics");
        assert_eq!(path, "/api/v1/namespaces/shop/pods/a:9100/proxy/metrics");
    }
}
