//! The output of a scene: its steps and the agent's log in plain words, with the time since the
//! scene began.
use std::time::Instant;

use crate::stage::agent::Line;

/// Prints lines with the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Story {
    begun: Instant,
}

impl Story {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now() }
    }

    /// Prints a step of the scene.
    pub(crate) fn tell(self, what: &str) {
        println!("   {:6.2} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Prints a line of the agent's log, if it matters to the scene.
    pub(crate) fn print_line(self, line: &Line) {
        if let Some(what) = in_words(line) {
            self.tell(&format!("  agent: {what}"));
        }
    }
}

fn in_words(line: &Line) -> Option<String> {
    let percent = |field: &str| line.number(field).unwrap_or(0.0) * 100.0;
    Some(match line.message() {
        "verdict" => format!(
            "verdict {}, {:.0} % sure ({})",
            line.text("action"),
            percent("confidence"),
            line.text("reasons")
        ),
        "healing" => format!(
            "healing by {}{}, {:.0} % sure, because {}",
            line.text("remedy"),
            Some(line.text("soft"))
                .filter(|soft| !soft.is_empty())
                .map_or_else(String::new, |soft| format!(" ({soft})")),
            percent("confidence"),
            line.text("reasons")
        ),
        "treatment ended" => format!(
            "{} {} after {:.1} s {}",
            line.text("remedy"),
            line.text("outcome"),
            line.number("seconds").unwrap_or(0.0),
            line.text("detail")
        ),
        "left alone" => format!(
            "left alone: {} ({} = {:.2})",
            line.text("reason"),
            line.text("feature"),
            line.number("value").unwrap_or(0.0)
        ),
        "not healed" if line.text("gate") != "evidence" => {
            format!("not healed, gate {}: {}", line.text("gate"), line.text("reason"))
        }
        message if message.starts_with("health check") => {
            format!("health check {}: {}", line.text("result"), line.text("reason"))
        }
        message if line.text("level") == "WARN" || line.text("level") == "ERROR" => {
            format!("{message} {}{}", line.text("error"), line.text("why"))
        }
        _ => return None,
    })
}
