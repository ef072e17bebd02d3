//! How much a row is like those that the model was trained on.
//!
//! A model answers every row with confidence, also one from a world that it never saw. So the
//! trainer writes down which values came *together* in the recorded rows: each column is cut into
//! at most eight ranges, and for each pair of columns one word has a bit per pair of ranges. A pair
//! of values that never came together is *unseen*. The trainer also chooses how many unseen pairs a
//! row may have, on services that the model had not learnt from.
//!
//! The last range of a column has no end: a service that is ten times as busy as any recorded one
//! is like the busiest of them, and not strange for that alone.
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::features::schema::{COUNT, Feature, FeatureVector};

/// Ranges of a column: three bits, so that the 64 pairs of two columns fit a word.
const RANGES: usize = 8;
/// Columns that are named as strange.
const NAMED: usize = 3;

/// Which pairs of values the model has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Familiar {
    columns: Box<[Column]>,
    /// For each pair of columns, in order, the pairs of ranges that were seen.
    seen: Box<[u64]>,
    /// A row with more unseen pairs than this is unlike those that the model knows.
    most: u16,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Column {
    feature: Feature,
    /// Where ranges end, included; those that are not used are infinite.
    ends: [f32; RANGES - 1],
}

impl Column {
    fn range(&self, row: &FeatureVector) -> usize {
        let value = row[self.feature];
        self.ends.iter().map(|end| usize::from(value > *end)).sum()
    }
}

/// A row is unlike those that the model was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unfamiliar {
    /// Pairs of values that never came together.
    pub unseen: u16,
    /// The columns in most of these pairs, most first.
    #[serde(skip)]
    pub strange: [Option<Feature>; NAMED],
}

impl fmt::Display for Unfamiliar {
    /// For example `cpu_usage, http_5xx_ratio`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for feature in self.strange.iter().flatten() {
            write!(f, "{separator}{}", feature.name())?;
            separator = ", ";
        }
        Ok(())
    }
}

impl Familiar {
    /// How many pairs of values of a row were never seen.
    #[must_use]
    pub fn unseen(&self, row: &FeatureVector) -> u16 {
        let ranges = self.ranges(row);
        self.unseen_pairs(&ranges).map(|_| 1).sum()
    }

    /// Whether a row is unlike those that the model was trained on, and by which columns.
    #[must_use]
    pub fn judge(&self, row: &FeatureVector) -> Option<Unfamiliar> {
        let ranges = self.ranges(row);
        let (mut unseen, mut unseen_of) = (0, [0_u16; COUNT]);
        for (first, second) in self.unseen_pairs(&ranges) {
            unseen += 1;
            unseen_of[first] += 1;
            unseen_of[second] += 1;
        }
        (unseen > self.most).then(|| Unfamiliar { unseen, strange: self.strange(unseen_of) })
    }

    /// The range of each column that the trainer wrote down.
    fn ranges(&self, row: &FeatureVector) -> [usize; COUNT] {
        let mut ranges = [0; COUNT];
        for (range, column) in ranges.iter_mut().zip(&self.columns) {
            *range = column.range(row);
        }
        ranges
    }

    /// Pairs of columns, by index, whose ranges never came together.
    fn unseen_pairs(&self, ranges: &[usize; COUNT]) -> impl Iterator<Item = (usize, usize)> {
        let pairs = (1..self.columns.len())
            .flat_map(|second| (0..second).map(move |first| (first, second)));
        self.seen.iter().zip(pairs).filter_map(|(word, (first, second))| {
            let bit = word >> (ranges[first] * RANGES + ranges[second]) & 1;
            (bit == 0).then_some((first, second))
        })
    }

    /// The columns in most of the unseen pairs.
    fn strange(&self, mut unseen_of: [u16; COUNT]) -> [Option<Feature>; NAMED] {
        std::array::from_fn(|_| {
            let (at, most) = (0..self.columns.len()).map(|at| (at, unseen_of[at])).max_by_key(
                // Of equals the first.
                |(at, unseen)| (*unseen, usize::MAX - at),
            )?;
            unseen_of[at] = 0;
            (most > 0).then(|| self.columns[at].feature)
        })
    }
}

/// [`Familiar`] as the trainer writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    columns: Vec<String>,
    ends: Vec<Vec<f32>>,
    /// Each in 16 hexadecimal digits.
    seen: Vec<String>,
    most: u16,
}

impl TryFrom<Written> for Familiar {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { columns: names, ends, seen, most } = written;
        if names.len() != ends.len() || names.len() > COUNT {
            return Err(format!("{} columns and {} lists of ends", names.len(), ends.len()));
        }
        let mut columns: Vec<Column> = Vec::new();
        for (name, ends) in names.iter().zip(&ends) {
            let known = Feature::ALL.into_iter().find(|feature| feature.name() == name);
            let feature = known.ok_or_else(|| format!("no column is called {name:.64?}"))?;
            if columns.iter().any(|column| column.feature == feature) {
                return Err(format!("the column {name} is there twice"));
            }
            let rises = ends.windows(2).all(|pair| pair[0] < pair[1]);
            if ends.len() >= RANGES || !rises || ends.iter().any(|end| !end.is_finite()) {
                return Err(format!("the ends of {name} are not at most seven rising numbers"));
            }
            let mut all = [f32::INFINITY; RANGES - 1];
            all[..ends.len()].copy_from_slice(ends);
            columns.push(Column { feature, ends: all });
        }
        let pairs = columns.len() * columns.len().saturating_sub(1) / 2;
        if seen.len() != pairs {
            return Err(format!("{} words for {pairs} pairs of columns", seen.len()));
        }
        let word = |digits: &String| {
            let whole = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            whole.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let seen: Option<Box<[u64]>> = seen.iter().map(word).collect();
        let seen = seen.ok_or("a word is not of 16 hexadecimal digits")?;
        Ok(Self { columns: columns.into(), seen, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Result<Familiar, String> {
        serde_json::from_str::<Written>(json).map_err(|error| error.to_string())?.try_into()
    }

    /// Three columns of two ranges each. Seen: all low, and the first two high together.
    fn three() -> Familiar {
        // The word of a pair has bit 8 · first + second.
        let bit = |first: u32, second: u32| 1_u64 << (8 * first + second);
        let seen = [bit(0, 0) | bit(1, 1), bit(0, 0) | bit(1, 0), bit(0, 0) | bit(1, 0)];
        let seen: Vec<String> = seen.iter().map(|word| format!("\"{word:016x}\"")).collect();
        written(&format!(
            r#"{{"columns":["cpu_usage","memory_usage","error_count"],"ends":[[50],[50],[5]],
                "seen":[{}],"most":1}}"#,
            seen.join(",")
        ))
        .unwrap()
    }

    fn row(cpu: f32, memory: f32, errors: f32) -> FeatureVector {
        let mut row = FeatureVector::default();
        (row[Feature::CpuUsage], row[Feature::MemoryUsage]) = (cpu, memory);
        row[Feature::ErrorCount] = errors;
        row
    }

    #[test]
    fn pairs_of_values_that_never_came_together_are_unseen() {
        let familiar = three();
        assert_eq!(familiar.unseen(&row(0.0, 50.0, 5.0)), 0, "an end belongs to its range");
        assert_eq!(familiar.unseen(&row(90.0, 90.0, 0.0)), 0);
        assert_eq!(familiar.unseen(&row(90.0, 1.0, 0.0)), 1);
        assert_eq!(familiar.unseen(&row(90.0, 90.0, 99.0)), 2, "errors came with nothing high");
    }

    #[test]
    fn a_row_is_strange_by_the_columns_of_its_unseen_pairs() {
        let familiar = three();
        assert_eq!(familiar.judge(&row(90.0, 1.0, 0.0)), None, "one is permitted");
        let found = familiar.judge(&row(90.0, 90.0, 99.0)).unwrap();
        assert_eq!(found.unseen, 2);
        assert_eq!(found.to_string(), "error_count, cpu_usage, memory_usage");
        let two = [Some(Feature::CpuUsage), None, None];
        assert_eq!(Unfamiliar { unseen: 1, strange: two }.to_string(), "cpu_usage");
    }

    #[test]
    fn what_is_above_all_ends_is_in_the_last_range() {
        let familiar = three();
        assert_eq!(familiar.unseen(&row(1e30, 1e30, 0.0)), 0);
    }

    #[test]
    fn what_no_trainer_writes_is_refused() {
        for (json, why) in [
            (r#"{"columns":["cpu_usage"],"ends":[],"seen":[],"most":0}"#, "1 columns and 0"),
            (r#"{"columns":["colour"],"ends":[[1]],"seen":[],"most":0}"#, "no column"),
            (r#"{"columns":["uptime","uptime"],"ends":[[1],[1]],"seen":["0"],"most":0}"#, "twice"),
            (r#"{"columns":["uptime"],"ends":[[2,1]],"seen":[],"most":0}"#, "rising"),
            (r#"{"columns":["uptime"],"ends":[[1,1]],"seen":[],"most":0}"#, "rising"),
            (r#"{"columns":["uptime"],"ends":[[1,2,3,4,5,6,7,8]],"seen":[],"most":0}"#, "seven"),
            (r#"{"columns":["uptime"],"ends":[[1e39]],"seen":[],"most":0}"#, ""),
            (r#"{"columns":["uptime"],"ends":[[1]],"seen":["0"],"most":0}"#, "1 words for 0"),
            (
                r#"{"columns":["uptime","cpu_usage"],"ends":[[1],[1]],"seen":["+00000000000000f"],
                   "most":0}"#,
                "hexadecimal",
            ),
            (r#"{"columns":[],"ends":[],"seen":[],"most":-1}"#, ""),
            (r#"{"columns":[],"ends":[],"seen":[],"most":0,"more":1}"#, "unknown field"),
        ] {
            let error = written(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
        assert!(written(r#"{"columns":[],"ends":[],"seen":[],"most":0}"#).is_ok());
    }
}
