//! Two nodes and their agents: what one may do on the other, and who goes first.
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::fence::{Identity, drain, may_read_sizes};
use crate::e2e::{
    objects::{Event, Pod},
    patient::PatientSpec,
    stage::{HEALED, NAMESPACE, STUBBORN, Stage},
};

pub(super) const FENCE: &str = "other-fence";
pub(super) const LOCK: &str = "lock";

/// So many pods may have two hard remedies in ten minutes: the share alone would hold back the
/// second.
const TWO_SHARES: u32 = 20;

/// Two nodes with an agent each, in the order of their names.
pub(super) fn two_nodes(stage: &Stage<'_>) -> Result<[Pod; 2]> {
    let mut agents = stage.agents()?;
    agents.retain(Pod::is_ready);
    agents.sort_by(|a, b| a.node().cmp(b.node()));
    let mut agents = agents.into_iter();
    match (agents.next(), agents.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => bail!("fewer than two agents are ready"),
    }
}

/// What an agent may ask of the API server, by the identity that asks.
type Attempt<'a> = &'a dyn Fn(&Identity) -> Result<String>;

pub(super) fn fence(stage: &Stage<'_>) -> Result<String> {
    let [here, there] = two_nodes(stage)?;
    let bound = |agent: &Pod| {
        let bound = ["--bound-object-kind=Pod", "--bound-object-name", agent.name()];
        Identity::of_agents(stage.kubectl, &bound)
    };
    let (stranger, own) = (bound(&here)?, bound(&there)?);
    may_read_sizes(stage)?;
    let name = "across";
    let resizable = Some(("paramedic.dev/resize", "cpu=2x"));
    let patient = PatientSpec { annotation: resizable, ..PatientSpec::new(name, Some("evict")) };
    let mut pod = patient.pod(stage.scene);
    pod["spec"]["nodeName"] = json!(there.node());
    pod["metadata"]["labels"]["paramedic.dev/serving"] = json!("true");
    stage.kubectl.apply(&[pod])?;
    let pod = stage.admitted(name, 1)?.pop().context("no pod")?;
    stage.watched(&pod)?;

    let why = format!("runs on {}, the agent on {}", there.node(), here.node());
    let tries: [(&str, Attempt<'_>); 4] = [
        ("the dry run of an eviction", &|who| who.evict(name, true)),
        ("a drain", &|who| who.patch(name, &drain())),
        ("a resize", &|who| who.resize(name)),
        ("an eviction", &|who| who.evict(name, false)),
    ];
    for (what, attempt) in tries {
        let said = match attempt(&stranger) {
            Ok(_) => bail!("{what} is permitted, and {name} {why}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains("denied request: paramedic: ") && said.contains(&why), "{said}");
    }
    stage.untouched(&pod)?;
    stage.tell(&format!("denied to the agent of {}: it {why}", here.node()));
    // The same requests, by the agent of the pod's own node.
    for (what, attempt) in tries {
        attempt(&own).with_context(|| format!("{what}, by the agent of its own node"))?;
    }
    Ok(format!("{} requests denied across nodes, and the same permitted on the own", tries.len()))
}

pub(super) fn lock(stage: &Stage<'_>) -> Result<String> {
    let nodes = two_nodes(stage)?;
    let patient = PatientSpec::new("lock", Some("restart"));
    let half = TWO_SHARES / 2;
    let on = [(nodes[0].node(), half), (nodes[1].node(), half)];
    let deployment = patient.deployment(stage.scene, TWO_SHARES);
    let pods = placed(stage, patient.name, deployment, &on)?;
    let sick = on.map(|(node, _)| pods.iter().find(|pod| pod.node() == node));
    let [Some(one), Some(other)] = sick else { bail!("a node has none of the pods") };
    for pod in [one, other] {
        stage.watched(pod)?;
    }
    for pod in [one, other] {
        stage.fall_ill(pod, "errors", STUBBORN)?;
    }
    let _traffic = [stage.traffic(one), stage.traffic(other)];
    let both = || -> Result<[Vec<Event>; 2]> { Ok([stage.events(one)?, stage.events(other)?]) };
    let refused = stage.until("one agent waits for the other", HEALED, || {
        let waits = |events: &Vec<Event>| {
            let lock = |event: &&Event| {
                event.reason == "HealRefused" && event.note.contains("gate workload_lock")
            };
            events.iter().find(lock).cloned()
        };
        both()?.iter().find_map(waits).context("nobody was refused by gate workload_lock")
    })?;
    stage.tell(&format!("Event on {}: {refused}", refused.regarding.name));
    for pod in [one, other] {
        stage.event(pod, "Healed", "restart: healed")?;
    }
    let spans = both()?.map(|events| span(&events));
    let [Some(a), Some(b)] = spans else { bail!("a restart did not begin and end once") };
    ensure!(
        a.1 < b.0 || b.1 < a.0,
        "both were treated at the same time: {} to {}, and {} to {}",
        a.0,
        a.1,
        b.0,
        b.1
    );
    for pod in &pods {
        let restarts = stage.again(pod)?.container().restart_count;
        let expected = u32::from([one, other].iter().any(|sick| sick.uid() == pod.uid()));
        ensure!(restarts == expected, "{}: {restarts} restarts, not {expected}", pod.name());
    }
    Ok(format!("{} waited, then both were healed, one after the other", refused.regarding.name))
}

/// When the only restart of a pod began and when it had healed, as its Events are dated.
fn span(events: &[Event]) -> Option<(String, String)> {
    let only = |reason: &str, note: &str| {
        let mut found = events.iter().filter(|e| e.reason == reason && e.note.contains(note));
        let time = found.next()?.time().to_owned();
        found.next().is_none().then_some(time)
    };
    Some((only("Healing", "restart begins")?, only("Healed", "restart: healed")?))
}

/// Makes a workload with so many pods on each of these nodes, and waits until all are ready.
///
/// No scheduler knows them: the scene binds each pod to its node by itself.
pub(super) fn placed(
    stage: &Stage<'_>,
    app: &str,
    mut deployment: Value,
    on: &[(&str, u32)],
) -> Result<Vec<Pod>> {
    deployment["spec"]["template"]["spec"]["schedulerName"] = json!("paramedic-e2e");
    stage.kubectl.apply(&[deployment])?;
    let places: Vec<&str> =
        on.iter().flat_map(|&(node, count)| (0..count).map(move |_| node)).collect();
    let pods = stage.until(&format!("pods of {app}"), HEALED, || {
        let pods = stage.pods_of(app)?;
        ensure!(pods.len() == places.len(), "{} of {} pods are there", pods.len(), places.len());
        Ok(pods)
    })?;
    for (pod, node) in pods.iter().zip(&places) {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}/binding", pod.name());
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": pod.name(), "namespace": NAMESPACE },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        stage.kubectl.post_raw(&path, &binding.to_string())?;
    }
    stage.admitted(app, u32::try_from(places.len())?)
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    #[test]
    fn a_restart_is_a_span_if_it_began_and_ended_once() {
        let event = |reason: &str, note: &str, time: &str| -> Event {
            from_value(json!({ "reason": reason, "note": note, "eventTime": time })).unwrap()
        };
        let soft = event("Healing", "soft begins, since …", "01");
        let (begins, ends) = (
            event("Healing", "restart begins, since …", "02"),
            event("Healed", "restart: healed after 15 s", "03"),
        );
        let once = [soft, begins.clone(), ends];
        assert_eq!(span(&once), Some(("02".into(), "03".into())));
        assert_eq!(span(&once[..2]), None);
        assert_eq!(span(&[&once[..], &[begins]].concat()), None);
    }
}
