//! What an app reports about itself, and the numbers in the report.
//!
//! The target writes the body, so each field is accepted or ignored separately: an unknown field is
//! ignored, a missing one stays missing, and an absurd one counts as missing and is named in
//! [`Health::left_out`]. A number that was guessed, clipped or defaulted here would be used as if
//! measured: a CPU of 135 % may mean one and a third of a core, or nonsense.
use super::dialect::Tree;

/// Percentages above 100 by less than this are rounding errors.
const ROUNDING: f64 = 0.5;
const MAX_ERRORS: f64 = 1e9;
/// Ten years in seconds. A greater value is a clock or an epoch, not an uptime.
const MAX_UPTIME: f64 = 10.0 * 365.25 * 86_400.0;

/// What an app reports about itself. `None` means that it did not say; the schema names each
/// column's fallback.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Its own verdict.
    pub says: Says,
    /// Whether it reports by a 503 that it is sick, and names no part of itself: many apps mean a
    /// dependency by that, and hide the details.
    pub is_vague: bool,
    /// The first field that was ignored because its value is implausible.
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

/// An app's verdict on itself, by HTTP status and body together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Says {
    /// It is well.
    #[default]
    Well,
    /// It serves, but something is wrong (`degraded`, `warn`).
    Warns,
    /// It is sick itself.
    Ill,
    /// A dependency is down: the first such component by name.
    Blames(Component),
    /// It intentionally does not serve now: it starts, drains, or is in maintenance (a plain 503,
    /// `OUT_OF_SERVICE`, `shutting_down`).
    NotNow,
}

/// The name of a component that a health report blames: at most 64 printable ASCII characters,
/// others replaced by `?`, because the target writes it and operators read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component(Box<str>);

impl Component {
    const MAX: usize = 64;

    /// Sanitises a name from a report.
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
pub enum Field {
    /// `status`
    Status,
    /// `cpu_usage`
    CpuUsage,
    /// `memory_usage`
    MemoryUsage,
    /// `error_count`
    ErrorCount,
    /// `uptime`
    Uptime,
}

impl Field {
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
    /// More than plausible: 101 %, 10⁹ errors, ten years.
    #[error("is absurdly large")]
    Absurd,
    /// A count with a fraction.
    #[error("is not a whole number")]
    Fraction,
    /// Given twice, which is ambiguous.
    #[error("is given more than once")]
    Repeated,
}

/// Why a body is not a health report. It repeats nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// It starts like HTML or XML.
    #[error("HTML or XML; set the path of a machine-readable endpoint")]
    Markup,
    /// It starts like something else, or is another JSON value.
    #[error("neither a JSON object nor a word such as `ok`")]
    NotObject,
    /// Long plain text.
    #[error("long text; answer a JSON object, or one short line as text/plain")]
    Prose,
    /// Bytes that are not UTF-8.
    #[error("not in UTF-8, as JSON must be")]
    NotUtf8,
    /// It ends before the object does.
    #[error("JSON that is cut short")]
    Truncated,
    /// Not well-formed.
    #[error("JSON that is malformed at line {line}, column {column}")]
    Malformed {
        /// Line of the body, from 1.
        line: usize,
        /// Byte in the line, from 1.
        column: usize,
    },
}

/// The known fields of a report: `status`, if it can be one, and the numbers.
pub(super) fn fields(object: &[(String, Tree)]) -> (Option<&Tree>, Health) {
    let mut fields = Fields { object, left_out: None };
    let status = fields.read(Field::Status, status);
    let health = Health {
        says: Says::default(),
        cpu_usage: fields.read(Field::CpuUsage, percentage),
        memory_usage: fields.read(Field::MemoryUsage, percentage),
        error_count: fields.read(Field::ErrorCount, count),
        uptime: fields.read(Field::Uptime, |value| number(value, MAX_UPTIME)),
        is_vague: false,
        left_out: fields.left_out,
    };
    (status, health)
}

struct Fields<'a> {
    object: &'a [(String, Tree)],
    left_out: Option<(Field, Fault)>,
}

impl<'a> Fields<'a> {
    fn read<T>(
        &mut self,
        field: Field,
        read: impl FnOnce(&'a Tree) -> Result<T, Fault>,
    ) -> Option<T> {
        let mut all = self.object.iter().filter(|(name, _)| name == field.name());
        let value = match (all.next(), all.next()) {
            (Some(_), Some(_)) => Err(Fault::Repeated),
            (Some((_, Tree::Null)), None) | (None, _) => return None,
            (Some((_, value)), None) => read(value),
        };
        value.map_err(|fault| self.left_out = self.left_out.or(Some((field, fault)))).ok()
    }
}

const fn status(value: &Tree) -> Result<&Tree, Fault> {
    match value {
        Tree::Text(_) | Tree::Bool(_) => Ok(value),
        _ => Err(Fault::WrongType),
    }
}

fn percentage(value: &Tree) -> Result<f32, Fault> {
    number(value, 100.0 + ROUNDING).map(|n| n.min(100.0) as f32)
}

fn count(value: &Tree) -> Result<u32, Fault> {
    let n = number(value, MAX_ERRORS)?;
    // Some languages have no integers and write 5.0; half an error is invalid.
    if n.fract() == 0.0 { Ok(n as u32) } else { Err(Fault::Fraction) }
}

fn number(value: &Tree, max: f64) -> Result<f64, Fault> {
    match value {
        Tree::Number(n) if *n < 0.0 => Err(Fault::Negative),
        Tree::Number(n) if *n <= max => Ok(*n),
        Tree::Number(_) => Err(Fault::Absurd),
        _ => Err(Fault::WrongType),
    }
}
