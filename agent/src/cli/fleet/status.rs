//! `status`: one line per node.
use std::{collections::BTreeMap, process::ExitCode};

use paramedic_record::incident::Clean;
use serde::{Deserialize, Serialize};
use tokio::join;

use super::{
    act::is_paused,
    reach::{Answer, Fleet},
};
use crate::cli::top::{Standing, Target};

/// What an agent tells of itself at `/api/v1/about`.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    pub(super) version: String,
    pub(super) dry_run: bool,
    /// What it waits for before it is ready.
    pub(super) pending: Vec<String>,
}

/// One node.
#[derive(Debug, Serialize)]
struct Row {
    node: String,
    agent: String,
    version: Option<String>,
    dry_run: Option<bool>,
    targets: usize,
    /// Number of targets by their standing.
    standings: BTreeMap<&'static str, usize>,
    /// Why the agent did not answer, or is not ready.
    trouble: Option<String>,
}

pub(super) async fn print(fleet: &Fleet, json: bool) -> anyhow::Result<ExitCode> {
    let (about, targets) = join!(fleet.ask("/api/v1/about"), fleet.ask("/api/v1/targets"));
    let rows: Vec<Row> = about.into_iter().zip(targets).map(|(a, t)| row(a, t)).collect();
    if json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        for cluster in &fleet.clusters {
            if is_paused(cluster).await == Some(true) {
                println!("PAUSED {}: nothing is healed until `resume`", cluster.name);
            }
        }
        print!("{}", table(&rows));
    }
    let well = rows.iter().all(|row| row.trouble.is_none());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row((agent, about): Answer<About>, (_, targets): Answer<Vec<Target>>) -> Row {
    let mut trouble = targets.as_ref().err().cloned();
    let about = match about {
        Ok(about) => {
            if let Some(pending) = about.pending.first() {
                trouble.get_or_insert_with(|| format!("not ready: {pending}"));
            }
            Some(about)
        }
        // One version older, it does not tell.
        Err(_) => None,
    };
    let mut standings = BTreeMap::new();
    for target in targets.iter().flatten() {
        *standings.entry(Standing::of(target).name()).or_default() += 1;
    }
    Row {
        node: agent.place,
        agent: agent.pod,
        version: about.as_ref().map(|about| about.version.clone()),
        dry_run: about.as_ref().map(|about| about.dry_run),
        targets: targets.map(|targets| targets.len()).unwrap_or_default(),
        standings,
        trouble,
    }
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.node.len()).max().unwrap_or_default().max(4);
    let mut text = format!("{:width$}  {:9}  {:>7}  TARGETS ARE\n", "NODE", "VERSION", "TARGETS");
    for row in rows {
        let version = Clean(row.version.as_deref().unwrap_or("-")).to_string();
        let mut are: Vec<String> =
            row.standings.iter().map(|(name, count)| format!("{count} {name}")).collect();
        if row.dry_run == Some(true) {
            are.push("dry run".to_owned());
        }
        let are = match &row.trouble {
            Some(why) => Clean(why).to_string(),
            None => are.join(", "),
        };
        text += &format!("{:width$}  {version:9}  {:>7}  {are}\n", row.node, row.targets);
    }
    let total: usize = rows.iter().map(|row| row.targets).sum();
    let silent = rows.iter().filter(|row| row.trouble.is_some()).count();
    let nodes = if rows.len() == 1 { "node" } else { "nodes" };
    text += &format!("{total} targets on {} {nodes}", rows.len());
    match silent {
        0 => text + "\n",
        _ => text + &format!("; {silent} of the agents need a look\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;
    use crate::cli::{fleet::reach::Agent, top::view::tests::target};

    fn agent(node: &str) -> Agent {
        Agent { cluster: 0, pod: format!("agent-{node}"), place: node.to_owned() }
    }

    #[test]
    fn a_row_counts_the_targets_or_says_what_is_wrong() {
        let targets = vec![
            from_value(target("a", "no_action")).unwrap(),
            from_value(target("b", "reset_errors")).unwrap(),
        ];
        let about = || About { version: "0.1.0".into(), dry_run: false, pending: Vec::new() };
        let good = row((agent("node1"), Ok(about())), (agent("node1"), Ok(targets)));
        let old = row((agent("node2"), Err("404".into())), (agent("node2"), Ok(Vec::new())));
        let starting = About { pending: vec!["the first list of pods".into()], ..about() };
        let starting = row((agent("node3"), Ok(starting)), (agent("node3"), Ok(Vec::new())));
        let lost: Answer<Vec<Target>> = (agent("node4"), Err("no answer within 2500 ms".into()));
        let lost = row((agent("node4"), Err("no answer within 2500 ms".into())), lost);
        let text = table(&[good, old, starting, lost]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "node1  0.1.0            2  1 sick, 1 well");
        assert_eq!(lines[2], "node2  -                0  ");
        assert!(lines[3].ends_with("not ready: the first list of pods"));
        assert!(lines[4].ends_with("no answer within 2500 ms"));
        assert_eq!(lines[5], "2 targets on 4 nodes; 2 of the agents need a look");
        let json: serde_json::Value = json!({ "version": "1", "dry_run": true, "pending": [] });
        assert!(from_value::<About>(json).unwrap().dry_run);
    }
}
