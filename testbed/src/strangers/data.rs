//! Joins recorded episodes into the files that training reads, with their provenance.
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{copies, plan::NEVER_SEEN, record::Recorded, report, rows as table};
use crate::lab::{
    data::{Counted, join, kinds, provenance},
    rows,
};

/// Writes `rows.csv.gz`, `episodes.jsonl` and `README.md`.
pub(super) fn put_together(folders: &[PathBuf], into: &Path, seed: u64) -> Result<()> {
    let faults = table::all().into_iter().filter(|row| !row.steps.is_empty());
    let faults: Vec<_> = faults.map(|row| copies::kind(row.fault)).collect();
    let is_healthy = |kind: &str| !faults.iter().any(|fault| fault == kind);
    join(folders, into, &rows::head_with_service(), is_healthy, |episodes, counted| {
        about(episodes, counted, seed)
    })
}

fn about(episodes: &[Recorded], counted: &Counted, seed: u64) -> String {
    let mut text = format!(
        "# Recorded episodes of third-party services\n\n\
         `cargo xtask strangers --record DIR --seed {seed}` wrote these files. Do not edit them. The \
         same command records the same episodes under the same loads; the behaviour of the machine \
         does not repeat. Models may learn from seeds below {NEVER_SEEN}. The others are never \
         recorded: they are for grading.\n\n\
         {}\
         - {} episodes of third-party services (Debian, PyPI, npm), each fault in three copies at \
         once: left alone, reset if the app has `/heal`, restarted\n\
         {}\n\
         The columns are those of the fault lab, and `service` after `kind`. `label` is the mildest \
         remedy after which the clients of a copy were given 2xx within half a second again.\n\n{}",
        provenance(episodes.iter().map(|episode| episode.build.as_str())),
        episodes.len(),
        counted.told(),
        kinds(episodes.iter().map(|episode| (episode.kind.as_str(), &episode.measure))),
    );
    text += "\n## Where an operator would act otherwise\n\n";
    let others: Vec<_> = episodes.iter().filter(|episode| !episode.agrees()).collect();
    if others.is_empty() {
        return text + "In no episode.\n";
    }
    text += "| episode | measured | an operator |\n| --- | --- | --- |\n";
    for episode in others {
        let (name, label) = (&episode.name, episode.measure.label.name());
        text += &format!("| {name} | {label} | {} |\n", report::right(&episode.operator));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_label_that_an_operator_would_not_choose_is_listed() {
        let recorded = |name: &str, label: &str| -> Recorded {
            serde_json::from_value(json!({
                "id": 1, "name": name, "kind": "poisoned", "service": "flask", "seed": 3,
                "clients": 8, "per_second": 8, "intensity": 0.5, "operator": ["restart"],
                "well": [false, false, true], "label": label, "suffered": true,
                "evident_s": 1.0, "fault_ns": 1, "treated_ns": 2, "given": "8 × 500",
                "build": "ab",
            }))
            .unwrap()
        };
        let of = |label| about(&[recorded("flask/poisoned", label)], &Counted::default(), 3);
        let (alike, other) = (of("restart_service"), of("no_action"));
        assert!(alike.contains("In no episode.") && alike.contains("`ab` 1"), "{alike}");
        assert!(alike.contains("| poisoned | 1 | 0 | 0 | 1 | 1 |"), "{alike}");
        assert!(other.contains("| flask/poisoned | no_action | restart |"), "{other}");
    }
}
