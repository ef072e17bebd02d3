//! Labels for recordings from the field: what the agent did, and whether it helped.
//!
//! Nobody tries every remedy on paired patients in the field; there the ladder is the measurement.
//! The looks that led to a remedy are labelled by the one that ended an incident well, the mildest
//! tried; looks far from any incident, at which the recording's own model saw nothing, are labelled
//! as being well. Everything else stays without a label. So a model learns from its own past, and
//! what it left alone by mistake it will not find here.
use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    lab::rows::{self, Seen},
    process,
};

const S: u64 = 1_000_000_000;
/// Looks so long before the first remedy led to it.
const LED_TO_IT: u64 = 3 * S;
/// Remedies no further apart belong to one incident: how long the ladder remembers.
const ONE_INCIDENT: u64 = 120 * S;
/// So far from every incident a target is well.
const FAR: u64 = 60 * S;
/// Time that is well is cut into episodes of this length.
const SPELL: u64 = 600 * S;

/// One incident: from its first remedy to its last outcome.
#[derive(Debug, PartialEq)]
struct Incident {
    from: u64,
    to: u64,
    /// The remedy after which it was well, if one was.
    healed_by: Option<&'static str>,
}

/// Makes what training reads of a folder of traces.
pub(super) fn make(agent: &Path, traces: &Path, into: &Path) -> Result<()> {
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
    let replay = |form| process::capture(Command::new(agent).args(["replay", form]).args(&parts));
    let incidents = incidents(&replay("--json")?)?;
    let labelled = label(rows::parse(&replay("--rows")?)?, &incidents);
    ensure!(
        labelled.iter().any(|row| row.label.is_some_and(|label| label != "no_action")),
        "in {} no remedy helped anybody: there is nothing to learn from it",
        traces.display()
    );
    fs::create_dir_all(into)?;
    write(&into.join("rows.csv.gz"), &labelled)?;
    let episodes = json!({ "from": traces, "rows": labelled.len() });
    fs::write(into.join("episodes.jsonl"), format!("{episodes}\n"))?;
    Ok(())
}

/// Every target's incidents, from what a replay tells.
fn incidents(told: &str) -> Result<BTreeMap<String, Vec<Incident>>> {
    let mut all: BTreeMap<String, Vec<Incident>> = BTreeMap::new();
    for line in told.lines() {
        let event: Value = serde_json::from_str(line).context("a replay that is no JSON")?;
        let (Some(target), Some(at)) = (event["target"].as_str(), event["at_ns"].as_u64()) else {
            continue;
        };
        let of_target = all.entry(target.to_owned()).or_default();
        match event["event"].as_str() {
            Some("remedy") => match of_target.last_mut() {
                Some(last) if at < last.to + ONE_INCIDENT => last.to = at,
                _ => of_target.push(Incident { from: at, to: at, healed_by: None }),
            },
            Some("concluded") => {
                if let Some(last) = of_target.last_mut() {
                    last.to = at;
                    let class = match event["rung"].as_str() {
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

fn label(rows: Vec<Seen>, incidents: &BTreeMap<String, Vec<Incident>>) -> Vec<Labelled> {
    let mut episodes: BTreeMap<(String, u64), usize> = BTreeMap::new();
    rows.into_iter()
        .map(|seen| {
            let of_target = incidents.get(&seen.target).map_or(&[][..], Vec::as_slice);
            let led_to = of_target.iter().find(|i| {
                (i.from.saturating_sub(LED_TO_IT)..=i.from).contains(&seen.at)
                    && seen.verdict != "no_action"
            });
            let far = of_target.iter().all(|i| seen.at + FAR < i.from || seen.at > i.to + FAR);
            let (kind, label, begin) = match led_to {
                Some(i) => ("field_incident", i.healed_by, i.from),
                None if far && seen.verdict == "no_action" => {
                    ("field_well", Some("no_action"), seen.at / SPELL * SPELL)
                }
                None => ("field_other", None, seen.at / SPELL * SPELL),
            };
            let next = episodes.len();
            let episode = *episodes.entry((seen.target.clone(), begin)).or_insert(next);
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

    fn seen(seconds: u64, verdict: &str) -> Seen {
        let (target, verdict) = ("shop".to_owned(), verdict.to_owned());
        Seen { at: seconds * S, target, features: vec!["0".to_owned(); 14], verdict }
    }

    fn told(events: &[(u64, &str, &str, &str)]) -> String {
        let line = |(s, event, rung, outcome): &(u64, &str, &str, &str)| {
            json!({ "event": event, "rung": rung, "outcome": outcome, "target": "shop",
                    "at_ns": s * S })
            .to_string()
        };
        events.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_remedy_that_ended_an_incident_labels_what_led_to_it() {
        let told = told(&[
            (1000, "remedy", "soft", ""),
            (1001, "concluded", "soft", "not_healed"),
            (1002, "remedy", "restart", ""),
            (1020, "concluded", "restart", "healed"),
            (5000, "remedy", "soft", ""),
            (5015, "concluded", "soft", "healed"),
            (9000, "remedy", "soft", ""),
            (9001, "concluded", "soft", "not_healed"),
        ]);
        let incidents = incidents(&told).unwrap();
        assert_eq!(incidents["shop"].len(), 3);
        let rows = vec![
            seen(100, "no_action"),
            seen(990, "no_action"),
            seen(999, "reset_errors"),
            seen(1010, "no_action"),
            seen(4999, "reset_errors"),
            seen(8999, "reset_errors"),
        ];
        let labels: Vec<_> = label(rows, &incidents).iter().map(|row| row.label).collect();
        let (well, reset, restart) =
            (Some("no_action"), Some("reset_errors"), Some("restart_service"));
        assert_eq!(labels, [well, None, restart, None, reset, None]);
    }

    #[test]
    fn what_was_refused_is_not_called_well() {
        let labelled = label(vec![seen(100, "restart_service")], &BTreeMap::new());
        assert_eq!(labelled[0].label, None);
    }
}
