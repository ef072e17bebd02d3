//! What an attacker can do with an agent's token, as the API server answers.
//!
//! The token is one for the pod of a real agent, as the kubelet gets it. The scene uses no other
//! credential.
use std::io::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::e2e::{
    kubectl::Kubectl,
    objects::Pod,
    patient::PatientSpec,
    stage::{HEALED, NAMESPACE, SYSTEM, Stage},
};

/// A node that no cluster has: a pod that is bound to it belongs to another node.
const ELSEWHERE: &str = "paramedic-e2e-elsewhere";

pub(super) fn fence(stage: &Stage<'_>) -> Result<String> {
    let mut agents = stage.agents()?;
    agents.retain(Pod::is_ready);
    let agent = agents.first().context("no agent is ready")?;
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", agent.name()];
    let agents_own = Identity::of_agents(stage.kubectl, &bound)?;
    let by_hand = Identity::of_agents(stage.kubectl, &[])?;
    for (name, consent, node) in [
        ("fence-none", None, agent.node()),
        ("fence-soft", Some("soft"), agent.node()),
        ("fence-restart", Some("restart"), agent.node()),
        ("fence-evict", Some("evict"), agent.node()),
        ("fence-elsewhere", Some("evict"), ELSEWHERE),
    ] {
        let mut pod = PatientSpec::new(name, consent).pod(stage.scene);
        pod["spec"]["nodeName"] = json!(node);
        pod["metadata"]["labels"]["paramedic.dev/serving"] = json!("true");
        stage.kubectl.apply(&[pod])?;
    }
    let elsewhere = format!("runs on {ELSEWHERE}, the agent on {}", agent.node());
    let denied = [
        (&agents_own, "fence-none", true, "carries paramedic.dev/heal=, and a dry run takes"),
        (&agents_own, "fence-none", false, "carries paramedic.dev/heal=, and an eviction takes"),
        (&agents_own, "fence-soft", true, "heal=soft, and a dry run takes restart or evict"),
        (&agents_own, "fence-restart", false, "heal=restart, and an eviction takes evict"),
        (&agents_own, "fence-elsewhere", true, elsewhere.as_str()),
        (&agents_own, "fence-elsewhere", false, elsewhere.as_str()),
        (&by_hand, "fence-evict", true, "the token is not bound to a pod on a node"),
        (&by_hand, "fence-evict", false, "the token is not bound to a pod on a node"),
    ];
    for (identity, pod, dry_run, why) in &denied {
        match identity.evict(pod, *dry_run) {
            Ok(_) => bail!("{pod} could be evicted (dry run: {dry_run}): {why}"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(
                    said.contains("denied request: paramedic: ") && said.contains(why),
                    "{said}"
                );
            }
        }
    }
    stage.tell(&format!("{} evictions denied, each with its reason", denied.len()));
    let changes = unchangeable(&agents_own, &by_hand, &elsewhere)?;
    stage.tell(&format!("{changes} changes of pods denied, each with its reason"));
    may_read_sizes(stage)?;
    for (pod, why) in [
        ("fence-soft", "does not carry paramedic.dev/resize"),
        ("fence-none", "carries paramedic.dev/heal=, and a resize takes soft, restart or evict"),
    ] {
        let said = match agents_own.resize(pod) {
            Ok(_) => bail!("{pod} could be resized: {why}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains("denied request: paramedic: ") && said.contains(why), "{said}");
    }
    stage.tell("2 resizes denied, each with its reason");
    let forbidden = agents_own.forbidden()?;
    stage.tell(&format!("by RBAC it can neither {}", forbidden.join(" nor ")));
    agents_own.evict("fence-restart", true).context("the dry run before a restart")?;
    agents_own.evict("fence-evict", true).context("the dry run before an eviction")?;
    agents_own.evict("fence-evict", false).context("the eviction of a pod that consents")?;
    agents_own.patch("fence-restart", &drain()).context("a drain")?;
    // It did not fail and is ready: the agent of its node puts it back at once.
    stage.until("the drained pod is back in its Services", HEALED, || {
        let pod = ["pod", "fence-restart", "--namespace", NAMESPACE];
        let pod: Pod = stage.kubectl.get(&pod)?.context("it is gone")?;
        let serving = pod.metadata.labels.get("paramedic.dev/serving").map(String::as_str);
        ensure!(serving == Some("true"), "it is drained");
        Ok(())
    })?;
    stage.tell("what it needs is allowed: dry runs, and the eviction of a pod that consents");
    // No kubelet will ever confirm that it has ended.
    let delete = ["delete", "pod", "fence-elsewhere", "--namespace", NAMESPACE, "--force"];
    stage.kubectl.text(&delete)?;
    Ok(format!("{} evictions denied, 3 allowed, RBAC grants no more", denied.len()))
}

/// The change of a pod that a drain is.
pub(super) fn drain() -> Value {
    json!({ "metadata": {
        "labels": { "paramedic.dev/serving": "false" },
        "annotations": { "paramedic.dev/drained-until": "2026-11-30T10:00:00Z" },
    } })
}

/// Tries what an attacker would change of pods; returns how many changes were denied.
fn unchangeable(agents_own: &Identity, by_hand: &Identity, elsewhere: &str) -> Result<usize> {
    let labels = |labels: Value| json!({ "metadata": { "labels": labels } });
    let quarantine = json!({ "metadata": {
        "labels": { "app": null },
        "annotations": { "paramedic.dev/quarantined": "{}" },
    } });
    let image = json!({ "spec": { "containers": [{ "name": "patient", "image": "other:1" }] } });
    let note = json!({ "metadata": { "annotations": { "paramedic.dev/approve": "evict-1" } } });
    let owner = json!({ "metadata": { "finalizers": ["example.com/x"] } });
    let (only, nothing) = ("a drain takes restart or evict", "nothing else of it changed");
    let denied = [
        (agents_own, "fence-none", drain(), only),
        (agents_own, "fence-soft", drain(), only),
        (agents_own, "fence-restart", labels(json!({ "app": "other" })), only),
        (agents_own, "fence-restart", labels(json!({ "paramedic.dev/heal": "evict" })), only),
        (agents_own, "fence-restart", labels(json!({ "paramedic.dev/serving": "false" })), only),
        (agents_own, "fence-evict", quarantine, "give-up=,"),
        (agents_own, "fence-evict", image, nothing),
        (agents_own, "fence-evict", note, nothing),
        (agents_own, "fence-evict", owner, nothing),
        (agents_own, "fence-elsewhere", drain(), elsewhere),
        (by_hand, "fence-restart", drain(), "the token is not bound to a pod on a node"),
    ];
    for (identity, pod, change, why) in &denied {
        match identity.patch(pod, change) {
            Ok(_) => bail!("{pod} could be changed: {change}"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(
                    said.contains("denied request: paramedic: ") && said.contains(why),
                    "{said}"
                );
            }
        }
    }
    Ok(denied.len())
}

/// kubectl reads what it patches, which an agent itself need not. The right goes with the namespace.
pub(super) fn may_read_sizes(stage: &Stage<'_>) -> Result<()> {
    let metadata = json!({ "name": "fence-resize", "namespace": NAMESPACE });
    let group = "rbac.authorization.k8s.io";
    let version = "rbac.authorization.k8s.io/v1";
    stage.kubectl.apply(&[
        json!({
            "apiVersion": version, "kind": "Role", "metadata": metadata,
            "rules": [{ "apiGroups": [""], "resources": ["pods/resize"], "verbs": ["get"] }],
        }),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": group, "kind": "Role", "name": "fence-resize" },
            "subjects": [{ "kind": "ServiceAccount", "name": "paramedic-agent", "namespace": SYSTEM }],
        }),
    ])
}

/// A configuration of kubectl that holds one token and nothing else.
pub(super) struct Identity {
    pub(super) kubectl: Kubectl,
    _file: NamedTempFile,
}

impl Identity {
    /// The agents' service account.
    pub(super) fn of_agents(user: &Kubectl, bound: &[&str]) -> Result<Self> {
        Self::of(user, "paramedic-agent", bound)
    }

    /// A service account of Paramedic's, with a token for ten minutes.
    pub(super) fn of(user: &Kubectl, account: &str, bound: &[&str]) -> Result<Self> {
        let create = ["create", "token", account, "--namespace", SYSTEM, "--duration=10m"];
        let token = user.text(&[&create[..], bound].concat())?;
        // The address of the cluster, without the user's credentials.
        let view = ["config", "view", "--minify", "--flatten", "--raw"];
        let cluster = [&view[..], &["--output=jsonpath={.clusters[0].cluster}"]].concat();
        let cluster: Value = serde_json::from_str(&user.text(&cluster)?)
            .context("kubectl config view does not tell of a cluster")?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "e2e", "cluster": cluster }],
            "users": [{ "name": "agent", "user": { "token": token } }],
            "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "agent" } }],
            "current-context": "e2e",
        });
        // Readable by its owner alone.
        let mut file = NamedTempFile::new()?;
        file.write_all(config.to_string().as_bytes())?;
        Ok(Self { kubectl: Kubectl::with_config(file.path()), _file: file })
    }

    pub(super) fn evict(&self, pod: &str, dry_run: bool) -> Result<String> {
        let query = if dry_run { "?dryRun=All" } else { "" };
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction{query}");
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": pod, "namespace": NAMESPACE },
        });
        self.kubectl.post_raw(&path, &eviction.to_string())
    }

    /// A strategic merge patch.
    pub(super) fn patch(&self, pod: &str, change: &Value) -> Result<String> {
        let change = change.to_string();
        self.kubectl.text(&["patch", "pod", pod, "--namespace", NAMESPACE, "--patch", &change])
    }

    /// Asks for more CPU for the container of a pod.
    pub(super) fn resize(&self, pod: &str) -> Result<String> {
        let limits = json!({ "limits": { "cpu": "300m" } });
        let patch =
            json!({ "spec": { "containers": [{ "name": "patient", "resources": limits }] } });
        let (patch, path) = (patch.to_string(), ["--subresource", "resize", "--patch"]);
        let pod = ["patch", "pod", pod, "--namespace", NAMESPACE];
        self.kubectl.text(&[&pod[..], &path[..], &[patch.as_str()]].concat())
    }

    /// What it cannot do, of what an attacker would want.
    fn forbidden(&self) -> Result<Vec<String>> {
        let may = |verb: &str, what: &str| {
            let ask = ["auth", "can-i", "--quiet", verb, what, "--namespace", "kube-system"];
            self.kubectl.text(&ask).is_ok()
        };
        ensure!(may("list", "pods"), "it cannot even list pods: is the token good?");
        let wanted = [
            ("delete", "pods"),
            ("create", "pods"),
            ("create", "pods/exec"),
            ("get", "secrets"),
            ("get", "leases.coordination.k8s.io"),
            ("patch", "deployments.apps"),
            ("patch", "nodes"),
            ("create", "serviceaccounts/token"),
        ];
        let mut forbidden = Vec::new();
        for (verb, what) in wanted {
            ensure!(!may(verb, what), "RBAC lets an agent {verb} {what}");
            forbidden.push(format!("{verb} {what}"));
        }
        Ok(forbidden)
    }
}
