//! The table at the end: what held, on which kernel, with which layout of cgroups.
use std::fmt::Write as _;

use super::{
    judge::{Row, Verdict},
    kernels::Kernel,
    report::Report,
    steps::{Machine, Step},
};

/// One machine.
pub(super) struct Column {
    pub(super) title: String,
    pub(super) kernel: Kernel,
    pub(super) machine: Machine,
    pub(super) steps: Vec<Step>,
    pub(super) report: Report,
    pub(super) rows: Vec<Row>,
    pub(super) good: bool,
    /// How it died before; then the rest is of a second boot.
    pub(super) death: Option<String>,
    /// How long it took.
    pub(super) seconds: u64,
}

/// All rows, each once, in the order in which they came first.
pub(super) fn of(columns: &[Column]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in columns.iter().flat_map(|column| &column.rows) {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut table = format!("{:width$}", "");
    for column in columns {
        let _ = write!(table, "  {:<13}", column.title);
    }
    for name in names {
        let _ = write!(table, "\n{name:width$}");
        for column in columns {
            let row = column.rows.iter().find(|row| row.name == name);
            let word = row.map_or("-", |row| match &row.verdict {
                Verdict::Good(how) if how.is_empty() => "ok",
                Verdict::Good(how) => how,
                Verdict::Bad(_) => "FAILED",
                Verdict::Running => "UNFINISHED",
            });
            let _ = write!(table, "  {word:<13}");
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use xtask::arch::Arch;

    use super::*;

    fn column(title: &str, rows: &[(&str, Verdict)]) -> Column {
        let row = |(name, verdict): &(&str, Verdict)| Row {
            name: (*name).to_owned(),
            verdict: verdict.clone(),
        };
        Column {
            title: title.into(),
            kernel: Kernel::for_tests("6.1", Arch::Amd64),
            machine: Machine::Signals,
            steps: Vec::new(),
            report: Report::default(),
            rows: rows.iter().map(row).collect(),
            good: true,
            death: None,
            seconds: 1,
        }
    }

    #[test]
    fn a_row_stands_beside_itself_in_every_column() {
        let good = |how: &str| Verdict::Good(how.to_owned());
        let columns = [
            column("6.1 v2", &[("check", good("fentry")), ("a", Verdict::Running)]),
            column("6.12 v2", &[("b", good("")), ("a", Verdict::Bad("why".into()))]),
        ];
        let expected = "       6.1 v2         6.12 v2\ncheck  fentry         -\n\
                        a      UNFINISHED     FAILED\nb      -              ok\n";
        assert_eq!(of(&columns), expected);
    }
}
