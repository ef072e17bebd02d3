//! `top`: the targets of all nodes as a live table.
use std::{process::ExitCode, time::Duration};

use anyhow::anyhow;
use tokio::{sync::mpsc, time::sleep};

use super::reach::{Answer, Fleet};
use crate::cli::top::{self, BuildInfo, Target, Update};

/// Between two rounds of questions to all agents.
const PERIOD: Duration = Duration::from_secs(2);

pub(super) async fn run(fleet: Fleet) -> anyhow::Result<ExitCode> {
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        let nodes = fleet.agents.len();
        loop {
            let answers = fleet.ask::<Vec<Target>>("/api/v1/targets").await;
            let silent = silent(&answers);
            let update = update(answers, nodes);
            if tell.send(Ok(update)).await.is_err() {
                return;
            }
            if let Some(why) = silent
                && tell.send(Err(anyhow!(why))).await.is_err()
            {
                return;
            }
            sleep(PERIOD).await;
        }
    });
    top::show(told).await
}

/// Which agents did not answer.
fn silent<T>(answers: &[Answer<T>]) -> Option<String> {
    let mut silent =
        answers.iter().filter_map(|(agent, answer)| Some((agent, answer.as_ref().err()?)));
    let (first, why) = silent.next()?;
    Some(match silent.count() {
        0 => format!("{}: {why}", first.place),
        more => format!("{}: {why}; and {more} more nodes", first.place),
    })
}

/// The targets of all agents that answered. Those of the others go from the table.
fn update(answers: Vec<Answer<Vec<Target>>>, nodes: usize) -> Update {
    let answered = answers.into_iter().filter_map(|(_, answer)| answer.ok());
    let targets: Vec<Target> = answered.flatten().collect();
    Update {
        about: Some(BuildInfo {
            node: format!("{nodes} nodes"),
            version: String::new(),
            dry_run: false,
        }),
        roster: Some(targets.iter().map(|target| target.id.uid.clone()).collect()),
        targets,
        incidents: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;
    use crate::cli::{fleet::reach::Agent, top::view::tests::target};

    #[test]
    fn targets_of_all_nodes_are_one_table_and_silence_is_told() {
        let agent = |node: &str| Agent { cluster: 0, pod: "a".into(), place: node.into() };
        let one = |name| vec![from_value::<Target>(target(name, "no_action")).unwrap()];
        let mut answers = vec![(agent("node1"), Ok(one("a"))), (agent("node2"), Ok(one("b")))];
        assert_eq!(silent(&answers), None);
        answers.push((agent("node3"), Err("no answer".to_owned())));
        assert_eq!(silent(&answers).unwrap(), "node3: no answer");
        answers.push((agent("node4"), Err("no answer".to_owned())));
        assert_eq!(silent(&answers).unwrap(), "node3: no answer; and 1 more nodes");
        let update = update(answers, 4);
        assert_eq!(update.roster.unwrap(), ["uid-a", "uid-b"]);
        assert_eq!(update.about.unwrap().node, "4 nodes");
    }
}
