//! Which remedy helped which workload how often: what the agent remembers, read from its journal.
use std::{collections::BTreeMap, fmt, io, time::Duration};

use paramedic_core::{
    boot_time::BootTime,
    guard::{Follows, Memories, Symptom, Treatment, memory},
    target::Remedy,
};
use paramedic_host::clock::{Clock, wall_time};
use serde::Serialize;

use super::{
    BootId, Incident, Intent, Journal, JournalError,
    incident::{Clean, Utc},
};

/// Maximum number of incidents to read back. The node's budget permits fewer within a day.
pub(super) const RECENT_MOST: u32 = 1000;

/// The present, on the clocks to which a journal refers.
#[derive(Clone, Debug)]
pub struct Present {
    /// The boot.
    pub boot: BootId,
    /// Time on its clock.
    pub now: BootTime,
    /// Seconds since 1970.
    pub unix_s: i64,
}

impl Present {
    /// Reads the clocks.
    ///
    /// # Errors
    /// See [`BootId::current`].
    pub fn read() -> io::Result<Self> {
        Ok(Self::of(BootId::current()?, Clock::Boot))
    }

    pub(super) fn of(boot: BootId, clock: Clock) -> Self {
        let unix_s = wall_time();
        Self { boot, now: clock.now(), unix_s }
    }

    /// The instant in seconds since 1970, past or future.
    fn unix(&self, at: BootTime) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        self.unix_s
            .saturating_sub(seconds(self.now.since(at)))
            .saturating_add(seconds(at.since(self.now)))
    }
}

/// A treatment that has ended, of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The workload, by [`Target::workload`](paramedic_core::target::Target::workload).
    pub workload: String,
    /// Name of the target.
    pub name: String,
    /// The treatment.
    pub treatment: Treatment,
}

/// The concluded treatments of the last day, oldest first. Their times are on this boot's clock;
/// those of an earlier boot are converted by wall-clock time.
///
/// # Errors
/// See [`Journal::recent`].
pub fn remembered(journal: &Journal, present: &Present) -> Result<Vec<Remembered>, JournalError> {
    let day = i64::try_from(memory::REMEMBERED.as_secs()).unwrap_or(i64::MAX);
    let treatment = |incident: Incident| {
        let Intent { name, remedy, symptom, workload, wall_time, intended, .. } = incident.intent;
        let age = present.unix_s.saturating_sub(wall_time).max(0);
        let known = !workload.is_empty() && age < day;
        let outcome = incident.outcome.filter(|_| known)?;
        let (began, at) = match incident.concluded.filter(|_| incident.boot == present.boot) {
            Some(at) => (intended, at),
            None => {
                let now = Duration::from_nanos(present.now.as_nanos());
                let at =
                    BootTime::from(now.saturating_sub(Duration::from_secs(age.unsigned_abs())));
                (at, at)
            }
        };
        let treatment = Treatment { remedy, symptom, outcome, began, at };
        Some(Remembered { workload, name, treatment })
    };
    Ok(journal.recent(RECENT_MOST)?.into_iter().rev().filter_map(treatment).collect())
}

/// What is remembered of one remedy against one symptom of a workload, and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcomes {
    /// The workload, by its key.
    pub workload: String,
    /// Names of its targets that were treated, in order.
    pub targets: Vec<String>,
    /// The symptom.
    pub symptom: Symptom,
    /// The remedy.
    pub remedy: Remedy,
    /// How often it was applied with a known outcome.
    pub tried: u32,
    /// How often it helped.
    pub helped: u32,
    /// How often it helped and the symptom was treated again within ten minutes.
    pub came_back: u32,
    /// How often it did not help.
    pub did_not_help: u32,
    /// Time of the last outcome, in seconds since 1970.
    pub last: i64,
    /// What follows, if anything.
    pub follows: Option<Consequence>,
}

/// What the guard concludes; times are in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// See [`Follows::GoesFirst`].
    GoesFirst,
    /// See [`Follows::FutileUntil`].
    FutileUntil(i64),
    /// See [`Follows::FutileIfBackBefore`].
    FutileIfBackBefore(i64),
}

/// Counts what is remembered, by workload, symptom and remedy.
#[must_use]
pub fn by_workload(remembered: &[Remembered], present: &Present) -> Vec<Outcomes> {
    let mut memories = Memories::default();
    let mut targets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Remembered { workload, name, treatment } in remembered {
        memories.push(workload, *treatment);
        let names = targets.entry(workload).or_default();
        if let Err(place) = names.binary_search(name) {
            names.insert(place, name.clone());
        }
    }
    let mut all = Vec::new();
    for (workload, targets) in targets {
        let tallies = memories.of(workload).map(|memory| memory.tallies(present.now));
        all.extend(tallies.into_iter().flatten().map(|tally| Outcomes {
            workload: workload.to_owned(),
            targets: targets.clone(),
            symptom: tally.symptom,
            remedy: tally.remedy,
            tried: tally.tried,
            helped: tally.helped,
            came_back: tally.came_back,
            did_not_help: tally.tried - tally.helped - tally.came_back,
            last: present.unix(tally.last),
            follows: tally.follows.map(|follows| match follows {
                Follows::GoesFirst => Consequence::GoesFirst,
                Follows::FutileUntil(at) => Consequence::FutileUntil(present.unix(at)),
                Follows::FutileIfBackBefore(at) => {
                    Consequence::FutileIfBackBefore(present.unix(at))
                }
            }),
        }));
    }
    all
}

/// The outcomes as a table with a header.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [Outcomes]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            ["WORKLOAD", "VERSION", "SYMPTOM", "REMEDY", "TRIED", "HELPED", "CAME BACK", "LAST"];
        let mut lines = vec![(head.map(str::to_owned), "WHAT FOLLOWS".to_owned())];
        lines.extend(self.0.iter().map(|row| (row.cells(), row.consequence())));
        let widths: [usize; 8] = std::array::from_fn(|column| {
            lines.iter().map(|(cells, _)| cells[column].chars().count()).max().unwrap_or_default()
        });
        for (cells, follows) in lines {
            for (cell, width) in cells.iter().zip(widths) {
                write!(f, "{cell:<width$}  ")?;
            }
            writeln!(f, "{follows}")?;
        }
        Ok(())
    }
}

impl Outcomes {
    fn cells(&self) -> [String; 8] {
        let name = self.targets.last().map(String::as_str).unwrap_or_default();
        let others = match self.targets.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let version = self.workload.split_once(' ').map_or("-", |(_, version)| version);
        [
            format!("{}{others}", Clean(name)),
            Clean(version).to_string(),
            self.symptom.name().to_owned(),
            self.remedy.name().to_owned(),
            self.tried.to_string(),
            self.helped.to_string(),
            self.came_back.to_string(),
            Utc(self.last).to_string(),
        ]
    }

    fn consequence(&self) -> String {
        let remedy = self.remedy.name();
        match self.follows {
            None => "-".to_owned(),
            Some(Consequence::GoesFirst) => format!("{remedy} goes first"),
            Some(Consequence::FutileUntil(at)) => format!("{remedy} is futile until {}", Utc(at)),
            Some(Consequence::FutileIfBackBefore(at)) => {
                format!("{remedy} is futile if it is back before {}", Utc(at))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use paramedic_core::verify::Outcome;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn present() -> Present {
        Present {
            boot: BootId::parse("6f1c2a3b-0000-4000-8000-123456789abc").unwrap(),
            now: BootTime::from_nanos(10_000 * SECOND),
            unix_s: 1_767_323_045,
        }
    }

    fn treated(name: &str, remedy: Remedy, outcome: Outcome, seconds_ago: u64) -> Remembered {
        let at = BootTime::from_nanos((10_000 - seconds_ago) * SECOND);
        let treatment = Treatment { remedy, symptom: Symptom::Errors, outcome, began: at, at };
        Remembered { workload: "r/web 4f1c8597baaf".into(), name: name.into(), treatment }
    }

    fn rows() -> Vec<Outcomes> {
        let all = [
            treated("default/web-a", Remedy::Soft, Outcome::NotHealed, 3000),
            treated("default/web-a", Remedy::Restart, Outcome::Healed, 2900),
            treated("default/web-b", Remedy::Restart, Outcome::Healed, 2600),
            treated("default/web-b", Remedy::Restart, Outcome::NotHealed, 1000),
        ];
        by_workload(&all, &present())
    }

    #[test]
    fn replicas_count_together() {
        let rows = rows();
        let counts: Vec<_> = rows
            .iter()
            .map(|r| (r.remedy, r.tried, r.helped, r.came_back, r.did_not_help))
            .collect();
        assert_eq!(counts, [(Remedy::Soft, 1, 0, 0, 1), (Remedy::Restart, 3, 1, 1, 1)]);
        assert_eq!(rows[1].targets, ["default/web-a", "default/web-b"]);
        assert_eq!(rows[1].last, present().unix_s - 1000);
        let until = present().unix_s - 1000 + 86_400;
        assert_eq!(rows[1].follows, Some(Consequence::FutileUntil(until)));
    }

    #[test]
    fn the_table_says_what_follows() {
        let table = Table(&rows()).to_string();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines[2],
            "default/web-b and 1 more  4f1c8597baaf  errors   restart  3      1       1          \
             2026-01-02T02:47:25Z  restart is futile until 2026-01-03T02:47:25Z"
        );
        assert!(lines[0].starts_with("WORKLOAD                  VERSION"), "{table}");
        assert!(lines[1].ends_with("  -"), "{table}");
    }

    #[test]
    fn json_names_are_stable() {
        assert_eq!(
            serde_json::to_value(&rows()[1]).unwrap(),
            serde_json::json!({
                "workload": "r/web 4f1c8597baaf",
                "targets": ["default/web-a", "default/web-b"],
                "symptom": "errors", "remedy": "restart",
                "tried": 3, "helped": 1, "came_back": 1, "did_not_help": 1,
                "last": 1_767_322_045, "follows": {"futile_until": 1_767_408_445},
            })
        );
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let rows =
            by_workload(&[treated("a\x1b[2J", Remedy::Soft, Outcome::Healed, 9)], &present());
        assert!(!Table(&rows).to_string().contains('\x1b'));
    }
}
