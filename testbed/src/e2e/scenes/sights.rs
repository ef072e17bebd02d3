//! What the agent shows: `paramedic explain` on every illness, and its metrics.
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::heals::healed_softly;
use crate::e2e::{
    objects::Pod,
    patient::PatientSpec,
    prometheus::value_of,
    stage::{NAMESPACE, STUBBORN, SYSTEM, Stage},
};

/// The expected decision about an illness.
enum Verdict {
    /// It calls for a remedy, and one of the main reasons is a column with this prefix.
    Sick(&'static str),
    /// No remedy because of an external cause, with a reason that contains this.
    LeftAlone(&'static str),
}

struct Case {
    patient: PatientSpec,
    illnesses: &'static [(&'static str, &'static str)],
    has_traffic: bool,
    verdict: Verdict,
}

const fn observed(name: &'static str) -> PatientSpec {
    PatientSpec::new(name, Some("observe"))
}

const CASES: [Case; 7] = [
    Case {
        patient: observed("errors"),
        illnesses: &[("errors", STUBBORN)],
        has_traffic: true,
        verdict: Verdict::Sick("error_count"),
    },
    Case {
        patient: observed("lie"),
        illnesses: &[("lie", r#"{"as":"healthy"}"#), ("errors", r#"{"ratio":0.7}"#)],
        has_traffic: true,
        verdict: Verdict::Sick("http_5xx_"),
    },
    Case {
        patient: observed("stuck"),
        illnesses: &[("stuck", "{}")],
        has_traffic: false,
        verdict: Verdict::Sick("health_failures"),
    },
    Case {
        patient: observed("leak"),
        illnesses: &[("leak", r#"{"max_mib":104,"mib_per_second":64}"#)],
        has_traffic: false,
        verdict: Verdict::Sick("memory_usage"),
    },
    Case {
        patient: observed("burn"),
        illnesses: &[("burn", r#"{"threads":2}"#)],
        has_traffic: false,
        verdict: Verdict::LeftAlone("CPU quota"),
    },
    Case {
        patient: observed("slow"),
        illnesses: &[("slow", r#"{"milliseconds":700}"#)],
        has_traffic: false,
        verdict: Verdict::LeftAlone("response was slow"),
    },
    Case {
        patient: observed("resets"),
        illnesses: &[("resets", r#"{"ratio":1}"#)],
        has_traffic: true,
        verdict: Verdict::LeftAlone("connections are reset"),
    },
];

/// From the fault to the verdict.
const SEEN: Duration = Duration::from_secs(60);

pub(super) fn illnesses(stage: &Stage<'_>) -> Result<String> {
    let pods = stage.admit(&CASES.map(|case| case.patient))?;
    for pod in &pods {
        stage.watched(pod)?;
    }
    let mut wrong = Vec::new();
    // One after the other: many that fail together count as a problem of the node.
    for (case, pod) in CASES.iter().zip(&pods) {
        for (illness, parameters) in case.illnesses {
            stage.fall_ill(pod, illness, parameters)?;
        }
        let traffic = case.has_traffic.then(|| stage.traffic(pod));
        let seen = stage.until("the verdict", SEEN, || case.verdict.of(&stage.explain(pod)?));
        drop(traffic);
        match seen {
            Ok(what) => stage.tell(&format!("explain {}: {what}", pod.name())),
            Err(error) => {
                stage.tell(&format!("explain {}: WRONG: {error:#}", pod.name()));
                wrong.push(pod.name());
            }
        }
        stage.untouched(pod)?;
    }
    ensure!(wrong.is_empty(), "not as expected: {}", wrong.join(", "));
    in_words(stage, &pods)?;
    Ok(format!("{} illnesses distinguished", CASES.len()))
}

impl Verdict {
    /// The output of `explain`, if it is as expected.
    fn of(&self, view: &Value) -> Result<String> {
        let decision = &view["decision"];
        let action = decision["action"].as_str().context("no decision yet")?;
        let sure = format!("{action} {:.2}", decision["confidence"].as_f64().unwrap_or_default());
        let reasons: Vec<_> = view["reasons"].as_array().into_iter().flatten().take(3).collect();
        let columns = || reasons.iter().filter_map(|reason| reason["feature"].as_str());
        let because = || columns().collect::<Vec<_>>().join(", ");
        match self {
            Self::Sick(column) => {
                let fits = columns().any(|name| name.starts_with(column));
                ensure!(action != "no_action" && fits, "{sure}, because {}", because());
                Ok(format!("{sure}, because {}", because()))
            }
            Self::LeftAlone(words) => {
                let why = view["left_alone"].as_str().unwrap_or("nothing stands out");
                let fits = action == "no_action" && why.contains(words);
                ensure!(fits, "{sure}, {why}; because {}", because());
                Ok(format!("left alone, {why}"))
            }
        }
    }
}

/// The output for people.
fn in_words(stage: &Stage<'_>, pods: &[Pod]) -> Result<()> {
    let ill = pods.first().context("no pod")?;
    let name = format!("{NAMESPACE}/{}", ill.name());
    let text = stage.paramedic(&stage.agent_of(ill)?, &["explain", &name])?;
    for told in [name.as_str(), "up to observe", "verdict", "because", "seen", "error_count"] {
        ensure!(text.contains(told), "paramedic explain does not say {told:?}:\n{text}");
    }
    Ok(())
}

pub(super) fn metrics(stage: &Stage<'_>) -> Result<String> {
    let pod = healed_softly(stage, "metrics")?;
    let agent = stage.agent_of(&pod)?;
    let of_pod = [("namespace", NAMESPACE), ("pod", pod.name())];
    let page = stage.page(&agent, "/metrics")?;
    let read = |name: &str, labels: &[(&str, &str)]| {
        value_of(&page, name, labels)
            .with_context(|| format!("{SYSTEM}/{} has no {name}", agent.name()))
    };
    let healed = [("remedy", "soft"), ("outcome", "healed")];
    ensure!(read("paramedic_heals_total", &healed)? >= 1.0, "no heal was counted");
    let well = [&of_pod[..], &[("state", "well")]].concat();
    ensure!(read("paramedic_target_state", &well)? > 0.0, "the healed pod is not well");
    let failed = [&of_pod[..], &[("class", "5xx")]].concat();
    let failed = read("paramedic_target_http_responses_total", &failed)?;
    ensure!(failed >= 8.0, "the kernel saw {failed} responses 5xx, and there were 8");
    stage.tell(&format!("the kernel saw {failed} responses 5xx of {}", pod.name()));
    stage.kubectl.text(&["delete", "deployment", "metrics", "--namespace", NAMESPACE])?;
    stage.until("no series of a pod that is gone", SEEN, || {
        let page = stage.page(&agent, "/metrics")?;
        if let Some(line) = page.lines().find(|line| line.contains(pod.name())) {
            bail!("{line}");
        }
        Ok(())
    })?;
    Ok(format!("heal counted, {failed} 5xx seen by the kernel, series gone with the pod"))
}
