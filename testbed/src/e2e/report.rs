//! The results of the scenes: the table at the end, and the same as JSON.
use std::{fmt, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

/// One scene's result.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    name: &'static str,
    pass: bool,
    seconds: f64,
    /// The observation, or the failure.
    seen: String,
}

/// All results so far.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Verdict>);

impl Report {
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        took: Duration,
        came_to: anyhow::Result<String>,
    ) {
        let pass = came_to.is_ok();
        let seen = came_to.unwrap_or_else(|error| format!("{error:#}"));
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        self.0.push(Verdict { name, pass, seconds, seen });
    }

    pub(crate) fn failed(&self) -> Vec<&'static str> {
        self.0.iter().filter(|verdict| !verdict.pass).map(|verdict| verdict.name).collect()
    }

    pub(super) fn json(&self, kubernetes: &str) -> Value {
        json!({ "pass": self.failed().is_empty(), "kubernetes": kubernetes, "scenes": self.0 })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14} {:<6} {:>8}  seen", "scene", "", "time")?;
        for Verdict { name, pass, seconds, seen } in &self.0 {
            let mark = if *pass { "ok" } else { "WRONG" };
            // One line each: the whole text was printed when it happened.
            let seen = seen.lines().next().unwrap_or_default();
            writeln!(f, "{name:<14} {mark:<6} {seconds:>6.1} s  {seen}")?;
        }
        let good = self.0.iter().filter(|verdict| verdict.pass).count();
        let took: f64 = self.0.iter().map(|verdict| verdict.seconds).sum();
        write!(f, "\n{good} of {} as they should be, in {took:.0} s", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_scene_on_one_line() {
        let mut report = Report::default();
        report.add("soft-heal", Duration::from_millis(21_340), Ok("healed".into()));
        report.add("evict", Duration::from_secs(3), Err(anyhow::anyhow!("no\nlong story")));
        let table = "\
scene                     time  seen
soft-heal      ok       21.3 s  healed
evict          WRONG     3.0 s  no

1 of 2 as they should be, in 24 s";
        assert_eq!(report.to_string(), table);
        assert_eq!(report.failed(), ["evict"]);
        let json = report.json("v1.36.2");
        assert_eq!((&json["pass"], &json["scenes"][0]["seconds"]), (&json!(false), &json!(21.3)));
    }
}
