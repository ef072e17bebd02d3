//! The results of a grading, as a table for people and as JSON for machines.
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    grade::{Graded, Verdict},
    kind::Remedy,
    overload::Overload,
    soak::Soaked,
};

/// One kind's, or all kinds', counts.
#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    episodes: u32,
    right_action: u32,
    /// Of these, by a milder remedy that did not help and the right one after it.
    by_climbing: u32,
    wrong_action: u32,
    missed: u32,
    /// The agent did not answer at the end.
    agent_died: u32,
    /// Remedies before the fault, or to a target that needs none and served its clients well.
    heals_on_healthy: u32,
    /// Episodes that a remedy helps and whose clients were not served well at the end. They are in
    /// no percentile of the durations.
    not_cured: u32,
    #[serde(skip)]
    to_heal: Vec<f64>,
    #[serde(skip)]
    to_well: Vec<f64>,
}

impl Counts {
    fn add(&mut self, graded: &Graded) {
        self.episodes += 1;
        match graded.verdict {
            Verdict::Right => self.right_action += 1,
            Verdict::Wrong => self.wrong_action += 1,
            Verdict::Missed => self.missed += 1,
            Verdict::AgentDied => self.agent_died += 1,
        }
        self.heals_on_healthy += graded.on_healthy.soft + graded.on_healthy.hard;
        self.by_climbing += u32::from(graded.verdict == Verdict::Right && graded.climbed);
        if graded.expected != Remedy::NoAction {
            self.to_heal.extend(graded.to_heal_s);
            self.to_well.extend(graded.to_well_s);
            self.not_cured += u32::from(graded.to_well_s.is_none());
        }
    }

    fn ratio(&self) -> f64 {
        f64::from(self.right_action) / f64::from(self.episodes.max(1))
    }

    fn json(&self) -> Value {
        let mut value = json!(self);
        value["right_action_ratio"] = rounded(self.ratio()).into();
        value["fault_to_heal_s"] = percentiles(&self.to_heal);
        value["fault_to_well_s"] = percentiles(&self.to_well);
        value
    }
}

/// The whole card.
pub(crate) struct Card {
    kinds: BTreeMap<&'static str, (Remedy, Counts)>,
    all: Counts,
    soft_on_healthy: u32,
    hard_on_healthy: u32,
    healthy: u32,
    overload: Overload,
    soaked: Soaked,
}

impl Card {
    pub(crate) fn of(graded: &[Graded], overload: Overload, soaked: Soaked) -> Self {
        let mut card = Self {
            kinds: BTreeMap::new(),
            all: Counts::default(),
            soft_on_healthy: 0,
            hard_on_healthy: 0,
            healthy: 0,
            overload,
            soaked,
        };
        for one in graded {
            card.soft_on_healthy += one.on_healthy.soft;
            card.hard_on_healthy += one.on_healthy.hard;
            if one.episode.kind.is_healthy() {
                card.healthy += 1;
                continue;
            }
            let kind = card.kinds.entry(one.episode.kind.name());
            kind.or_insert_with(|| (one.expected, Counts::default())).1.add(one);
            card.all.add(one);
        }
        card
    }

    /// The unweighted mean over the kinds of faults.
    pub(crate) fn right_action_ratio(&self) -> f64 {
        let sum: f64 = self.kinds.values().map(|(_, counts)| counts.ratio()).sum();
        sum / self.kinds.len().max(1) as f64
    }

    /// One object for machines.
    pub(crate) fn json(&self) -> Value {
        let mut value = self.all.json();
        value["right_action_ratio"] = rounded(self.right_action_ratio()).into();
        value["heals_on_healthy"] = (self.soft_on_healthy + self.hard_on_healthy).into();
        value["hard_heals_on_healthy"] = self.hard_on_healthy.into();
        value["healthy_episodes"] = self.healthy.into();
        value["overload"] = json!(self.overload);
        value["replayed_healthy"] = json!(self.soaked);
        let kinds = self.kinds.iter().map(|(kind, (expected, counts))| {
            let mut value = counts.json();
            value["expected"] = json!(expected);
            ((*kind).to_owned(), value)
        });
        value["kinds"] = Value::Object(kinds.collect());
        value
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "| kind | right remedy | episodes | right | of these by escalation | wrong | missed | \
             agent died | fault to heal, p50 / p95 | fault to well, p50 / p95 of those cured | not \
             cured |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for (kind, (expected, c)) in &self.kinds {
            text += &row(kind, expected.name(), c);
        }
        text += &row("**all**", "", &self.all);
        let Overload { patients, drowned, soft, hard, refused } = &self.overload;
        text += &format!(
            "\nOverload: {drowned} of the {patients} targets of one agent were overloaded at once: {soft} \
             soft and {hard} hard remedies, refused by {refused:?}.\n"
        );
        let Soaked { pod_minutes, pods, soft, hard, pods_treated } = self.soaked;
        text += &format!(
            "\nRight action, mean over the kinds: {:.1} %. Live, on healthy targets: {} soft and \
             {} hard remedies. Replayed: {pod_minutes:.0} recorded healthy pod-minutes of {pods} \
             targets: {hard} hard remedies, and soft ones to {pods_treated} of them, {soft} in all \
             (repeated, since a reset changes nothing in a replay).\n",
            100.0 * self.right_action_ratio(),
            self.soft_on_healthy,
            self.hard_on_healthy,
        );
        text
    }
}

fn row(kind: &str, expected: &str, c: &Counts) -> String {
    let Counts { episodes, right_action, by_climbing, wrong_action, missed, .. } = c;
    let Counts { to_heal, to_well, agent_died, not_cured, .. } = c;
    let both = |values: &[f64]| match (percentile(values, 50), percentile(values, 95)) {
        (Some(a), Some(b)) => format!("{a:.1} / {b:.1} s"),
        _ => "-".to_owned(),
    };
    format!(
        "| {kind} | {expected} | {episodes} | {right_action} | {by_climbing} | {wrong_action} | \
         {missed} | {agent_died} | {} | {} | {not_cured} |\n",
        both(to_heal),
        both(to_well)
    )
}

/// The value that this percentage of the values does not exceed.
fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The 50th and the 95th, or null.
pub(crate) fn percentiles(values: &[f64]) -> Value {
    let of = |percent| percentile(values, percent).map(rounded);
    json!({ "p50": of(50), "p95": of(95) })
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{
        grade::Given,
        kind::Kind,
        plan::{Episode, Load},
    };

    fn graded(kind: Kind, verdict: Verdict) -> Graded {
        let load = Load::Idle;
        let episode = Episode { id: 0, kind, intensity: 0.5, load, quota: None, seed: 1 };
        let on_healthy = Given { soft: 1, hard: 0 };
        let on_healthy = if kind.is_healthy() { on_healthy } else { Given::default() };
        let expected = Remedy::RestartService;
        let (to_heal_s, to_well_s) = (Some(1.0), (verdict == Verdict::Right).then_some(3.0));
        Graded { episode, expected, verdict, climbed: true, on_healthy, to_heal_s, to_well_s }
    }

    #[test]
    fn every_kind_weighs_the_same() {
        let all = [
            graded(Kind::Stuck, Verdict::Right),
            graded(Kind::Leak, Verdict::Right),
            graded(Kind::Leak, Verdict::Wrong),
            graded(Kind::Leak, Verdict::Missed),
            graded(Kind::Leak, Verdict::AgentDied),
            graded(Kind::HealthyIdle, Verdict::Wrong),
        ];
        let card = Card::of(&all, Overload::default(), Soaked::default());
        let json = card.json();
        assert_eq!(json["right_action_ratio"], 0.625);
        assert_eq!((&json["wrong_action"], &json["missed"]), (&json!(1), &json!(1)));
        assert_eq!((&json["agent_died"], &json["not_cured"]), (&json!(1), &json!(3)));
        assert_eq!(json["heals_on_healthy"], 1);
        assert_eq!(json["fault_to_well_s"], json!({ "p50": 3.0, "p95": 3.0 }));
        assert_eq!(json["kinds"]["leak"]["by_climbing"], 1);
        assert!(card.table().contains("| leak | restart_service | 4 | 1 | 1 | 1 | 1 | 1 |"));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(&values, 50), Some(2.0));
        assert_eq!(percentile(&values, 95), Some(4.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
