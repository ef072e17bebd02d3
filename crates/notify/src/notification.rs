//! What people are told: one notification, the same for every channel.
use std::fmt::Write as _;

use paramedic_record::incident::{Clean, Utc};
use serde::{Deserialize, Serialize};

/// The version of the fields, for programs that read a webhook.
pub const VERSION: u32 = 1;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// A remedy helped.
    Healed,
    /// A remedy did not help.
    NotHealed,
    /// The target is worse than before a remedy.
    Worse,
    /// Whether a remedy helped cannot be known.
    Unverified,
    /// A remedy failed or was not applied.
    Failed,
    /// Every permitted remedy was tried and none helped.
    Exhausted,
    /// A gate has refused a remedy for a long time.
    Refused,
    /// Its limits were raised in place, or should be.
    Resized,
    /// A resize in place did not help, or is refused.
    NotResized,
    /// The target has been well for a while, without a remedy.
    WellAgain,
    /// The target is no longer watched.
    Gone,
    /// Healing is paused on this node.
    Paused,
    /// Healing is no longer paused on this node.
    Resumed,
}

/// The place of a notification among those of its problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The problem has begun, or goes on.
    Trigger,
    /// It has ended.
    Resolve,
    /// There is no problem: it was solved before anybody was told.
    Info,
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For information.
    Info,
    /// A person should look.
    Warning,
    /// A person must look: the agent does nothing more.
    Critical,
}

impl Severity {
    /// Its name, as in payloads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of an occasion.
    #[must_use]
    pub const fn of(occasion: Occasion) -> Self {
        match occasion {
            Occasion::Exhausted => Self::Critical,
            Occasion::NotHealed
            | Occasion::Worse
            | Occasion::Unverified
            | Occasion::Failed
            | Occasion::Refused
            | Occasion::NotResized => Self::Warning,
            Occasion::Healed
            | Occasion::Resized
            | Occasion::WellAgain
            | Occasion::Gone
            | Occasion::Paused
            | Occasion::Resumed => Self::Info,
        }
    }
}

/// One notification. Texts from outside have no control characters and a bounded length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// [`VERSION`].
    pub version: u32,
    /// Key of the problem: the same from its first notification to its last, also across restarts
    /// of the agent.
    pub key: String,
    /// What happened.
    pub event: Occasion,
    /// Its place among the notifications of its problem.
    pub phase: Phase,
    /// How urgent it is.
    pub severity: Severity,
    /// Name of the node.
    pub node: String,
    /// Name of the target; empty if it is about the node.
    pub target: String,
    /// The journal's number of the incident, if it has one.
    pub incident: Option<i64>,
    /// The most important in one line.
    pub summary: String,
    /// What was seen; empty if it is not known.
    pub seen: String,
    /// The remedies of this problem so far, oldest first, with their outcomes.
    pub done: Vec<String>,
    /// The present state.
    pub outcome: String,
    /// What to do next.
    pub advice: String,
    /// How many notifications of the same kind were left out before this one.
    pub left_out: u32,
    /// When the problem began, in seconds since 1970.
    pub since: i64,
    /// When this happened, in seconds since 1970.
    pub at: i64,
}

impl Notification {
    /// Everything as plain text on several lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.summary.clone();
        let mut line = |name: &str, what: &str| {
            if !what.is_empty() {
                // Writing to a string does not fail.
                let _ = write!(text, "\n{name}: {what}");
            }
        };
        line("Target", &self.target);
        line("Node", &self.node);
        line("Seen", &self.seen);
        line("Done", &self.done.join("; "));
        line("Outcome", &self.outcome);
        line("Next", &self.advice);
        if self.left_out > 0 {
            line("Left out", &format!("{} like this since the last one", self.left_out));
        }
        let (since, at) = (Utc(self.since), Utc(self.at));
        match self.incident {
            Some(number) => line("Incident", &format!("{number}, began {since}, this was {at}")),
            None => line("Time", &format!("began {since}, this was {at}")),
        }
        text
    }
}

/// External text without control characters, cut to at most this many characters.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let clean = Clean(text).to_string();
    if clean.chars().nth(most).is_none() {
        return clean;
    }
    clean.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::notification;

    #[test]
    fn the_text_says_target_reasons_remedies_outcome_and_advice() {
        assert_eq!(
            notification().text(),
            "default/shop-0: restart did not help\n\
             Target: default/shop-0\n\
             Node: worker-1\n\
             Seen: errors: error_count=12 (+0.41) & <more>\n\
             Done: soft: not_healed after 15 s; restart: not_healed after 20 s\n\
             Outcome: the symptom is still there\n\
             Next: look at it\n\
             Incident: 12, began 2026-01-02T03:04:05Z, this was 2026-01-02T03:05:05Z"
        );
    }

    #[test]
    fn external_text_is_cut_and_cannot_move_a_cursor() {
        assert_eq!(plain("a\u{1b}[2J\nb\u{202e}", 99), "a\u{fffd}[2J\u{fffd}b\u{fffd}");
        assert_eq!(plain("häuser", 3), "hä…");
        assert_eq!(plain("häu", 3), "häu");
    }
}
