//! Conversion between incidents and rows.
//!
//! Every row is validated when read, because another program may have written it.
use paramedic_core::{
    boot_time::BootTime,
    decide::Action,
    guard::Symptom,
    target::{Remedy, TargetId},
};
use rusqlite::{
    Row, ToSql,
    types::{Value, ValueRef},
};
use serde::{Deserialize, de::value::StrDeserializer};

use crate::incident::{BootId, Incident, Intent, MAX_DETAIL, MAX_REASONS, RecordedReason, name_of};

/// The columns in the order of [`read`] and [`values`].
pub(super) const COLUMNS: &str = "id, boot, uid, instance, name, rung, action, confidence, \
     source, reasons, intended, wall_time, climbed_from, outcome, detail, concluded, workload, \
     symptom, health, means";

/// The columns of versions 2 and 3.
pub(super) const COLUMNS_2: &str = "id, boot, uid, instance, name, rung, action, confidence, \
     source, reasons, intended, wall_time, climbed_from, outcome, detail, concluded, workload, \
     symptom, health, NULL";

/// The columns of version 1.
pub(super) const COLUMNS_1: &str = "id, boot, uid, instance, name, rung, action, confidence, \
     source, reasons, intended, wall_time, climbed_from, outcome, detail, concluded, NULL, NULL, \
     NULL, NULL";

/// Maximum length of an identity (uid, instance), in characters. A longer one is refused: cut, it
/// would identify another target.
const MAX_IDENTITY: usize = 1024;

/// Maximum length of a target's name, in characters; the rest is cut.
const MAX_NAME: usize = 256;

/// Maximum length of a column's name, in characters.
const MAX_FEATURE: usize = 64;

/// Maximum length of the means of a remedy, in characters.
const MAX_MEANS: usize = 64;

/// Maximum length of the list of reasons, in bytes of JSON.
const MAX_REASONS_JSON: usize = MAX_REASONS * (6 * MAX_FEATURE + 128);

/// The values of a new row in column order, or what is invalid in `intent`.
pub(super) fn values(intent: &Intent, boot: &BootId) -> Result<[Value; 16], &'static str> {
    check(intent)?;
    let reasons =
        serde_json::to_string(&intent.reasons).map_err(|_| "reasons cannot be written")?;
    let intended = nanoseconds(intent.intended)?;
    Ok([
        Value::Text(boot.as_str().to_owned()),
        Value::Text(intent.target.uid.clone()),
        Value::Text(intent.target.instance.clone()),
        Value::Text(cut(&intent.name, MAX_NAME)),
        Value::Text(intent.remedy.name().to_owned()),
        Value::Text(intent.action.name().to_owned()),
        Value::Real(f64::from(intent.confidence)),
        Value::Text(name_of(intent.source).to_owned()),
        Value::Text(reasons),
        Value::Integer(intended),
        Value::Integer(intent.wall_time),
        intent.climbed_from.map_or(Value::Null, Value::Integer),
        Value::Text(cut(&intent.workload, MAX_IDENTITY)),
        Value::Text(intent.symptom.name().to_owned()),
        intent.health.as_ref().map_or(Value::Null, |text| Value::Text(cut(text, MAX_DETAIL))),
        intent.means.as_ref().map_or(Value::Null, |text| Value::Text(cut(text, MAX_MEANS))),
    ])
}

/// The value of the column `detail`, cut to [`MAX_DETAIL`] characters.
pub(super) fn detail(text: Option<&str>) -> impl ToSql {
    text.map(|text| cut(text, MAX_DETAIL))
}

/// The value of the column `name`, cut to [`MAX_NAME`] characters.
pub(super) fn name(text: &str) -> String {
    cut(text, MAX_NAME)
}

/// A moment as an SQLite integer.
pub(super) fn nanoseconds(moment: BootTime) -> Result<i64, &'static str> {
    i64::try_from(moment.as_nanos()).map_err(|_| "time is centuries after boot")
}

/// Parses a row, or says what is wrong with it.
pub(super) fn read(row: &Row<'_>) -> Result<Incident, String> {
    let fields = Fields(row);
    let intent = Intent {
        target: TargetId {
            uid: fields.text(2, "uid", MAX_IDENTITY)?,
            instance: fields.text(3, "instance", MAX_IDENTITY)?,
        },
        name: fields.text(4, "name", MAX_NAME)?,
        remedy: fields.word(5, "rung")?,
        action: fields.word(6, "action")?,
        confidence: fields.real(7, "confidence")?,
        source: fields.word(8, "source")?,
        reasons: fields.reasons(9)?,
        intended: fields.moment(10, "intended")?.ok_or("intended is missing")?,
        wall_time: fields.integer(11, "wall_time")?.ok_or("wall_time is missing")?,
        climbed_from: fields.integer(12, "climbed_from")?,
        workload: fields.optional_text(16, "workload", MAX_IDENTITY)?.unwrap_or_default(),
        symptom: if fields.is_null(17)? {
            Symptom::default()
        } else {
            fields.word(17, "symptom")?
        },
        health: fields.optional_text(18, "health", MAX_DETAIL)?,
        means: fields.optional_text(19, "means", MAX_MEANS)?,
    };
    check(&intent)?;
    let incident = Incident {
        id: fields.integer(0, "id")?.ok_or("id is missing")?,
        boot: BootId::parse(&fields.text(1, "boot", 36)?).ok_or("boot is not a boot id")?,
        intent,
        outcome: if fields.is_null(13)? { None } else { Some(fields.word(13, "outcome")?) },
        detail: fields.optional_text(14, "detail", MAX_DETAIL)?,
        concluded: fields.moment(15, "concluded")?,
    };
    if incident.outcome.is_none() && incident.concluded.is_some() {
        return Err("it has a conclusion without an outcome".to_owned());
    }
    Ok(incident)
}

/// Validates an intention, before writing and after reading.
fn check(intent: &Intent) -> Result<(), &'static str> {
    let too_long = |text: &str, most| text.chars().nth(most).is_some();
    let Intent { target, remedy, action, confidence, reasons, .. } = intent;
    if *remedy == Remedy::Observe {
        return Err("rung is not a remedy");
    }
    if *action == Action::NoAction {
        return Err("action calls for no remedy");
    }
    if !(0.0..=1.0).contains(confidence) {
        return Err("confidence is not within 0 and 1");
    }
    if target.uid.is_empty() || too_long(&target.uid, MAX_IDENTITY) {
        return Err("target has no uid or one of more than 1024 characters");
    }
    if too_long(&target.instance, MAX_IDENTITY) {
        return Err("instance has more than 1024 characters");
    }
    if reasons.len() > MAX_REASONS {
        return Err("reasons are more than the schema has columns");
    }
    if reasons.iter().any(|r| too_long(&r.feature, MAX_FEATURE)) {
        return Err("reasons name a column of more than 64 characters");
    }
    if !reasons.iter().all(|r| r.value.is_finite() && r.share.is_finite()) {
        return Err("reasons hold something that is not a number");
    }
    Ok(())
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The values of a row. Each one's type and size are checked before it is copied.
struct Fields<'a>(&'a Row<'a>);

impl<'a> Fields<'a> {
    fn get(&self, column: usize) -> Result<ValueRef<'a>, String> {
        self.0.get_ref(column).map_err(|error| error.to_string())
    }

    fn is_null(&self, column: usize) -> Result<bool, String> {
        self.get(column).map(|value| value == ValueRef::Null)
    }

    fn str(&self, column: usize, name: &str, most_bytes: usize) -> Result<&'a str, String> {
        match self.get(column)? {
            ValueRef::Text(bytes) if bytes.len() <= most_bytes => {
                str::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))
            }
            ValueRef::Text(bytes) => Err(format!("{name} has {} bytes", bytes.len())),
            _ => Err(format!("{name} is not text")),
        }
    }

    fn text(&self, column: usize, name: &str, most: usize) -> Result<String, String> {
        let text = self.str(column, name, 4 * most)?;
        match text.chars().nth(most) {
            None => Ok(text.to_owned()),
            Some(_) => Err(format!("{name} has more than {most} characters")),
        }
    }

    fn optional_text(
        &self,
        column: usize,
        name: &str,
        most: usize,
    ) -> Result<Option<String>, String> {
        if self.is_null(column)? { Ok(None) } else { self.text(column, name, most).map(Some) }
    }

    /// An enum value, by its name.
    fn word<T: Deserialize<'a>>(&self, column: usize, name: &str) -> Result<T, String> {
        let word = StrDeserializer::<serde::de::value::Error>::new(self.str(column, name, 64)?);
        T::deserialize(word).map_err(|error| format!("{name}: {error}"))
    }

    fn reasons(&self, column: usize) -> Result<Vec<RecordedReason>, String> {
        let json = self.str(column, "reasons", MAX_REASONS_JSON)?;
        serde_json::from_str(json).map_err(|error| format!("reasons: {error}"))
    }

    fn integer(&self, column: usize, name: &str) -> Result<Option<i64>, String> {
        match self.get(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(value) => Ok(Some(value)),
            _ => Err(format!("{name} is not an integer")),
        }
    }

    fn moment(&self, column: usize, name: &str) -> Result<Option<BootTime>, String> {
        self.integer(column, name)?
            .map(|value| u64::try_from(value).map(BootTime::from_nanos))
            .transpose()
            .map_err(|_| format!("{name} is negative"))
    }

    /// The value was an `f32` when written; the range is checked later.
    fn real(&self, column: usize, name: &str) -> Result<f32, String> {
        match self.get(column)? {
            ValueRef::Real(value) => Ok(value as f32),
            _ => Err(format!("{name} is not a number")),
        }
    }
}
