//! The content of a workload's Lease: the agent that may apply a hard remedy now, the recent
//! remedies on all nodes, and how many of the workload's pods each node finds sick.
//!
//! The lock is judged by changes seen here and never by remote clocks: it has expired if it did not
//! change for 60 s on this node's boot clock. The history is dated by the API server's clock, which
//! all agents share. Pure: values and times in, values out.
use std::collections::BTreeMap;

use paramedic_core::{
    guard::workload::{IN_VAIN_SPAN, SHARE_SPAN},
    target::Remedy,
    verify::Outcome,
};
use serde::{Deserialize, Serialize};

/// The annotation with the record, as JSON.
pub const RECORD: &str = "paramedic.dev/record";

/// How long a node's report of sick pods is valid, in seconds.
const SICK_FOR: i64 = 180;
/// How long other nodes have time to report sick pods before the first is healed, in seconds.
const COUNTING: i64 = 3;
/// Maximum number of stored remedies.
const KEPT: usize = 200;

/// The record on a workload's Lease, besides the lock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Hard remedies, oldest first.
    #[serde(default)]
    pub heals: Vec<Heal>,
    /// The last report of each node on the workload's pods.
    #[serde(default)]
    pub sick: BTreeMap<String, Sick>,
}

/// A hard remedy for one of the workload's pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heal {
    /// When its lock was taken, or the end of the drain that comes first: seconds since 1970 by the
    /// API server's clock.
    pub at: i64,
    /// The agent process, with its node.
    pub by: String,
    /// The pod.
    pub pod: String,
    /// The remedy. Agents of earlier versions read the same Lease.
    #[serde(rename = "rung")]
    pub remedy: Remedy,
    /// Its outcome, if known.
    pub outcome: Option<Outcome>,
}

/// A node's number of sick pods of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sick {
    /// Start of its reports: seconds since 1970 by the API server's clock.
    #[serde(default)]
    pub since: i64,
    /// Time of its last report.
    pub at: i64,
    /// The number.
    pub pods: u32,
}

impl Record {
    /// Parses the annotation; a missing one is an empty record.
    ///
    /// # Errors
    /// If it is not a record. Then it is unknown what was done, and no hard remedy is permitted.
    pub fn parse(annotation: Option<&str>) -> Result<Self, serde_json::Error> {
        annotation.map_or_else(|| Ok(Self::default()), serde_json::from_str)
    }

    /// Drops outdated entries.
    pub fn prune(&mut self, now: i64) {
        let keep = i64::try_from(IN_VAIN_SPAN.as_secs()).unwrap_or(i64::MAX);
        self.heals.retain(|heal| now.saturating_sub(heal.at) < keep);
        let excess = self.heals.len().saturating_sub(KEPT);
        self.heals.drain(..excess);
        self.sick.retain(|_, sick| now.saturating_sub(sick.at) < SICK_FOR && sick.pods > 0);
    }

    /// Hard remedies within the period of the workload's share. One in the future counts: a clock
    /// was set back, and its age is unknown.
    #[must_use]
    pub fn recent(&self, now: i64) -> u32 {
        let span = i64::try_from(SHARE_SPAN.as_secs()).unwrap_or(i64::MAX);
        self.count(|heal| now.saturating_sub(heal.at) < span)
    }

    /// Hard remedies without success since the last success, within an hour.
    #[must_use]
    pub fn in_vain(&self, now: i64) -> u32 {
        let span = i64::try_from(IN_VAIN_SPAN.as_secs()).unwrap_or(i64::MAX);
        let since = self.heals.iter().rposition(|heal| heal.outcome == Some(Outcome::Healed));
        let since = since.and_then(|last| self.heals.get(last)).map_or(i64::MIN, |heal| heal.at);
        self.count(|heal| {
            let in_vain = matches!(heal.outcome, Some(Outcome::NotHealed | Outcome::Worse));
            in_vain && heal.at >= since && now.saturating_sub(heal.at) < span
        })
    }

    fn count(&self, counts: impl Fn(&Heal) -> bool) -> u32 {
        u32::try_from(self.heals.iter().filter(|heal| counts(heal)).count()).unwrap_or(u32::MAX)
    }

    /// Sets this node's number now, and keeps the start of its reports.
    pub fn report(&mut self, node: &str, now: i64, pods: u32) {
        let since = self.sick.get(node).filter(|sick| now.saturating_sub(sick.at) < SICK_FOR);
        let since = since.map_or(now, |sick| sick.since);
        self.sick.insert(node.to_owned(), Sick { since, at: now, pods });
    }

    /// Whether this node has only just started to report sick pods.
    #[must_use]
    pub fn is_counting(&self, node: &str, now: i64) -> bool {
        self.sick.get(node).is_none_or(|sick| now.saturating_sub(sick.since) < COUNTING)
    }

    /// Sick pods on all nodes with a recent report.
    #[must_use]
    pub fn sick(&self, now: i64) -> u32 {
        let fresh = self.sick.values().filter(|sick| now.saturating_sub(sick.at) < SICK_FOR);
        fresh.fold(0, |sum, sick| sum.saturating_add(sick.pods))
    }
}

/// The name of a workload's Lease: readable, and within 253 characters even if the workload's own
/// name has that length.
#[must_use]
pub fn name(kind: &str, namespace: &str, workload: &str) -> String {
    const MOST: usize = 253;
    const HASH: usize = 17;
    // The creator of the pod chooses the kind, and it becomes part of a path.
    let kind: String = kind.chars().filter(char::is_ascii_alphanumeric).take(63).collect();
    let name = format!("{}.{namespace}.{workload}", kind.to_ascii_lowercase());
    if name.len() <= MOST {
        return name;
    }
    // FNV-1a, 64 bits: distinguishes names of this length that differ only at their end.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let begin: String = name.chars().take(MOST - HASH).collect();
    format!("{}-{hash:016x}", begin.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heal(at: i64, outcome: Option<Outcome>) -> Heal {
        Heal { at, by: "a".into(), pod: "p".into(), remedy: Remedy::Restart, outcome }
    }

    /// While a DaemonSet is updated, agents of both versions share the Leases.
    #[test]
    fn agents_of_0_1_0_read_and_write_the_same_record() {
        let text = r#"{"heals":[{"at":1700000000,"by":"node1/7","pod":"web-1","rung":"restart","outcome":"not_healed"},{"at":1700000060,"by":"node1/7","pod":"web-1","rung":"evict","outcome":null}],"sick":{"node1":{"since":1700000000,"at":1700000060,"pods":2}}}"#;
        let record = Record::parse(Some(text)).unwrap();
        let remedies: Vec<_> = record.heals.iter().map(|heal| heal.remedy).collect();
        assert_eq!(remedies, [Remedy::Restart, Remedy::Evict]);
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }

    #[test]
    fn a_heal_counts_for_ten_minutes_and_one_from_the_future_counts_too() {
        let heals = vec![heal(0, None), heal(400, None), heal(5000, None)];
        let record = Record { heals, ..Record::default() };
        assert_eq!(record.recent(599), 3);
        assert_eq!(record.recent(600), 2);
        assert_eq!(record.recent(1000), 1);
    }

    #[test]
    fn remedies_without_success_count_for_an_hour_or_until_one_helped() {
        let vain = Some(Outcome::NotHealed);
        let mut record =
            Record { heals: vec![heal(0, vain), heal(700, vain)], ..Record::default() };
        assert_eq!(record.in_vain(800), 2);
        assert_eq!(record.in_vain(3600), 1);
        record.heals.push(heal(1400, Some(Outcome::Healed)));
        assert_eq!(record.in_vain(1500), 0);
        record.heals.push(heal(2100, Some(Outcome::Worse)));
        assert_eq!(record.in_vain(2200), 1);
        record.heals.push(heal(2800, Some(Outcome::Unverified)));
        assert_eq!(
            record.in_vain(2900),
            1,
            "an unverified remedy does not count as one without success"
        );
    }

    #[test]
    fn a_nodes_report_of_sick_pods_expires() {
        let sick = [("a", 0, 2), ("b", 50, 1)];
        let sick = sick.map(|(node, at, pods)| (node.to_owned(), Sick { since: at, at, pods }));
        let mut record = Record { sick: sick.into(), ..Record::default() };
        assert_eq!(record.sick(179), 3);
        assert_eq!(record.sick(180), 1);
        record.prune(180);
        assert_eq!(record.sick.len(), 1);
    }

    #[test]
    fn the_first_remedy_waits_for_the_reports_of_other_nodes() {
        let mut record = Record::default();
        assert!(record.is_counting("a", 100));
        record.report("a", 100, 1);
        assert!(record.is_counting("a", 102) && !record.is_counting("a", 103));
        record.report("a", 150, 2);
        assert!(!record.is_counting("a", 150), "it has been saying so all along");
        record.report("a", 500, 1);
        assert!(record.is_counting("a", 501), "what it said long ago is forgotten");
    }

    #[test]
    fn a_record_stays_small() {
        let heals = (0..1000).map(|at| heal(at, None)).collect();
        let mut record = Record { heals, ..Record::default() };
        record.prune(1000);
        assert_eq!((record.heals.len(), record.heals[0].at), (200, 800));
    }

    #[test]
    fn an_invalid_record_is_refused_and_a_missing_one_is_empty() {
        assert_eq!(Record::parse(None).unwrap(), Record::default());
        assert_eq!(Record::parse(Some("{}")).unwrap(), Record::default());
        for bad in ["", "7", "{\"heals\":3}", "{\"heals\":[{}]}", "{\"sick\":{\"a\":{}}}"] {
            assert!(Record::parse(Some(bad)).is_err(), "{bad}");
        }
        let record = Record { heals: vec![heal(7, Some(Outcome::Worse))], ..Record::default() };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(Record::parse(Some(&text)).unwrap(), record);
    }

    #[test]
    fn names_are_readable_and_never_too_long() {
        assert_eq!(name("Deployment", "default", "shop"), "deployment.default.shop");
        assert_eq!(name("X/../Y?a=", "ns", "shop"), "xya.ns.shop");
        let long = |last: char| name("StatefulSet", "ns", &format!("{}{last}", "a".repeat(252)));
        assert!(long('x').len() <= 253 && long('x') != long('y'));
    }
}
