//! The results of the scenes: the table at the end, and the same as JSON.
use std::{fmt, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

/// One scene's result.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    name: &'static str,
    /// Nothing if it was not played.
    pass: Option<bool>,
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
        let pass = Some(came_to.is_ok());
        let seen = came_to.unwrap_or_else(|error| format!("{error:#}"));
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        self.0.push(Verdict { name, pass, seconds, seen });
    }

    /// A scene that this cluster has not got the nodes for.
    pub(super) fn leave_out(&mut self, name: &'static str, lacks: &str) {
        let seen = format!("not played: {lacks}");
        self.0.push(Verdict { name, pass: None, seconds: 0.0, seen });
    }

    pub(crate) fn failed(&self) -> Vec<&'static str> {
        self.0
            .iter()
            .filter(|verdict| verdict.pass == Some(false))
            .map(|verdict| verdict.name)
            .collect()
    }

    pub(super) fn json(&self, kubernetes: &str) -> Value {
        json!({ "pass": self.failed().is_empty(), "kubernetes": kubernetes, "scenes": self.0 })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14} {:<6} {:>8}  seen", "scene", "", "time")?;
        for Verdict { name, pass, seconds, seen } in &self.0 {
            let mark = match pass {
                Some(true) => "ok",
                Some(false) => "WRONG",
                None => "-",
            };
            // One line each: the whole text was printed when it happened.
            let seen = seen.lines().next().unwrap_or_default();
            writeln!(f, "{name:<14} {mark:<6} {seconds:>6.1} s  {seen}")?;
        }
        let count = |pass| self.0.iter().filter(|verdict| verdict.pass == pass).count();
        let (good, left_out) = (count(Some(true)), count(None));
        let played = self.0.len() - left_out;
        let took: f64 = self.0.iter().map(|verdict| verdict.seconds).sum();
        write!(f, "\n{good} of {played} as they should be, in {took:.0} s")?;
        if left_out > 0 {
            write!(f, "; NOT PLAYED: {left_out}")?;
        }
        Ok(())
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
        report.leave_out("lock", "one node");
        let table = "\
scene                     time  seen
soft-heal      ok       21.3 s  healed
evict          WRONG     3.0 s  no
lock           -         0.0 s  not played: one node

1 of 2 as they should be, in 24 s; NOT PLAYED: 1";
        assert_eq!(report.to_string(), table);
        assert_eq!(report.failed(), ["evict"]);
        let json = report.json("v1.36.2");
        assert_eq!(json["scenes"][2]["pass"], Value::Null);
        assert_eq!((&json["pass"], &json["scenes"][0]["seconds"]), (&json!(false), &json!(21.3)));
    }
}
