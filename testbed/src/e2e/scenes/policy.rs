//! Policies beside the template, and the cap of a namespace.
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    fence::Identity,
    heals::{IN_PEACE, one},
};
use crate::e2e::{
    objects::Pod,
    patient::{PatientSpec, SCENE},
    stage::{NAMESPACE, STUBBORN, Stage},
};

/// Time for a policy to reach its pods.
const WRITTEN: Duration = Duration::from_secs(30);
/// The label that caps a namespace.
const AT_MOST: &str = "paramedic.dev/heal-at-most";

fn object(stage: &Stage<'_>, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "paramedic.dev/v1alpha1",
        "kind": "HealingPolicy",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": { SCENE: stage.scene } },
        "spec": spec,
    })
}

fn spec(app: &str, ceiling: &str) -> Value {
    json!({ "selector": { "matchLabels": { "app": app } }, "ceiling": ceiling })
}

fn apply(stage: &Stage<'_>, name: &str, spec: &Value) -> Result<()> {
    stage.kubectl.apply(&[object(stage, name, spec)])
}

fn delete(stage: &Stage<'_>, name: &str) -> Result<()> {
    let delete = ["delete", "healingpolicy", name, "--namespace", NAMESPACE, "--ignore-not-found"];
    stage.kubectl.text(&delete).map(|_| ())
}

/// A pod's metadata, whole.
fn metadata(stage: &Stage<'_>, pod: &Pod) -> Result<Value> {
    let pod = ["pod", pod.name(), "--namespace", NAMESPACE];
    let found: Value = stage.kubectl.get(&pod)?.context("the pod is gone")?;
    Ok(found["metadata"].clone())
}

fn label(metadata: &Value) -> Option<&str> {
    metadata["labels"]["paramedic.dev/heal"].as_str()
}

/// A condition of a policy as `STATUS REASON`.
fn condition(stage: &Stage<'_>, policy: &str, kind: &str) -> Result<String> {
    let policy = ["healingpolicy", policy, "--namespace", NAMESPACE];
    let found: Value = stage.kubectl.get(&policy)?.context("the policy is gone")?;
    let mut conditions = found["status"]["conditions"].as_array().into_iter().flatten();
    let one = conditions.find(|one| one["type"] == kind).context("it has no such condition")?;
    let text = |field: &str| one[field].as_str().unwrap_or("-");
    Ok(format!("{} {}", text("status"), text("reason")))
}

fn is(stage: &Stage<'_>, policy: &str, kind: &str, wanted: &str) -> Result<()> {
    stage.until(&format!("{policy}: {kind} is {wanted}"), WRITTEN, || {
        let found = condition(stage, policy, kind)?;
        ensure!(found == wanted, "{found}");
        Ok(())
    })
}

pub(super) fn policy(stage: &Stage<'_>) -> Result<String> {
    explained(stage)?;
    refused(stage)?;
    let pod = one(stage, &PatientSpec::new("policy", None))?;
    let before = metadata(stage, &pod)?;
    ensure!(label(&before).is_none(), "it has a label already");

    let mut restart = spec("policy", "restart");
    restart["healthPath"] = json!("/health");
    apply(stage, "policy", &restart)?;
    is(stage, "policy", "Ready", "True Applied")?;
    let labelled = metadata(stage, &pod)?;
    ensure!(label(&labelled) == Some("restart"), "{}", labelled["labels"]);
    ensure!(labelled["annotations"]["paramedic.dev/health-path"] == "/health", "no annotation");
    let now = stage.again(&pod)?;
    ensure!(now.container().id == pod.container().id, "it has another container: a rollout");
    stage.watched(&pod)?;
    stage.tell("the running pod has label and annotation, and its agent watches it");

    stage.fall_ill(&pod, "errors", STUBBORN)?;
    {
        let _traffic = stage.traffic(&pod);
        stage.event(&pod, "Healing", "restart begins")?;
        stage.event(&pod, "Healed", "restart: healed")?;
    }
    stage.until("the status shows the incident", WRITTEN, || {
        let policy = ["healingpolicy", "policy", "--namespace", NAMESPACE];
        let found: Value = stage.kubectl.get(&policy)?.context("the policy is gone")?;
        let last = &found["status"]["lastIncidents"][0];
        ensure!(last["reason"] == "Healed" && last["pod"] == pod.name(), "{}", found["status"]);
        Ok(())
    })?;

    apply(stage, "policy-too", &spec("policy", "soft"))?;
    is(stage, "policy", "Conflict", "True Overlap")?;
    ensure!(label(&metadata(stage, &pod)?).is_none(), "it has a label of one of two policies");
    delete(stage, "policy-too")?;
    is(stage, "policy", "Ready", "True Applied")?;
    delete(stage, "policy")?;
    stage.until("label and annotations are gone", WRITTEN, || {
        let now = metadata(stage, &pod)?;
        let left = now["annotations"].as_object().into_iter().flatten();
        let left: Vec<_> =
            left.map(|(key, _)| key).filter(|key| key.contains("paramedic")).collect();
        ensure!(label(&now).is_none() && left.is_empty(), "{} {left:?}", now["labels"]);
        Ok(())
    })?;
    Ok("no rollout, one restart, and nothing of the policy is left".to_owned())
}

/// `kubectl explain` is the documentation at hand.
fn explained(stage: &Stage<'_>) -> Result<()> {
    let page = stage.kubectl.text(&["explain", "healingpolicy.spec"])?;
    for told in
        ["ceiling", "-required-", "strongest remedy permitted", "notBetween", "Europe/Berlin"]
    {
        ensure!(page.contains(told), "kubectl explain does not say {told:?}:\n{page}");
    }
    stage.tell("kubectl explain healingpolicy.spec tells what each field means");
    Ok(())
}

/// What the agents would call invalid, the API server refuses.
fn refused(stage: &Stage<'_>) -> Result<()> {
    let wrong = [
        ("ceiling", json!("reboot"), "Unsupported value"),
        ("patience", json!("2h"), "not a time from 0s to 1h"),
        ("patience", json!("soon"), "spec.patience"),
        ("drain", json!("3m"), "not a time from 1s to 2m"),
        ("notBetween", json!(["25:00-26:00 UTC"]), "spec.notBetween"),
        ("notBetween", json!(["01:00-01:00 UTC"]), "must not end where it begins"),
        ("minConfidence", json!(0.2), "spec.minConfidence"),
        ("resize", json!({}), "name cpu, memory or both"),
        ("resize", json!({ "cpu": "1x" }), "not a factor above 1"),
        ("soft", json!("http GET /shutdown"), "spec.soft"),
        ("port", json!(70000), "spec.port"),
        ("dump", json!("threads"), "spec.dump"),
    ];
    for (field, value, why) in &wrong {
        let mut spec = spec("nobody", "soft");
        spec[*field] = value.clone();
        let said = match apply(stage, "wrong", &spec) {
            Ok(()) => bail!("{field}: {value} was taken"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains(why), "{field}: {value}: {said}");
    }
    stage.tell(&format!("{} wrong settings refused, each with its reason", wrong.len()));
    Ok(())
}

pub(super) fn cap(stage: &Stage<'_>) -> Result<String> {
    let ended = capped(stage);
    // Whatever happened, the next scenes have no cap.
    let uncap = format!("{AT_MOST}-");
    stage.kubectl.text(&["label", "namespace", NAMESPACE, &uncap])?;
    ended
}

fn capped(stage: &Stage<'_>) -> Result<String> {
    let pod = one(stage, &PatientSpec::new("cap", Some("restart")))?;
    let cap = |most: &str| {
        let cap = format!("{AT_MOST}={most}");
        stage.kubectl.text(&["label", "namespace", NAMESPACE, "--overwrite", &cap])
    };
    cap("observe")?;
    let sees = |ceiling: &str| {
        stage.until(&format!("the agent's ceiling is {ceiling}"), WRITTEN, || {
            let view = stage.explain(&pod)?;
            ensure!(view["ceiling"] == ceiling, "{} ({})", view["ceiling"], view["capped"]);
            Ok(view)
        })
    };
    let view = sees("observe")?;
    let told = view["capped"].as_str().unwrap_or_default();
    ensure!(told.contains("its namespace permits observe at most"), "explain says {told:?}");
    stage.fall_ill(&pod, "errors", STUBBORN)?;
    let _traffic = stage.traffic(&pod);
    stage.event(&pod, "HealRefused", "by gate mode: its namespace permits observe at most")?;
    stage.stays(IN_PEACE, || stage.untouched(&pod))?;

    // The API server knows the cap as well: a dry run precedes every restart.
    let agent = stage.agent_of(&pod)?;
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", agent.name()];
    let stolen = Identity::of_agents(stage.kubectl, &bound)?;
    // Not `soft`: a reset that does not help would use up what is permitted.
    for most in ["observe", "nonsense"] {
        cap(most)?;
        let said =
            stage.until(&format!("the fence knows the cap {most}"), WRITTEN, || {
                match stolen.evict(pod.name(), true) {
                    Ok(_) => bail!("a dry run is permitted under the cap {most}"),
                    Err(error) => Ok(format!("{error:#}")),
                }
            })?;
        ensure!(said.contains("denied request: paramedic: namespace"), "{said}");
    }
    cap("restart")?;
    stage.event(&pod, "Healing", "restart begins")?;
    stage.event(&pod, "Healed", "restart: healed")?;
    Ok("no restart under the cap, and one when it was raised".to_owned())
}

pub(super) fn fence(stage: &Stage<'_>) -> Result<String> {
    // kubectl reads what it patches, which the controller itself need not.
    stage.kubectl.apply(&[json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": "policy-fence", "namespace": NAMESPACE },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "ServiceAccount", "name": "paramedic-policy",
            "namespace": "paramedic-system" }],
    })])?;
    let own = one(stage, &PatientSpec::new("policy-own", Some("soft")))?;
    let none = one(stage, &PatientSpec::new("policy-none", None))?;
    let stolen = Identity::of(stage.kubectl, "paramedic-policy", &[])?;
    let patch = |pod: &Pod, patch: &Value| {
        let patch = patch.to_string();
        let pod = ["patch", "pod", pod.name(), "--namespace", NAMESPACE, "--type=merge", "--patch"];
        stolen.kubectl.text(&[&pod[..], &[patch.as_str()]].concat())
    };
    let label = |value: Value| json!({ "metadata": { "labels": { "paramedic.dev/heal": value } } });
    let annotation = |key: &str| json!({ "metadata": { "annotations": { key: "x" } } });
    let denied = [
        (&none, label(json!("evict")), "no policy has set the label"),
        (&own, label(json!("evict")), "no policy has set the label"),
        (&own, label(json!(null)), "no policy has set the label"),
        (&own, annotation("paramedic.dev/approve"), "a policy sets no such annotation"),
        (&own, annotation("paramedic.dev/quarantined"), "a policy sets no such annotation"),
        (&own, annotation("example.com/any"), "a policy sets no such annotation"),
        (&own, json!({ "metadata": { "labels": { "app": "other" } } }), "only paramedic.dev/heal"),
        (&own, json!({ "metadata": { "labels": { "app": null } } }), "only paramedic.dev/heal"),
        (&own, json!({ "metadata": { "finalizers": ["example.com/a"] } }), "owners and finalizers"),
        (&own, json!({ "spec": { "activeDeadlineSeconds": 1 } }), "does not change the spec"),
    ];
    for (pod, change, why) in &denied {
        match patch(pod, change) {
            Ok(_) => bail!("{change} was permitted"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(said.contains("paramedic") && said.contains(why), "{change}: {said}");
            }
        }
    }
    // Of no policy: the controller itself would take it away again, in the same way as below.
    let set = json!({ "paramedic.dev/heal": "soft" });
    let record = json!({ "policy": "x", "pod": none.uid(), "set": set }).to_string();
    let mut set = label(json!("soft"));
    set["metadata"]["annotations"] =
        json!({ "paramedic.dev/from-policy": record, "paramedic.dev/patience": "30s" });
    patch(&none, &set).context("what the controller writes")?;
    let mut unset = label(json!(null));
    unset["metadata"]["annotations"] =
        json!({ "paramedic.dev/from-policy": null, "paramedic.dev/patience": null });
    patch(&none, &unset).context("what the controller takes away")?;
    let forbidden = ["delete pods", "create pods", "get secrets", "patch deployments.apps"];
    for what in forbidden {
        let (verb, resource) = what.split_once(' ').context("a verb and a resource")?;
        let ask = ["auth", "can-i", "--quiet", verb, resource, "--namespace", "kube-system"];
        ensure!(stolen.kubectl.text(&ask).is_err(), "RBAC lets the controller {what}");
    }
    Ok(format!("{} changes denied, each with its reason; its own are permitted", denied.len()))
}
