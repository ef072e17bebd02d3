//! The results of the steps: the table at the end.
use std::{fmt, time::Duration};

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything that it checks holds.
    Passed,
    /// What was checked holds; a part was not checked, for this reason.
    Partly(String),
    /// Nothing was checked, because something external is missing, or by request.
    NotChecked(String),
    /// Something does not hold, or could not be run.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, why) = match self {
            Self::Passed => return f.write_str("passed"),
            Self::Partly(why) => ("passed", why),
            Self::NotChecked(why) => ("NOT CHECKED", why),
            Self::Failed(why) => ("FAILED", why),
        };
        // One line each: the whole text was printed when it happened.
        write!(f, "{word}: {}", why.lines().next().unwrap_or_default())
    }
}

/// The steps so far.
#[derive(Default)]
pub(super) struct Report(Vec<(&'static str, Duration, Outcome)>);

impl Report {
    pub(super) fn add(&mut self, step: &'static str, took: Duration, outcome: Outcome) {
        self.0.push((step, took, outcome));
    }

    /// The names of the steps that failed.
    pub(super) fn failed(&self) -> Vec<&'static str> {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        self.0.iter().filter(|(.., outcome)| failed(outcome)).map(|(step, ..)| *step).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:>8}  outcome", "step", "time")?;
        for (step, took, outcome) in &self.0 {
            writeln!(f, "{step:<12} {:>8}  {outcome}", clock(*took))?;
        }
        let all = self.0.iter().map(|(_, took, _)| *took).sum();
        write!(f, "{:<12} {:>8}", "all", clock(all))
    }
}

fn clock(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{}:{:02} min", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_step_and_what_stayed_undone() {
        let mut report = Report::default();
        report.add("fmt", Duration::from_millis(1250), Outcome::Passed);
        report.add("clippy", Duration::from_secs(125), Outcome::Failed("exit 1\nlong".into()));
        report.add("advisories", Duration::ZERO, Outcome::NotChecked("out of reach".into()));
        report.add("tests", Duration::ZERO, Outcome::Partly("without kernel".into()));
        let table = "\
step             time  outcome
fmt             1.2 s  passed
clippy       2:05 min  FAILED: exit 1
advisories      0.0 s  NOT CHECKED: out of reach
tests           0.0 s  passed: without kernel
all          2:06 min";
        assert_eq!(report.to_string(), table);
        assert_eq!(report.failed(), ["clippy"]);
    }
}
