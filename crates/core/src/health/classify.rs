//! Classifies a response by its HTTP status and its body together.
//!
//! The status shows who speaks: a 502 or 504 comes from a proxy, a 503 may be intended, a 4xx is
//! about our request. The body shows what it is about: only a readable one can report that the app
//! is sick if the status does not. In doubt the result is one that leads to no remedy.
use http::{
    StatusCode,
    header::{self, HeaderMap},
};

use super::{
    Component, Health, HealthError, NotJson, Says,
    body::{self, Kind},
    dialect::{Report, Word, text},
};

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, still encoded.
    pub body: Vec<u8>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it says.
    pub health: Health,
    /// A 5xx without a report: it may come from a path that the app does not have.
    pub by_status_alone: bool,
}

impl From<Health> for Reading {
    fn from(health: Health) -> Self {
        Self { health, by_status_alone: false }
    }
}

/// A proxy that answers for what it could not reach.
const UPSTREAM: &str = "upstream";

/// Reads one answer.
///
/// # Errors
/// If it cannot be read, which is evidence of nothing: any but a [`HealthError::Transport`].
pub fn read(answer: &Answer) -> Result<Reading, HealthError> {
    match answer.status.as_u16() {
        200..=299 => accepted(answer).map(Reading::from),
        code @ 300..=399 => Err(HealthError::Redirect(code)),
        code @ (401 | 403 | 407) => Err(HealthError::Refused(code)),
        code @ (404 | 405 | 410 | 501) => Err(HealthError::NotFound(code)),
        code @ 429 => Err(HealthError::TooOften(code)),
        code @ 400..=499 => {
            refused(answer).map(Reading::from).ok_or(HealthError::StatusNotOk(code))
        }
        500..=599 => Ok(failed(answer)),
        code => Err(HealthError::StatusNotOk(code)),
    }
}

/// 2xx: it answered, so it serves; a report in JSON that says ill words all the same has numbers
/// that decide.
fn accepted(answer: &Answer) -> Result<Health, HealthError> {
    let text = body::text(&answer.headers, &answer.body)?;
    match text.chars().next() {
        None => Ok(Health::default()),
        Some('{') => {
            let report = Report::read(&text)?;
            let says = match report.says(false) {
                None => Says::Well,
                Some(Says::Ill) => Says::Warns,
                Some(says) => says,
            };
            Ok(Health { says, ..report.health })
        }
        Some('<') => Err(NotJson::Markup.into()),
        Some('[' | '"') => Err(NotJson::NotObject.into()),
        Some(_) => {
            let is_plain = Kind::of(&answer.headers) == Kind::Plain;
            Ok(Health { says: text::says(&text, is_plain)?, ..Health::default() })
        }
    }
}

/// A 4xx is about our question, unless it is a report that says fail, as the IETF's draft allows.
/// `{"status":"error"}` alone is how many APIs refuse a question.
fn refused(answer: &Answer) -> Option<Health> {
    let text = body::text(&answer.headers, &answer.body).ok()?;
    let report = text.starts_with('{').then(|| Report::read(&text).ok())??;
    let is_report = Kind::of(&answer.headers) == Kind::Health || report.has_parts();
    if !is_report || report.whole() != Some(Word::Bad) {
        return None;
    }
    Some(Health { says: report.says(true)?, ..report.health })
}

/// 5xx: what the body says, and else what the status does.
fn failed(answer: &Answer) -> Reading {
    let code = answer.status.as_u16();
    let (said, numbers, names_itself) = told(answer);
    let by_status_alone = said.is_none();
    let says = match (code, said) {
        (503, _) if answer.headers.contains_key(header::RETRY_AFTER) => Says::NotNow,
        // The status contradicts it.
        (503, None | Some(Says::Well)) => Says::NotNow,
        (_, Some(Says::Well)) => Says::Warns,
        (_, Some(says)) => says,
        (502 | 504, None) => Says::Blames(Component::new(UPSTREAM)),
        (_, None) => Says::Ill,
    };
    let is_vague = code == 503 && says == Says::Ill && !names_itself;
    Reading { health: Health { says, is_vague, ..numbers }, by_status_alone }
}

/// What a 5xx's body says, if it can be read and says something, the numbers in it, and whether it
/// names a part of the app itself that is down.
fn told(answer: &Answer) -> (Option<Says>, Health, bool) {
    let nothing = (None, Health::default(), false);
    let Ok(text) = body::text(&answer.headers, &answer.body) else { return nothing };
    if !text.starts_with('{') {
        return (text::word(&text).map(Says::from), Health::default(), false);
    }
    let Ok(report) = Report::read(&text) else { return nothing };
    let names_itself = report.names_itself();
    (report.says(true), report.health, names_itself)
}
