//! The episodes of a seed: each is a row of the table with the load and the intensity that the
//! seed draws. Pure: the same seed gives the same episodes on every machine.
use std::ops::Deref;

use anyhow::{Result, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{episode::Episode, truth::Truth};

/// Models may learn from episodes of seeds below this. The others are for grading: no training
/// sees them.
pub(super) const NEVER_SEEN: u64 = 1000;

/// What reports call a seed: whether models may have learnt from it.
pub(super) const fn split(seed: u64) -> &'static str {
    if seed < NEVER_SEEN { "seen" } else { "never seen" }
}

/// # Errors
/// If episodes of the seed must not be recorded, because grading needs seeds that no model saw.
pub(super) fn may_be_recorded(seed: u64) -> Result<()> {
    ensure!(
        seed < NEVER_SEEN,
        "seed {seed} is for grading, and no model may learn from it: record a seed below \
         {NEVER_SEEN}"
    );
    Ok(())
}

/// The load of an episode, and how bad its fault is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Draw {
    pub(super) clients: u32,
    /// The requests a second of all clients together.
    pub(super) per_second: u32,
    /// 0 to 1; what that means depends on the fault.
    pub(super) intensity: f64,
}

impl Draw {
    /// Without a seed every client sends one request a second.
    pub(super) const ORDINARY: Self = Self { clients: 8, per_second: 8, intensity: 0.5 };

    fn of(seed: u64, round: u32, row: &Episode) -> Self {
        if (seed, round) == (0, 0) {
            return Self::ORDINARY;
        }
        // By name, so that a new row of the table does not change the others.
        let sum = Sha256::digest(format!("{seed}/{round}/{}", row.name()));
        let start = sum.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        let mut rng = Rng::with_seed(start);
        // Three digits survive a file.
        let intensity = f64::from(rng.u32(0..=1000)) / 1000.0;
        if row.needs_its_load {
            return Self { intensity, ..Self::ORDINARY };
        }
        let clients = rng.u32(4..=12);
        Self { clients, per_second: rng.u32(clients.max(5)..=20), intensity }
    }

    /// Half to three halves of an ordinary amount.
    pub(super) fn scaled(&self, amount: u64) -> u64 {
        (amount as f64 * (0.5 + self.intensity)).round() as u64
    }

    /// The share of requests that a fault strikes: all from the ordinary intensity on, and `least`
    /// at the lowest.
    pub(super) fn share(&self, least: f64) -> f64 {
        (least + (1.0 - least) * 2.0 * self.intensity).min(1.0)
    }
}

/// An episode that is to be played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// Counts through the whole table, and on in the next round.
    pub(super) id: u32,
    pub(super) row: Episode,
    /// How often the seed has drawn for this row before.
    pub(super) round: u32,
    pub(super) draw: Draw,
}

impl Deref for Planned {
    type Target = Episode;

    fn deref(&self) -> &Episode {
        &self.row
    }
}

impl Planned {
    pub(super) fn name(&self) -> String {
        match self.round {
            0 => self.row.name(),
            round => format!("{}#{round}", self.row.name()),
        }
    }

    /// The name as one of files.
    pub(super) fn file_name(&self) -> String {
        self.name().replace('/', "-")
    }

    /// The effect that its clients must see: less if the fault strikes less.
    pub(super) fn truth(&self) -> Option<Truth> {
        let truth = self.row.truth?;
        Some(Truth { least: truth.least * self.share(), ..truth })
    }

    /// The share of its requests that the fault strikes.
    pub(super) fn share(&self) -> f64 {
        self.row.least_share.map_or(1.0, |least| self.draw.share(least))
    }
}

/// These rows of the table, each with its place in the table, again and again until there are
/// `episodes`; without a number each is played once.
pub(super) fn plan(rows: &[(u32, Episode)], seed: u64, episodes: Option<usize>) -> Vec<Planned> {
    let table = super::rows::all().len() as u32;
    let rounds = (0..).flat_map(|round| rows.iter().map(move |(place, row)| (round, *place, *row)));
    rounds
        .take(episodes.unwrap_or(rows.len()))
        .map(|(round, place, row)| Planned {
            id: round * table + place,
            row,
            round,
            draw: Draw::of(seed, round, &row),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strangers::rows;

    fn draws(seed: u64, episodes: Option<usize>) -> Vec<Draw> {
        let rows = rows::chosen(&[], false).unwrap();
        plan(&rows, seed, episodes).iter().map(|planned| planned.draw).collect()
    }

    #[test]
    fn a_seed_is_a_plan_and_the_default_one_is_the_ordinary_load() {
        assert_eq!(draws(7, None), draws(7, None));
        assert_ne!(draws(7, None), draws(8, None));
        assert!(draws(0, None).iter().all(|draw| *draw == Draw::ORDINARY));
    }

    #[test]
    fn a_longer_plan_repeats_the_table_with_other_draws() {
        let rows = rows::chosen(&["flask/poisoned".to_owned()], false).unwrap();
        let planned = plan(&rows, 0, Some(3));
        let names: Vec<_> = planned.iter().map(Planned::name).collect();
        assert_eq!(names, ["flask/poisoned", "flask/poisoned#1", "flask/poisoned#2"]);
        assert_ne!(planned[1].draw, planned[2].draw);
        let ids: std::collections::BTreeSet<_> = planned.iter().map(|one| one.id).collect();
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn a_choice_of_rows_does_not_change_what_is_drawn_for_them() {
        let of = |names: &[String]| {
            let planned = plan(&rows::chosen(names, false).unwrap(), 3, None);
            planned.into_iter().find(|one| one.name() == "flask/poisoned").unwrap()
        };
        let (alone, among) = (of(&["flask/poisoned".to_owned()]), of(&[]));
        assert_eq!((alone.id, alone.draw), (among.id, among.draw));
    }

    #[test]
    fn a_row_that_needs_its_load_is_given_it() {
        let rows = rows::chosen(&["gunicorn/cpu-quota".to_owned()], false).unwrap();
        let draw = plan(&rows, 12, None)[0].draw;
        assert_eq!((draw.clients, draw.per_second), (8, 8));
        assert!(draw.intensity != Draw::ORDINARY.intensity, "{draw:?}");
    }

    #[test]
    fn the_ordinary_intensity_changes_no_amount_and_strikes_all() {
        let draw = |intensity| Draw { intensity, ..Draw::ORDINARY };
        assert_eq!([0.0, 0.5, 1.0].map(|i| draw(i).scaled(600)), [300, 600, 900]);
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|i| draw(i).share(0.5)), [0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn seeds_for_grading_are_not_recorded() {
        assert!(may_be_recorded(999).is_ok() && split(999) == "seen");
        let refused = may_be_recorded(1000).unwrap_err().to_string();
        assert!(refused.contains("below 1000") && split(1000) == "never seen", "{refused}");
    }
}
