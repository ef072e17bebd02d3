//! Labels for recordings from the field: what the agent did, and whether it helped.
//!
//! In the field there are no paired targets that get every remedy, so the escalation is the
//! measurement. The samples that led to a remedy get the label of the remedy after which the
//! incident ended well. Samples far from any incident, for which the recording's own model wanted
//! no action, get the label `no_action`. All others stay without a label. So a model learns from
//! its own past; faults that it wrongly ignored are not found here.
//!
//! Verdicts and remedies are read from the trace. The replay's own verdicts are those of the
//! present model, which may differ: only its rows are used.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use xtask::{process, workspace::Workspace};

use crate::{
    lab::rows::{self, Seen},
    stage::Programs,
};

/// Turn the traces of an agent into the files that training reads.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder with the traces
    traces: PathBuf,
    /// The folder for the rows and their labels
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

const S: u64 = 1_000_000_000;
/// Samples this long before the first remedy led to it.
const LED_TO_IT: u64 = 3 * S;
/// Remedies no further apart belong to one incident: an escalation is remembered this long.
const ONE_INCIDENT: u64 = 120 * S;
/// This far from every incident a target counts as well.
const FAR: u64 = 60 * S;
/// Healthy time is cut into episodes of this length.
const SPELL: u64 = 600 * S;

/// A target in a boot: instants of two boots cannot be compared.
type TargetKey = (String, String);

/// The recorded past of one target.
#[derive(Debug, Default)]
struct Past {
    incidents: Vec<Incident>,
    /// The verdicts of the model at the time of the recording, by their time.
    verdicts: BTreeMap<u64, String>,
}

/// One incident: from its first remedy to its last outcome.
#[derive(Debug, PartialEq)]
struct Incident {
    from: u64,
    to: u64,
    /// The remedy after which the target was well, if any.
    healed_by: Option<&'static str>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let agent = Programs::as_tested(workspace)?.agent;
    let model = workspace.root.join("model/healing_brain.onnx");
    make(&agent, &model, &args.traces, &args.into)
}

/// Turns a folder of traces into the files that training reads. The rows do not depend on the
/// model. `model` is given so that the replay counts as one of another model, which need not repeat
/// the recorded remedies.
fn make(agent: &Path, model: &Path, traces: &Path, into: &Path) -> Result<()> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(traces).with_context(|| format!("{}", traces.display()))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".trace.gz") {
            parts.push(path);
        }
    }
    parts.sort();
    if parts.is_empty() {
        bail!(
            "{} holds neither rows.csv.gz (of `cargo xtask lab`) nor *.trace.gz (of `paramedic \
             agent --record`)",
            traces.display()
        );
    }
    let replay = |form| {
        let mut command = Command::new(agent);
        process::capture(command.args(["replay", form, "--model"]).arg(model).args(&parts))
    };
    let past = past(&replay("--json")?)?;
    ensure!(
        past.values().any(|past| !past.verdicts.is_empty()),
        "the traces in {} are of an agent that did not record its own verdicts and outcomes yet: \
         record them again",
        traces.display()
    );
    let labelled = label(rows::parse(&replay("--rows")?)?, &past);
    ensure!(
        labelled.iter().any(|row| row.label.is_some_and(|label| label != "no_action")),
        "in {} no remedy helped any target: there is nothing to learn from it. Was it recorded by an \
         agent that only observes, or in a dry run?",
        traces.display()
    );
    fs::create_dir_all(into)?;
    write(&into.join("rows.csv.gz"), &labelled)?;
    let episodes = json!({ "from": traces, "rows": labelled.len() });
    fs::write(into.join("episodes.jsonl"), format!("{episodes}\n"))?;
    Ok(())
}

/// Every target's past, from the recorded events that a replay prints.
fn past(told: &str) -> Result<BTreeMap<TargetKey, Past>> {
    let mut all: BTreeMap<TargetKey, Past> = BTreeMap::new();
    for line in told.lines() {
        let event: Value = serde_json::from_str(line).context("a replay that is no JSON")?;
        let text = |field: &str| event[field].as_str().map(str::to_owned);
        let (Some(boot), Some(uid), Some(at)) =
            (text("boot"), text("uid"), event["at_ns"].as_u64())
        else {
            continue;
        };
        let past = all.entry((boot, uid)).or_default();
        match event["event"].as_str() {
            Some("recorded_verdict") => {
                past.verdicts.insert(at, text("action").context("a verdict without an action")?);
            }
            Some("recorded_remedy") => match past.incidents.last_mut() {
                Some(last) if at < last.to.saturating_add(ONE_INCIDENT) => last.to = at,
                _ => past.incidents.push(Incident { from: at, to: at, healed_by: None }),
            },
            // A remedy of an earlier run of the agent may end here, before any begins.
            Some("recorded_outcome") => {
                if let Some(last) = past.incidents.last_mut() {
                    last.to = at;
                    let class = match event["remedy"].as_str() {
                        Some("soft") => "reset_errors",
                        _ => "restart_service",
                    };
                    last.healed_by = (event["outcome"] == "healed").then_some(class);
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

#[derive(Debug)]
struct Labelled {
    seen: Seen,
    episode: usize,
    kind: &'static str,
    label: Option<&'static str>,
    since_fault: f64,
}

fn label(rows: Vec<Seen>, past: &BTreeMap<TargetKey, Past>) -> Vec<Labelled> {
    let mut episodes: BTreeMap<(TargetKey, u64), usize> = BTreeMap::new();
    let nothing = Past::default();
    rows.into_iter()
        .map(|mut seen| {
            let key = (seen.boot.clone(), seen.uid.clone());
            let Past { incidents, verdicts } = past.get(&key).unwrap_or(&nothing);
            let said = verdicts.range(..=seen.at).next_back().map(|(_, verdict)| verdict.as_str());
            let led_to = incidents.iter().find(|i| {
                (i.from.saturating_sub(LED_TO_IT)..=i.from).contains(&seen.at)
                    && said.is_some_and(|said| said != "no_action")
            });
            let far = incidents.iter().all(|i| {
                seen.at.saturating_add(FAR) < i.from || seen.at > i.to.saturating_add(FAR)
            });
            let (kind, label, begin) = match led_to {
                Some(i) => ("field_incident", i.healed_by, i.from),
                None if far && said == Some("no_action") => {
                    ("field_well", Some("no_action"), seen.at / SPELL * SPELL)
                }
                None => ("field_other", None, seen.at / SPELL * SPELL),
            };
            seen.verdict = said.unwrap_or_default().to_owned();
            let next = episodes.len();
            let episode = *episodes.entry((key, begin)).or_insert(next);
            let since_fault = (seen.at as f64 - begin as f64) / 1e9;
            Labelled { seen, episode, kind, label, since_fault }
        })
        .collect()
}

fn write(path: &Path, labelled: &[Labelled]) -> Result<()> {
    let lines = labelled.iter().map(|row| {
        let Labelled { seen, episode, kind, label, since_fault } = row;
        let (label, features) = (label.unwrap_or_default(), seen.features.join(","));
        format!(
            "{episode},{kind},no_action,during,{label},{since_fault:.3},{},{features}",
            seen.verdict
        )
    });
    rows::write_lines(path, std::iter::once(rows::head()).chain(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The uid of a pod, which differs from its name.
    const UID: &str = "u-1/app";

    /// A row of the present model, whose verdict differs from the recorded one and must not count.
    fn seen(boot: &str, seconds: u64) -> Seen {
        Seen {
            at: seconds * S,
            boot: boot.to_owned(),
            uid: UID.to_owned(),
            target: "default/shop".to_owned(),
            features: vec!["0".to_owned(); 14],
            verdict: "restart_service".to_owned(),
        }
    }

    fn told(events: &[(u64, &str, Value)]) -> String {
        let line = |(s, name, more): &(u64, &str, Value)| {
            let mut event = more.clone();
            event["event"] = format!("recorded_{name}").into();
            event["at_ns"] = (s * S).into();
            event["boot"] = "b".into();
            event["target"] = "default/shop".into();
            event["uid"] = UID.into();
            event.to_string()
        };
        events.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn remedy(s: u64, remedy: &str) -> (u64, &'static str, Value) {
        (s, "remedy", json!({ "remedy": remedy }))
    }

    fn outcome(s: u64, remedy: &str, outcome: &str) -> (u64, &'static str, Value) {
        (s, "outcome", json!({ "remedy": remedy, "outcome": outcome }))
    }

    fn verdict(s: u64, action: &str) -> (u64, &'static str, Value) {
        (s, "verdict", json!({ "action": action }))
    }

    fn labels(rows: Vec<Seen>, past: &BTreeMap<TargetKey, Past>) -> Vec<Option<&'static str>> {
        label(rows, past).iter().map(|row| row.label).collect()
    }

    #[test]
    fn the_remedy_that_ended_an_incident_labels_what_led_to_it() {
        let told = told(&[
            verdict(50, "no_action"),
            verdict(999, "reset_errors"),
            remedy(1000, "soft"),
            outcome(1001, "soft", "not_healed"),
            remedy(1002, "restart"),
            verdict(1010, "no_action"),
            outcome(1020, "restart", "healed"),
            verdict(4999, "reset_errors"),
            remedy(5000, "soft"),
            verdict(5001, "no_action"),
            outcome(5015, "soft", "healed"),
            verdict(8999, "reset_errors"),
            remedy(9000, "soft"),
            outcome(9001, "soft", "not_healed"),
        ]);
        let past = past(&told).unwrap();
        assert_eq!(past[&("b".to_owned(), UID.to_owned())].incidents.len(), 3);
        let at = |seconds| seen("b", seconds);
        let rows = vec![at(20), at(100), at(990), at(999), at(1010), at(4999), at(8999)];
        let (well, reset, restart) =
            (Some("no_action"), Some("reset_errors"), Some("restart_service"));
        assert_eq!(labels(rows, &past), [None, well, None, restart, None, reset, None]);
    }

    #[test]
    fn boots_do_not_mix() {
        let told = told(&[
            verdict(999, "reset_errors"),
            remedy(1000, "soft"),
            outcome(1015, "soft", "healed"),
        ]);
        let past = past(&told).unwrap();
        let labelled = label(vec![seen("b", 999), seen("another", 999)], &past);
        let labels: Vec<_> = labelled.iter().map(|row| row.label).collect();
        assert_eq!(labels, [Some("reset_errors"), None]);
        assert_ne!(labelled[0].episode, labelled[1].episode);
    }

    #[test]
    fn what_was_refused_is_not_called_well() {
        let past = past(&told(&[verdict(50, "restart_service")])).unwrap();
        assert_eq!(labels(vec![seen("b", 100)], &past), [None]);
    }
}
