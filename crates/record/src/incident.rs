//! One incident: an intended remedy, its reasons and its outcome.
//!
//! An incident is written in two steps. The [`Intent`] is on disk before the act. So an agent that
//! dies in between finds it after its restart, knows that the remedy may have been applied, and
//! does not apply it twice. The outcome follows when it is known. A decision *not* to act is not an
//! incident: the metrics count refusals.
use std::{fmt, fs, io, time::Duration};

use jiff::Timestamp;
use paramedic_core::{
    boot_time::BootTime,
    decide::{Action, Source},
    features::schema::COUNT,
    guard::Symptom,
    target::{Remedy, TargetId},
    verify::Outcome,
};
use serde::{Deserialize, Serialize};

/// Maximum number of reasons of one incident: one per column of the schema.
pub const MAX_REASONS: usize = COUNT;

/// Maximum length of an outcome's detail, in characters; the rest is cut.
pub const MAX_DETAIL: usize = 512;

/// Identifies the boot of the node: the kernel's random boot id. [`BootTime`]s of different boots
/// cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// The id of the current boot.
    ///
    /// # Errors
    /// If `/proc/sys/kernel/random/boot_id` cannot be read or holds something else.
    pub fn current() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Self::parse(text.trim_end())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a boot id"))
    }

    /// Parses a boot id, which is a UUID of 36 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = |(i, byte): (usize, u8)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        (text.len() == 36 && text.bytes().enumerate().all(valid)).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The contribution of one column to a decision, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedReason {
    /// Name of the column in the feature schema.
    pub feature: String,
    /// Measured value, in the unit of the column.
    pub value: f32,
    /// Share in the probability of the action; negative if it spoke against the action.
    pub share: f32,
}

/// A remedy about to be applied, and its reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intent {
    /// The target and its instance.
    pub target: TargetId,
    /// Readable name of the target.
    pub name: String,
    /// The remedy to apply.
    pub remedy: Remedy,
    /// The action of the decision. The remedy may be stronger, after a milder one did not help.
    pub action: Action,
    /// Calibrated confidence of the decision, 0–1.
    pub confidence: f32,
    /// Whether the model or the rules decided.
    pub source: Source,
    /// The reasons, strongest first; at most [`MAX_REASONS`].
    pub reasons: Vec<RecordedReason>,
    /// Time of the intention, on the clock of this boot. Use this one for calculations.
    pub intended: BootTime,
    /// Time of the intention in seconds since 1970 UTC. For display only, because that clock may be
    /// set.
    pub wall_time: i64,
    /// The incident whose remedy did not help, if this one escalates it.
    pub climbed_from: Option<i64>,
    /// The owner that the target shares with its replicas; empty in old journals.
    pub workload: String,
    /// How the remedy is applied, where there is a choice: `http`, `signal`, `drain`, `quarantine`;
    /// `None` also in old journals.
    pub means: Option<String>,
    /// The symptom that the remedy is for.
    pub symptom: Symptom,
    /// Result of the last health poll, at most [`MAX_DETAIL`] characters.
    pub health: Option<String>,
}

/// An [`Intent`] in the journal, with its outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// Its number in this journal, never reused.
    pub id: i64,
    /// The boot of its moments. They have no meaning in another boot.
    pub boot: BootId,
    /// The remedy and its reasons.
    #[serde(flatten)]
    pub intent: Intent,
    /// The outcome; `None` until it is known.
    pub outcome: Option<Outcome>,
    /// Details of the outcome, at most [`MAX_DETAIL`] characters.
    pub detail: Option<String>,
    /// Time at which the outcome was known; `None` also if that was in a later boot than the
    /// intention.
    pub concluded: Option<BootTime>,
}

impl Incident {
    /// Time from the intention to the outcome; `None` without an outcome, or if it came in another
    /// boot.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.concluded.map(|end| end.since(self.intent.intended))
    }

    /// All details on several lines; [`fmt::Display`] writes one line. Replaces control characters
    /// in external text.
    #[must_use]
    pub fn story(&self) -> String {
        let Intent { target, name, action, confidence, source, climbed_from, .. } = &self.intent;
        let mut lines = vec![
            format!("Incident {}: {}, {}", self.id, Clean(name), Utc(self.intent.wall_time)),
            format!("  target   {} (instance {})", Clean(&target.uid), Clean(&target.instance)),
            format!(
                "  decided  {}, {confidence:.2} sure, by the {}",
                action.name(),
                name_of(*source)
            ),
        ];
        for (i, reason) in self.intent.reasons.iter().enumerate() {
            let head = if i == 0 { "because" } else { "" };
            lines.push(format!("  {head:<7}  {reason}, share {:+.2}", reason.share));
        }
        if let Some(health) = &self.intent.health {
            lines.push(format!("  health   {}", Clean(health)));
        }
        let remedy = self.remedy();
        lines.push(match climbed_from {
            Some(id) => format!("  remedy   {remedy}, since incident {id} did not help"),
            None => format!("  remedy   {remedy}"),
        });
        lines.push(format!("  outcome  {}", self.ending()));
        if let Some(detail) = &self.detail {
            lines.push(format!("           {}", Clean(detail)));
        }
        lines.join("\n")
    }

    /// The remedy; a hard one with its means.
    fn remedy(&self) -> String {
        let remedy = self.intent.remedy.name();
        match &self.intent.means {
            Some(means) if self.intent.remedy.is_hard() => format!("{remedy} ({})", Clean(means)),
            _ => remedy.to_owned(),
        }
    }

    fn ending(&self) -> String {
        match (self.outcome, self.duration()) {
            (None, _) => "no outcome recorded".to_owned(),
            (Some(outcome), None) => outcome.name().to_owned(),
            (Some(outcome), Some(time)) => {
                format!("{} after {:.1} s", outcome.name(), time.as_secs_f64())
            }
        }
    }
}

/// One line: number, time, target, remedy, outcome, and the strongest reasons.
impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Intent { name, action, confidence, source, wall_time, .. } = &self.intent;
        write!(f, "#{} {} {} {}: ", self.id, Utc(*wall_time), Clean(name), self.remedy())?;
        write!(f, "{} ({} {confidence:.2}, ", self.ending(), action.name())?;
        f.write_str(name_of(*source))?;
        for reason in self.intent.reasons.iter().take(3) {
            write!(f, ", {reason}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for RecordedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.value.fract() == 0.0 { 0 } else { 3 };
        write!(f, "{} = {:.decimals$}", Clean(&self.feature), self.value)
    }
}

/// The name of a source of decisions in the journal, metrics and logs.
pub(super) const fn name_of(source: Source) -> &'static str {
    match source {
        Source::Model => "model",
        Source::Rules => "rules",
    }
}

/// Makes external text safe for a terminal: replaces characters that move the cursor, change
/// colours or reverse the reading direction.
pub struct Clean<'a>(pub &'a str);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let tricks = c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            fmt::Write::write_char(f, if tricks { char::REPLACEMENT_CHARACTER } else { c })?;
        }
        Ok(())
    }
}

/// Seconds since 1970, printed as date and time of day. An absurd clock, beyond the years that
/// have a date, is printed as `@SECONDS`, in the notation of date(1).
pub struct Utc(pub i64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_second(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "@{}", self.0),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn incident() -> Incident {
        Incident {
            id: 12,
            boot: BootId::parse("6f1c2a3b-0000-4000-8000-123456789abc").unwrap(),
            intent: Intent {
                target: TargetId { uid: "http://localhost:5000".into(), instance: "41@7".into() },
                name: "http://localhost:5000".into(),
                remedy: Remedy::Restart,
                action: Action::RestartService,
                confidence: 0.93,
                source: Source::Model,
                reasons: vec![
                    RecordedReason { feature: "error_count".into(), value: 12.0, share: 0.41 },
                    RecordedReason { feature: "http_5xx_ratio".into(), value: 0.52, share: -0.1 },
                ],
                intended: BootTime::from_nanos(1_000_000_000),
                wall_time: 1_767_323_045,
                climbed_from: Some(11),
                workload: "http://localhost:5000".into(),
                means: None,
                symptom: Symptom::Errors,
                health: Some("the app reports that it is well".into()),
            },
            outcome: Some(Outcome::Healed),
            detail: Some("ready again".into()),
            concluded: Some(BootTime::from_nanos(4_200_000_000)),
        }
    }

    #[test]
    fn the_display_form_is_one_line_with_remedy_and_reasons() {
        assert_eq!(
            incident().to_string(),
            "#12 2026-01-02T03:04:05Z http://localhost:5000 restart: healed after 3.2 s \
             (restart_service 0.93, model, error_count = 12, http_5xx_ratio = 0.520)"
        );
    }

    #[test]
    fn the_means_of_a_remedy_are_told() {
        let mut incident = incident();
        incident.intent.means = Some("drain".to_owned());
        assert!(incident.to_string().contains(" restart (drain): healed"), "{incident}");
        assert!(
            incident.story().contains("remedy   restart (drain), since"),
            "{}",
            incident.story()
        );
    }

    #[test]
    fn the_story_has_every_part() {
        assert_eq!(
            incident().story(),
            "Incident 12: http://localhost:5000, 2026-01-02T03:04:05Z\n  \
               target   http://localhost:5000 (instance 41@7)\n  \
               decided  restart_service, 0.93 sure, by the model\n  \
               because  error_count = 12, share +0.41\n           \
                        http_5xx_ratio = 0.520, share -0.10\n  \
               health   the app reports that it is well\n  \
               remedy   restart, since incident 11 did not help\n  \
               outcome  healed after 3.2 s\n           \
                        ready again"
        );
    }

    #[test]
    fn control_characters_in_names_are_replaced() {
        let mut incident = incident();
        incident.intent.name = "web\x1b[2J\n\u{202e}bad".into();
        incident.detail = Some("\x07\rrung the bell".into());
        let text = format!("{incident}\n{}", incident.story());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        assert_eq!(incident.to_string().lines().count(), 1);
    }

    #[test]
    fn json_names_are_stable() {
        let json = serde_json::to_value(incident()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "id": 12,
                "boot": "6f1c2a3b-0000-4000-8000-123456789abc",
                "target": {"uid": "http://localhost:5000", "instance": "41@7"},
                "name": "http://localhost:5000",
                "remedy": "restart",
                "action": "restart_service",
                "confidence": 0.93_f32,
                "source": "model",
                "reasons": [
                    {"feature": "error_count", "value": 12.0, "share": 0.41_f32},
                    {"feature": "http_5xx_ratio", "value": 0.52_f32, "share": -0.1_f32},
                ],
                "intended": 1_000_000_000_u64,
                "wall_time": 1_767_323_045,
                "climbed_from": 11,
                "workload": "http://localhost:5000",
                "means": null,
                "symptom": "errors",
                "health": "the app reports that it is well",
                "outcome": "healed",
                "detail": "ready again",
                "concluded": 4_200_000_000_u64,
            })
        );
    }

    #[test]
    fn dates_are_right_for_any_clock() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
        assert_eq!(Utc(i64::MIN).to_string(), "@-9223372036854775808");
        assert_eq!(Utc(i64::MAX).to_string(), "@9223372036854775807");
    }

    #[test]
    fn only_a_uuid_is_a_boot_id() {
        assert_eq!(BootId::current().unwrap(), BootId::current().unwrap());
        for bad in ["", "x", "6f1c2a3b-0000-4000-8000-123456789abg", &"-".repeat(36)] {
            assert_eq!(BootId::parse(bad), None);
        }
    }
}
