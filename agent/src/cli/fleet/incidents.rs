//! `incidents`: those of all nodes in one list.
use std::process::ExitCode;

use paramedic_record::incident::{Clean, Utc};
use serde_json::Value;

use super::reach::{Answer, Fleet};

pub(super) async fn print(fleet: &Fleet, limit: usize, json: bool) -> anyhow::Result<ExitCode> {
    let answers = fleet.ask("/api/v1/incidents").await;
    let all_answered = answers.iter().all(|(_, answer)| answer.is_ok());
    for (agent, why) in
        answers.iter().filter_map(|(agent, answer)| Some((agent, answer.as_ref().err()?)))
    {
        eprintln!("{}: {}", agent.place, Clean(why));
    }
    let incidents = newest(answers, limit);
    if json {
        println!("{}", serde_json::to_string(&incidents)?);
    } else {
        for incident in &incidents {
            println!("{}", line(incident));
        }
        if incidents.is_empty() {
            println!("No incidents on the nodes that answer.");
        }
    }
    Ok(if all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The newest of all, each with its node.
fn newest(answers: Vec<Answer<Vec<Value>>>, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    for (agent, incidents) in answers {
        for mut incident in incidents.into_iter().flatten() {
            // What is no object is no incident.
            if let Some(fields) = incident.as_object_mut() {
                fields.insert("node".to_owned(), agent.place.clone().into());
                all.push(incident);
            }
        }
    }
    all.sort_by_key(|incident| std::cmp::Reverse(incident["wall_time"].as_i64()));
    all.truncate(limit);
    all
}

fn line(incident: &Value) -> String {
    let text = |field: &str| Clean(incident[field].as_str().unwrap_or("-")).to_string();
    let at = Utc(incident["wall_time"].as_i64().unwrap_or_default());
    let outcome =
        incident["outcome"].as_str().map_or("in progress".to_owned(), |_| text("outcome"));
    let detail =
        incident["detail"].as_str().map_or(String::new(), |_| format!(": {}", text("detail")));
    // A quarantine is an eviction by its place on the ladder only.
    let is_quarantine = incident["means"] == "quarantine";
    let remedy = if is_quarantine { "quarantine".to_owned() } else { text("remedy") };
    let evidence = if incident["evidence"].is_string() { " [evidence]" } else { "" };
    format!(
        "{at} {} #{} {} {remedy}: {outcome}{detail}{evidence}",
        text("node"),
        incident["id"],
        text("name"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::fleet::reach::Agent;

    #[test]
    fn the_newest_of_all_nodes_come_first() {
        let agent = |node: &str| Agent { cluster: 0, pod: "a".into(), place: node.into() };
        let of = |id: i64, at: i64| json!({ "id": id, "name": "shop/web-1", "remedy": "restart", "outcome": "healed", "wall_time": at });
        let answers = vec![
            (agent("node1"), Ok(vec![of(8, 1_800_000_000), json!("no object")])),
            (agent("node2"), Ok(vec![of(3, 1_900_000_000), of(2, 1_700_000_000)])),
            (agent("node3"), Err("no answer".to_owned())),
        ];
        let newest = newest(answers, 2);
        assert_eq!(newest.len(), 2);
        assert_eq!(line(&newest[0]), "2030-03-17T17:46:40Z node2 #3 shop/web-1 restart: healed");
        let open =
            json!({ "id": 1, "name": "a\u{1b}[2J", "wall_time": 0, "evidence": "2 threads" });
        assert_eq!(line(&open), "1970-01-01T00:00:00Z - #1 a\u{fffd}[2J -: in progress [evidence]");
    }
}
