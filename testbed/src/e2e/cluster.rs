//! The cluster before and after: checks whether it fits, installs Paramedic, and checks that
//! nothing is left.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use xtask::{image, workspace::Workspace};

use super::{
    kubectl::Kubectl,
    objects::{Named, Pod},
    stage::{self, NAMESPACE, SYSTEM, Stage},
};

/// The oldest Kubernetes that the fence works on.
const OLDEST: (u32, u32) = (1, 30);
/// From `kubectl apply` to agents and pods that are ready.
const INSTALLED: Duration = Duration::from_secs(180);
/// A namespace ends when everything in it has ended.
pub(super) const GONE: Duration = Duration::from_secs(180);

/// The label value of the namespace that this task made.
const MADE_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "paramedic-e2e");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    server_version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    major: String,
    minor: String,
    git_version: String,
}

/// Reaches the cluster. Returns its version, as it calls itself, and how many nodes it has.
pub(super) fn check(kubectl: &Kubectl) -> Result<(String, usize)> {
    let versions = kubectl.text(&["version", "--output=json"]).context(
        "no cluster can be reached: set KUBECONFIG, or choose one with kubectl config use-context",
    )?;
    let Versions { server_version } = serde_json::from_str(&versions)?;
    let Version { major, minor, git_version } = server_version;
    let found = number(&major).zip(number(&minor));
    let found = found.with_context(|| format!("the cluster calls itself {git_version}"))?;
    ensure!(
        found >= OLDEST,
        "Kubernetes {}.{} or newer is needed: {git_version}",
        OLDEST.0,
        OLDEST.1
    );
    let context = kubectl.text(&["config", "current-context"])?;
    let nodes = kubectl.list::<Named>(&["nodes"])?;
    let nodes: Vec<_> = nodes.iter().map(|node| node.metadata.name.as_str()).collect();
    println!("Cluster {context}: Kubernetes {git_version}, nodes {}", nodes.join(", "));
    Ok((git_version, nodes.len()))
}

/// The digits at the beginning: some say `30+`.
fn number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Fails if there is already something that this task would change and then delete.
pub(super) fn is_free(kubectl: &Kubectl, manifests: &str) -> Result<()> {
    let there = ["get", "--ignore-not-found", "--output=name", "--filename", manifests];
    let there = kubectl.text(&there)?;
    ensure!(
        there.is_empty(),
        "Paramedic is in this cluster already, and is not to be changed and deleted by a test:\n\
         {there}\ntest it as it is with --reuse, or remove it: kubectl delete -f {manifests}"
    );
    Ok(())
}

/// Creates the namespace of the scenes' pods. One that an earlier run left behind is replaced.
pub(super) fn make_namespace(kubectl: &Kubectl) -> Result<()> {
    if let Some(old) = kubectl.get::<Named>(&["namespace", NAMESPACE])? {
        let ours = old.metadata.labels.get(MADE_BY.0).is_some_and(|by| by == MADE_BY.1);
        ensure!(ours, "the namespace {NAMESPACE} exists, and this task did not make it");
        delete_namespace(kubectl)?;
    }
    kubectl.apply(&[json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "labels": { MADE_BY.0: MADE_BY.1 } },
    })])
}

/// Deletes it with everything in it.
pub(super) fn delete_namespace(kubectl: &Kubectl) -> Result<()> {
    // The scene `fence` has a pod on a node that does not exist, so no kubelet confirms its end.
    let pods = ["delete", "pods", "--all", "--namespace", NAMESPACE, "--force"];
    kubectl.text_within(GONE, &pods)?;
    let delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"];
    kubectl.text_within(GONE, &delete).map(|_| ())
}

/// Applies the manifests as a user would.
pub(super) fn install(stage: &Stage<'_>, manifests: &str) -> Result<()> {
    let applied = stage.kubectl.text(&["apply", "--filename", manifests])?;
    stage.tell(&format!("kubectl apply: {} objects", applied.lines().count()));
    Ok(())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Workload {
    metadata: Generation,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Generation {
    generation: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    replicas: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    desired_number_scheduled: i64,
    number_ready: i64,
    ready_replicas: i64,
}

impl Workload {
    /// Whether all expected pods are ready; otherwise how many are.
    fn is_ready(&self) -> Result<()> {
        let Status { observed_generation, desired_number_scheduled, number_ready, ready_replicas } =
            self.status;
        let (wanted, ready) =
            (desired_number_scheduled + self.spec.replicas, number_ready + ready_replicas);
        ensure!(observed_generation >= self.metadata.generation, "not yet taken up");
        ensure!(wanted > 0 && ready >= wanted, "{ready} of {wanted} pods are ready");
        Ok(())
    }
}

/// Waits until every agent is ready and, unless the installation is the user's own, the pods of
/// `40-patient.yaml`.
pub(super) fn wait_until_ready(
    stage: &Stage<'_>,
    workspace: &Workspace,
    reuse: bool,
) -> Result<()> {
    wait_for(stage, workspace, "daemonset/paramedic-agent", SYSTEM)?;
    if !reuse {
        wait_for(stage, workspace, "deployment/patient-app", "default")?;
    }
    wait_for(stage, workspace, "deployment/paramedic-metrics-api", SYSTEM)?;
    wait_for(stage, workspace, "deployment/paramedic-policy", SYSTEM)?;
    let service = ["apiservice", "v1beta2.custom.metrics.k8s.io"];
    stage.until("the metrics API is registered", INSTALLED, || {
        let found: Value = stage.kubectl.get(&service)?.context("there is no APIService")?;
        let mut conditions = found["status"]["conditions"].as_array().into_iter().flatten();
        let available = conditions.find(|c| c["type"] == "Available");
        let available = available.context("nothing is known of it yet")?;
        ensure!(available["status"] == "True", "{}", available["message"]);
        Ok(())
    })?;
    for agent in stage.agents()? {
        let ready = stage.page(&agent, "/readyz").context("/readyz")?;
        ensure!(ready.trim() == "ok", "/readyz of {} says {ready}", agent.name());
    }
    Ok(())
}

fn wait_for(stage: &Stage<'_>, workspace: &Workspace, name: &str, namespace: &str) -> Result<()> {
    let ours = ["--selector", "app.kubernetes.io/part-of=paramedic"];
    let pods = [&["pods", "--namespace", namespace][..], &ours].concat();
    // A missing image ends the wait at once, since it will not appear.
    let missing = stage.until(&format!("{name} ready"), INSTALLED, || {
        let pods: Vec<Pod> = stage.kubectl.list(&pods)?;
        let lacks = |pod: &Pod| Some(no_image(pod.missing_image()?, pod.node(), workspace));
        if let Some(missing) = pods.iter().find_map(lacks) {
            return Ok(Some(missing));
        }
        let workload: Option<Workload> = stage.kubectl.get(&[name, "--namespace", namespace])?;
        let waiting = pods.iter().find(|pod| !pod.is_ready()).map(Pod::trouble);
        let workload = workload.context("it does not exist")?;
        workload.is_ready().with_context(|| waiting.unwrap_or_default())?;
        Ok(None)
    })?;
    if let Some(missing) = missing {
        bail!("{missing}");
    }
    stage.tell(&format!("{name} is ready"));
    Ok(())
}

fn no_image(image: &str, node: &str, workspace: &Workspace) -> String {
    let files = image::archives(&workspace.target.join("images"));
    let load = image::how_to_load(&files);
    format!(
        "node {node} does not have the image {image}. Make the images, and load them:\n\n  cargo \
         xtask image\n{load}"
    )
}

/// Deletes what [`install`] made, as a user would, and looks for what is left.
pub(super) fn uninstall(kubectl: &Kubectl, manifests: &str) -> Result<String> {
    // With the namespace, what is in it may be gone before it is asked for.
    kubectl.text_within(GONE, &["delete", "--ignore-not-found", "--filename", manifests])?;
    nothing_is_left(kubectl)?;
    Ok("kubectl delete leaves no object behind".to_owned())
}

/// Fails if something of Paramedic does not go.
pub(super) fn nothing_is_left(kubectl: &Kubectl) -> Result<()> {
    let begun = Instant::now();
    loop {
        let left = left_over(kubectl)?;
        if left.is_empty() {
            return Ok(());
        }
        // Pods and the like are collected soon after their owners.
        if begun.elapsed() >= GONE {
            bail!("still there after {} s: {}", GONE.as_secs(), left.replace('\n', ", "));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// All kinds that the manifests have, and those that controllers make for them.
const KINDS: &str = "namespaces,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,\
                     validatingadmissionpolicies,validatingadmissionpolicybindings,daemonsets,\
                     controllerrevisions,deployments,replicasets,pods,services,endpointslices,\
                     poddisruptionbudgets,horizontalpodautoscalers,networkpolicies,secrets,configmaps,\
                     apiservices,customresourcedefinitions";

fn left_over(kubectl: &Kubectl) -> Result<String> {
    let ours = ["--all-namespaces", "--selector", "app.kubernetes.io/part-of=paramedic"];
    let get = ["get", KINDS, "--ignore-not-found", "--output=name"];
    let mut left = kubectl.text(&[&get[..], &ours].concat())?;
    // Its Leases and Events carry no label; they are gone with it.
    if kubectl.get::<Value>(&["namespace", SYSTEM])?.is_some() && !left.contains(SYSTEM) {
        left += &format!("\nnamespace/{SYSTEM}");
    }
    Ok(left)
}

/// Prints what helps to understand a failure.
pub(super) fn describe(kubectl: &Kubectl) -> String {
    const LINES: usize = 30;
    let part = |title: &str, text: Result<String>| {
        let text = text.unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<_> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        format!("   ---- {title}\n   {}\n", tail.join("\n   "))
    };
    let pods = kubectl.text(&["get", "pods", "--output=wide", "--namespace", NAMESPACE]);
    let events = kubectl.text(&[
        "get",
        "events",
        "--namespace",
        NAMESPACE,
        "--sort-by=.metadata.creationTimestamp",
    ]);
    let mut text = part("pods", pods) + &part("events", events);
    for agent in stage::agents(kubectl).unwrap_or_default() {
        let log = kubectl.text(&["logs", "--tail=30", "--namespace", SYSTEM, agent.name()]);
        text += &part(&format!("log of {} on {}", agent.name(), agent.node()), log);
    }
    text
}

/// The folder of the manifests, as an argument of kubectl.
pub(super) fn manifests(root: &Path) -> String {
    root.join("manifests").display().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    #[test]
    fn a_version_may_have_more_behind_its_number() {
        assert_eq!((number("36"), number("30+"), number("")), (Some(36), Some(30), None));
    }

    #[test]
    fn a_workload_is_ready_when_all_of_its_pods_are() {
        let ready = |object: Value| {
            let workload: Workload = from_value(object).unwrap();
            workload.is_ready().map_err(|error| error.to_string())
        };
        let agents = |observed: i64, wanted: i64, ready: i64| {
            json!({
                "metadata": { "generation": 2 },
                "status": {
                    "observedGeneration": observed, "desiredNumberScheduled": wanted,
                    "numberReady": ready,
                },
            })
        };
        assert_eq!(ready(agents(2, 3, 3)), Ok(()));
        assert_eq!(ready(agents(2, 3, 2)), Err("2 of 3 pods are ready".to_owned()));
        assert_eq!(ready(agents(1, 3, 3)), Err("not yet taken up".to_owned()));
        assert_eq!(ready(agents(2, 0, 0)), Err("0 of 0 pods are ready".to_owned()));
        let status = json!({ "observedGeneration": 1 });
        let patients =
            json!({ "metadata": { "generation": 1 }, "spec": { "replicas": 2 }, "status": status });
        assert_eq!(ready(patients), Err("0 of 2 pods are ready".to_owned()));
    }
}
