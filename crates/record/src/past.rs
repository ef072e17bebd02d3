//! The last minute of each target: its rows and verdicts, for the evidence before a hard remedy.
//!
//! Older rows are dropped, so that the ring grows only for samples in quick succession. The rows belong
//! to one instance, as its window does.
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use paramedic_core::{
    boot_time::BootTime,
    decide::{Action, Decision, Source},
    engine::{Case, Index},
    features::{Feature, FeatureVector},
    health::Heard,
};

use crate::{evidence::Look, incident::name_of};

/// How far back the rows of a target are kept.
const SPAN: Duration = Duration::from_secs(60);
/// Maximum number of rows of a target, some 14 KiB: two for each second, the fastest regular pace,
/// and some that the kernel woke the agent for.
const MAX_ROWS: usize = 144;
/// No fewer than there are at the regular pace.
const AT_REST: usize = 36;

/// One row and its verdict.
#[derive(Clone, Copy, Debug)]
struct Row {
    at: BootTime,
    row: FeatureVector,
    action: Action,
    confidence: f32,
    source: Source,
    health: Option<Heard>,
    sees_traffic: bool,
}

impl Row {
    fn look(&self, now: BootTime) -> Look {
        let seen = |feature: &Feature| self.sees_traffic || !feature.is_http();
        let value = |feature: Feature| {
            (feature.name().to_owned(), Some(self.row[feature]).filter(|_| seen(&feature)))
        };
        Look {
            seconds_before: now.since(self.at).as_secs_f64(),
            action: self.action,
            confidence: self.confidence,
            source: name_of(self.source).to_owned(),
            health: self.health.map(|heard| heard.name().to_owned()),
            features: Feature::ALL.into_iter().map(value).collect(),
        }
    }
}

/// The rows of one instance, oldest first.
#[derive(Debug)]
struct Ring {
    instance: String,
    rows: VecDeque<Row>,
}

impl Ring {
    fn of(instance: &str) -> Self {
        Self { instance: instance.to_owned(), rows: VecDeque::with_capacity(AT_REST) }
    }

    fn push(&mut self, instance: &str, row: Row) {
        if self.instance != instance {
            instance.clone_into(&mut self.instance);
            self.rows.clear();
        }
        while self.rows.front().is_some_and(|old| row.at.since(old.at) > SPAN) {
            self.rows.pop_front();
        }
        if self.rows.len() >= MAX_ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }
}

/// The last minute of every target.
#[derive(Debug, Default)]
pub(crate) struct Past(HashMap<Index, Ring>);

impl Past {
    /// Keeps a row and its verdict.
    pub(crate) fn push(
        &mut self,
        index: Index,
        case: &Case,
        decision: &Decision,
        row: &FeatureVector,
    ) {
        let row = Row {
            at: case.decided_at,
            row: *row,
            action: decision.action,
            confidence: decision.confidence,
            source: decision.source,
            health: case.health().map(|word| word.heard),
            sees_traffic: case.sees_traffic(),
        };
        let instance = &case.target.id.instance;
        self.0.entry(index).or_insert_with(|| Ring::of(instance)).push(instance, row);
    }

    /// The rows of this instance within the last 60 s, oldest first.
    pub(crate) fn looks(&self, index: Index, instance: &str, now: BootTime) -> Vec<Look> {
        let ring = self.0.get(&index).filter(|ring| ring.instance == instance);
        let rows = ring.into_iter().flat_map(|ring| &ring.rows);
        rows.filter(|row| now.since(row.at) <= SPAN).map(|row| row.look(now)).collect()
    }

    /// The target was removed.
    pub(crate) fn forget(&mut self, index: Index) {
        self.0.remove(&index);
    }
}

#[cfg(test)]
mod tests {
    use paramedic_core::{decide::Classifier, features::schema::COUNT, target::Target};

    use super::*;

    fn case(life: u32, at: u64) -> Case {
        let mut case = Case::new(Target::for_tests("a", life), false);
        case.decided_at = BootTime::default() + Duration::from_secs(at);
        case
    }

    fn push(past: &mut Past, life: u32, at: u64) {
        let mut row = FeatureVector::new([0.0; COUNT]);
        row[Feature::ErrorCount] = at as f32;
        let rules = Classifier::Rules { reason: "no model is needed here".into() };
        past.push(7, &case(life, at), &rules.decide(&row).unwrap(), &row);
    }

    fn looks(past: &Past, life: u32, now: u64) -> Vec<f32> {
        let instance = case(life, 0).target.id.instance;
        let now = BootTime::default() + Duration::from_secs(now);
        let errors = |look: Look| look.features["error_count"].unwrap();
        past.looks(7, &instance, now).into_iter().map(errors).collect()
    }

    #[test]
    fn rows_of_the_last_minute_are_kept_in_order() {
        let mut past = Past::default();
        for at in [10, 50, 90, 100] {
            push(&mut past, 1, at);
        }
        assert_eq!(looks(&past, 1, 110), [50.0, 90.0, 100.0]);
        assert_eq!(looks(&past, 2, 110), [0.0; 0], "of another instance there are none");
        past.forget(7);
        assert_eq!(looks(&past, 1, 110), [0.0; 0]);
    }

    #[test]
    fn the_next_instance_begins_with_nothing() {
        let mut past = Past::default();
        push(&mut past, 1, 10);
        push(&mut past, 2, 11);
        assert_eq!(looks(&past, 2, 12), [11.0]);
        assert_eq!(looks(&past, 1, 12), [0.0; 0]);
    }

    #[test]
    fn the_ring_grows_only_to_its_bound() {
        let mut past = Past::default();
        for _ in 0..10 * MAX_ROWS {
            push(&mut past, 1, 1000);
        }
        assert_eq!(past.0[&7].rows.capacity(), MAX_ROWS);
        assert_eq!(looks(&past, 1, 1000).len(), MAX_ROWS);
    }

    #[test]
    fn at_the_regular_pace_it_does_not_grow() {
        let mut past = Past::default();
        for at in 0..1000 {
            push(&mut past, 1, 2 * at);
        }
        assert_eq!(past.0[&7].rows.capacity(), AT_REST);
        assert_eq!(looks(&past, 1, 2000).len(), 30);
    }

    #[test]
    fn a_column_that_the_kernel_does_not_see_has_no_value() {
        let mut past = Past::default();
        push(&mut past, 1, 10);
        let case = case(1, 10);
        let look = &past.looks(7, &case.target.id.instance, case.decided_at)[0];
        assert_eq!(look.features.len(), COUNT);
        assert_eq!(look.features["http_5xx_ratio"].is_some(), case.sees_traffic());
        assert_eq!(look.features["cpu_usage"], Some(0.0));
    }
}
