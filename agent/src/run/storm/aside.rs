//! The oracle for pods out of their Services or workloads, second by second.
use std::collections::HashMap;

use super::*;

const UNTIL: &str = "paramedic.dev/drained-until";
const QUARANTINED: &str = "paramedic.dev/quarantined";

/// From a drain to its deadline at the latest: 20 s, the grace period of 30 s, a minute.
const LONGEST: u32 = 110;
/// Seconds for which a pod may be out beyond that, with an API server and an agent that live: the
/// watch backs off for half a minute after an outage, and requests may fail.
const SLACK: u32 = 90;

/// Ends with the first violation.
pub(super) async fn watch(storm: Arc<Storm>) -> String {
    let mut out: HashMap<(String, String), (u32, u32)> = HashMap::new();
    loop {
        sleep(Duration::from_secs(1)).await;
        let pods = storm.fake.list(Kind::Pod);
        let drained: Vec<(String, String, String)> = pods.iter().filter_map(drained).collect();
        out.retain(|(uid, until), _| drained.iter().any(|(u, at, _)| u == uid && at == until));
        for (uid, until, node) in drained {
            let (seconds, late) = out.entry((uid.clone(), until)).or_default();
            *seconds += 1;
            let answers = !storm.down.load(Ordering::Relaxed);
            if *seconds > LONGEST && answers && storm.alive.lock().contains(&node) {
                *late += 1;
            }
            if *late > SLACK {
                return format!("pod {uid} has been out of its Services for {seconds} s");
            }
        }
        let mut kept: HashMap<String, u32> = HashMap::new();
        for workload in pods.iter().filter_map(kept_of) {
            *kept.entry(workload).or_default() += 1;
        }
        if let Some((workload, pods)) = kept.iter().find(|(_, pods)| **pods > 1) {
            return format!("{pods} pods of {workload} are in quarantine");
        }
    }
}

/// Uid, deadline and node of a drained pod that an agent can see.
fn drained(pod: &Value) -> Option<(String, String, String)> {
    let metadata = &pod["metadata"];
    metadata["labels"]["paramedic.dev/heal"].as_str()?;
    if !metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some((
        text(&metadata["uid"])?,
        text(&metadata["annotations"][UNTIL])?,
        text(&pod["spec"]["nodeName"])?,
    ))
}

/// The workload of a pod in quarantine; one that is being deleted counts no more.
fn kept_of(pod: &Value) -> Option<String> {
    let metadata = &pod["metadata"];
    let record = metadata["annotations"][QUARANTINED].as_str()?;
    let record: Value = serde_json::from_str(record).unwrap();
    let stays = metadata["deletionTimestamp"].is_null();
    stays.then(|| record["workload"].as_str().unwrap().to_owned())
}
