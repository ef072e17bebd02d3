//! What a `/health` body may say.
//!
//! The body is written by the patient, so a reading is believed whole or not at all: an unknown
//! field is ignored and a missing one stays missing, but one absurd value makes the reading an
//! error. A number that was guessed, clipped or defaulted here would be decided upon as if measured.
use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, error::Category};

use super::HealthError;

/// Percentages above 100 by less than this are rounding, not nonsense.
const ROUNDING: f64 = 0.5;
const MAX_ERRORS: f64 = 1e9;
/// Ten years in seconds. An uptime beyond it is a clock or an epoch, not an uptime.
const MAX_UPTIME: f64 = 10.0 * 365.25 * 86_400.0;

/// What an app says of itself. `None` is "did not say": the schema names each column's fallback.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Its own verdict.
    pub says: Says,
    /// The first field that was left out because it cannot mean what it says.
    pub left_out: Option<(Field, Fault)>,
    /// CPU in % of the limit, 0–100.
    pub cpu_usage: Option<f32>,
    /// Memory in % of the limit, 0–100.
    pub memory_usage: Option<f32>,
    /// Errors since the last reset, at most 10⁹.
    pub error_count: Option<u32>,
    /// Seconds since the app started, at most ten years.
    pub uptime: Option<f64>,
}

/// An app's verdict on itself, from the HTTP status and the body together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Says {
    /// It is well.
    #[default]
    Well,
    /// It serves, and something is not as it should be (`degraded`, `warn`, `OUT_OF_BAND`).
    Warns,
    /// It is ill itself.
    Ill,
    /// Something that it depends on is ill: the first such component by name.
    Blames(Component),
    /// It does not serve now, and means it: it starts, drains, or is in maintenance (a plain 503,
    /// `OUT_OF_SERVICE`, `shutting_down`).
    NotNow,
}

/// The name of a component that a health report blames: at most 64 printable ASCII characters,
/// others replaced by `?`, since the target writes it and people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component(Box<str>);

impl Component {
    const MAX: usize = 64;

    /// Takes a name as the target wrote it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        Self(name.chars().take(Self::MAX).map(printable).collect())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A field of the body that Paramedic reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// `status`
    Status = 0,
    /// `cpu_usage`
    CpuUsage = 1,
    /// `memory_usage`
    MemoryUsage = 2,
    /// `error_count`
    ErrorCount = 3,
    /// `uptime`
    Uptime = 4,
}

const FIELDS: usize = 5;

impl Field {
    const ALL: [Self; FIELDS] =
        [Self::Status, Self::CpuUsage, Self::MemoryUsage, Self::ErrorCount, Self::Uptime];

    /// The field's name in the body.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::CpuUsage => "cpu_usage",
            Self::MemoryUsage => "memory_usage",
            Self::ErrorCount => "error_count",
            Self::Uptime => "uptime",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A string for a number, a number for a string, an array, an object, a boolean.
    #[error("has the wrong JSON type")]
    WrongType,
    /// Below zero.
    #[error("is negative")]
    Negative,
    /// More than the quantity can be: 101 %, 10⁹ errors, ten years.
    #[error("is absurdly large")]
    Absurd,
    /// A count with a fraction.
    #[error("is not a whole number")]
    Fraction,
    /// Given twice: nobody can tell which is meant.
    #[error("is given more than once")]
    Repeated,
}

/// Why a body is not a JSON object. Nothing of the body itself is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// Nothing but white space.
    #[error("empty")]
    Empty,
    /// It begins like HTML or XML.
    #[error("HTML or XML")]
    Markup,
    /// It begins like something else, or is another JSON value.
    #[error("not a JSON object")]
    NotObject,
    /// It ends before the object does.
    #[error("cut short")]
    Truncated,
    /// Not well-formed, nested too deeply, or a number beyond every number.
    #[error("malformed at line {line}, column {column}")]
    Malformed {
        /// Line of the body, from 1.
        line: usize,
        /// Byte in the line, from 1.
        column: usize,
    },
}

/// Reads one body.
///
/// # Errors
/// [`HealthError::NotJson`] or [`HealthError::BadField`]; no other.
pub(super) fn parse(body: &[u8]) -> Result<Health, HealthError> {
    match body.trim_ascii_start().first() {
        Some(b'{') => {}
        Some(b'<') => return Err(NotJson::Markup.into()),
        Some(_) => return Err(NotJson::NotObject.into()),
        None => return Err(NotJson::Empty.into()),
    }
    serde_json::from_slice::<Object>(body).map_err(|error| not_json(&error))?.read()
}

fn not_json(error: &serde_json::Error) -> NotJson {
    match error.classify() {
        Category::Eof => NotJson::Truncated,
        Category::Data | Category::Io | Category::Syntax => {
            NotJson::Malformed { line: error.line(), column: error.column() }
        }
    }
}

/// The known fields of a body, not yet judged.
#[derive(Default)]
struct Object {
    values: [Option<Value>; FIELDS],
    repeated: Option<Field>,
}

impl Object {
    fn read(&self) -> Result<Health, HealthError> {
        if let Some(field) = self.repeated {
            return Err(HealthError::BadField { field, fault: Fault::Repeated });
        }
        Ok(Health {
            says: self.field(Field::Status, status)?.unwrap_or_default(),
            left_out: None,
            cpu_usage: self.field(Field::CpuUsage, percentage)?,
            memory_usage: self.field(Field::MemoryUsage, percentage)?,
            error_count: self.field(Field::ErrorCount, count)?,
            uptime: self.field(Field::Uptime, |value| number(value, MAX_UPTIME))?,
        })
    }

    fn field<T>(
        &self,
        field: Field,
        read: impl FnOnce(&Value) -> Result<T, Fault>,
    ) -> Result<Option<T>, HealthError> {
        match &self.values[field as usize] {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                read(value).map(Some).map_err(|fault| HealthError::BadField { field, fault })
            }
        }
    }
}

fn status(value: &Value) -> Result<Says, Fault> {
    let word = value.as_str().ok_or(Fault::WrongType)?;
    Ok(if word.eq_ignore_ascii_case("degraded") { Says::Warns } else { Says::Well })
}

fn percentage(value: &Value) -> Result<f32, Fault> {
    number(value, 100.0 + ROUNDING).map(|n| n.min(100.0) as f32)
}

fn count(value: &Value) -> Result<u32, Fault> {
    let n = number(value, MAX_ERRORS)?;
    // Some languages have no integers and write 5.0; none counts half an error.
    if n.fract() == 0.0 { Ok(n as u32) } else { Err(Fault::Fraction) }
}

fn number(value: &Value, max: f64) -> Result<f64, Fault> {
    match value.as_f64().ok_or(Fault::WrongType)? {
        n if n < 0.0 => Err(Fault::Negative),
        n if n <= max => Ok(n),
        _ => Err(Fault::Absurd),
    }
}

/// By hand because a derived struct would also accept an array, and would quote the body in its
/// errors.
impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object::default();
                while let Some(key) = map.next_key::<String>()? {
                    let Some(field) = Field::from_name(&key) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let value = map.next_value()?;
                    if object.values[field as usize].replace(value).is_some() {
                        object.repeated = Some(field);
                    }
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(field: Field, fault: Fault) -> Result<Health, HealthError> {
        Err(HealthError::BadField { field, fault })
    }

    #[test]
    fn a_full_body_is_read() {
        let body = br#" {"status":"degraded","cpu_usage":85,"memory_usage":40.5,"error_count":7,
            "uptime":12.25,"version":{"of":["anything",1e400]}}"#;
        let health = Health {
            says: Says::Warns,
            left_out: None,
            cpu_usage: Some(85.0),
            memory_usage: Some(40.5),
            error_count: Some(7),
            uptime: Some(12.25),
        };
        assert_eq!(parse(body), Ok(health));
    }

    #[test]
    fn what_is_not_said_stays_unsaid() {
        assert_eq!(parse(b"{}"), Ok(Health::default()));
        assert_eq!(parse(br#"{"cpu_usage":null,"status":null}"#), Ok(Health::default()));
        assert_eq!(parse(br#"{"CPU_USAGE":3}"#), Ok(Health::default()));
    }

    #[test]
    fn every_number_has_its_bounds() {
        use Fault::{Absurd, Fraction, Negative, WrongType};
        for (field, value, fault) in [
            (Field::CpuUsage, "101", Some(Absurd)),
            (Field::CpuUsage, "100.4", None),
            (Field::CpuUsage, "100", None),
            (Field::CpuUsage, "-0.0", None),
            (Field::CpuUsage, "-1", Some(Negative)),
            (Field::CpuUsage, "\"85\"", Some(WrongType)),
            (Field::MemoryUsage, "1e308", Some(Absurd)),
            (Field::MemoryUsage, "[85]", Some(WrongType)),
            (Field::MemoryUsage, "true", Some(WrongType)),
            (Field::ErrorCount, "5.0", None),
            (Field::ErrorCount, "5.5", Some(Fraction)),
            (Field::ErrorCount, "-1", Some(Negative)),
            (Field::ErrorCount, "1000000000", None),
            (Field::ErrorCount, "1000000001", Some(Absurd)),
            (Field::ErrorCount, "18446744073709551616", Some(Absurd)),
            (Field::Uptime, "315576000", None),
            (Field::Uptime, "1732343710", Some(Absurd)),
            (Field::Uptime, "-0.001", Some(Negative)),
            (Field::Uptime, "{\"seconds\":1}", Some(WrongType)),
        ] {
            let body = format!(r#"{{"{}":{value}}}"#, field.name());
            let fault = fault.map(|fault| HealthError::BadField { field, fault });
            assert_eq!(parse(body.as_bytes()).err(), fault, "{body}");
        }
        assert_eq!(parse(br#"{"cpu_usage":100.4}"#).unwrap().cpu_usage, Some(100.0));
        assert_eq!(parse(br#"{"error_count":5.0}"#).unwrap().error_count, Some(5));
    }

    #[test]
    fn a_repeated_field_is_ambiguous() {
        let body = br#"{"error_count":0,"x":1,"x":2,"error_\u0063ount":99}"#;
        assert_eq!(parse(body), bad(Field::ErrorCount, Fault::Repeated));
        assert_eq!(parse(br#"{"uptime":null,"uptime":1}"#), bad(Field::Uptime, Fault::Repeated));
    }

    #[test]
    fn what_is_no_json_object_is_named() {
        let nested = format!(r#"{{"cpu_usage":{}"#, "[".repeat(60_000));
        for (body, expected) in [
            ("", NotJson::Empty),
            (" \r\n\t", NotJson::Empty),
            ("<!DOCTYPE html><html></html>", NotJson::Markup),
            ("OK", NotJson::NotObject),
            ("[1,2,3,4,5]", NotJson::NotObject),
            ("\"healthy\"", NotJson::NotObject),
            ("null", NotJson::NotObject),
            ("NaN", NotJson::NotObject),
            (r#"{"cpu_usage":4"#, NotJson::Truncated),
            (r#"{"status":"heal"#, NotJson::Truncated),
            (r#"{"x":[[[["#, NotJson::Truncated),
            (r#"{"cpu_usage":NaN}"#, NotJson::Malformed { line: 1, column: 14 }),
            (r#"{"cpu_usage":Infinity}"#, NotJson::Malformed { line: 1, column: 14 }),
            ("{\"uptime\":1}\n{}", NotJson::Malformed { line: 2, column: 1 }),
            ("{\"uptime\":01}", NotJson::Malformed { line: 1, column: 12 }),
        ] {
            assert_eq!(parse(body.as_bytes()), Err(HealthError::NotJson(expected)), "{body:?}");
        }
        for body in [nested.as_str(), r#"{"cpu_usage":1e400}"#, r#"{"uptime":-1e400}"#] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert!(matches!(error, HealthError::NotJson(NotJson::Malformed { .. })), "{error}");
        }
        let utf8 = parse(b"{\"status\":\"\xff\xfe\"}").unwrap_err();
        assert!(matches!(utf8, HealthError::NotJson(NotJson::Malformed { .. })), "{utf8}");
    }

    #[test]
    fn depth_in_a_field_nobody_reads_does_no_harm() {
        let depth = 30_000;
        let body = format!(r#"{{"x":{}{},"uptime":1}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(parse(body.as_bytes()).unwrap().uptime, Some(1.0));
    }

    #[test]
    fn messages_repeat_nothing_of_the_body() {
        for body in ["{\"\u{1b}[31m\":EVIL}", "\"EVIL\"", r#"{"status":{"EVIL":1}}"#] {
            let message = parse(body.as_bytes()).unwrap_err().to_string();
            assert!(!message.contains("EVIL") && !message.contains('\u{1b}'), "{message}");
        }
    }

    /// Mutations of bodies that reach every branch: whatever comes out is an error or in bounds.
    #[test]
    fn no_bytes_panic_or_leave_the_bounds() {
        const SEEDS: [&[u8]; 4] = [
            br#"{"status":"healthy","cpu_usage":12.5,"memory_usage":99,"error_count":3,"uptime":1e3}"#,
            br#"{"uptime":-1,"error_count":1000000000,"cpu_usage":100.49,"memory_usage":null}"#,
            br#"{"a":{"b":[1,2,{"c":"\ud83d\ude00\u0000"}]},"status":"x","status":"y"}"#,
            br#"{"cpu_usage":[[[]]],"memory_usage":"9","error_count":true,"uptime":1e-400}"#,
        ];
        const TOKENS: &[u8] = b"{}[]\",:0123456789.-+eE\\utfn\x00\xff\xc3 ";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut accepted = 0_u32;
        for round in 0..40_000 {
            let mut body = SEEDS[round % SEEDS.len()].to_vec();
            for _ in 0..=random(3) {
                let at = random(body.len());
                match random(4) {
                    0 => body[at] = random(256) as u8,
                    1 => body[at] = TOKENS[random(TOKENS.len())],
                    2 => body.insert(at, TOKENS[random(TOKENS.len())]),
                    _ => body.truncate(at.max(1)),
                }
            }
            let Ok(health) = parse(&body) else { continue };
            accepted += 1;
            for percentage in [health.cpu_usage, health.memory_usage].into_iter().flatten() {
                assert!((0.0..=100.0).contains(&percentage), "{body:?}");
            }
            assert!(health.error_count.is_none_or(|n| n <= 1_000_000_000), "{body:?}");
            assert!(health.uptime.is_none_or(|s| (0.0..=MAX_UPTIME).contains(&s)), "{body:?}");
        }
        assert!(accepted > 100, "the mutations are too destructive to test anything: {accepted}");
    }
}
