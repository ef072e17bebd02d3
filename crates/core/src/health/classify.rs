//! Classifies a response by its HTTP status and its body together.
//!
//! The status shows the sender: a 502 or 504 comes from a proxy, a 503 may be intended, a 4xx is
//! about our request. The body shows the subject: only a readable body can report that the app is
//! sick if the status does not. In doubt the result is one that leads to no remedy.
use http::{
    StatusCode,
    header::{self, HeaderMap},
};

use super::{
    Component, Health, HealthError, NotJson, Says,
    body::{self, Kind},
    dialect::{Report, Word, text},
};

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// Body, still encoded.
    pub body: Vec<u8>,
}

/// The meaning of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The report.
    pub health: Health,
    /// A 5xx without a report: its path may not exist in the app.
    pub by_status_alone: bool,
}

impl From<Health> for Reading {
    fn from(health: Health) -> Self {
        Self { health, by_status_alone: false }
    }
}

/// The blamed component if a proxy answers for what it could not reach.
pub(super) const UPSTREAM: &str = "upstream";

/// Reads one response.
///
/// # Errors
/// If it is unreadable, which is no evidence: any error but a [`HealthError::Transport`].
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

/// 2xx: it answered, so it serves. If a report in JSON has a bad word nevertheless, its numbers
/// decide.
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

/// A 4xx is about our request, unless it is a report that says fail, as the IETF's draft permits.
/// `{"status":"error"}` alone is how many APIs refuse a request.
fn refused(answer: &Answer) -> Option<Health> {
    let text = body::text(&answer.headers, &answer.body).ok()?;
    let report = text.starts_with('{').then(|| Report::read(&text).ok())??;
    let is_report = Kind::of(&answer.headers) == Kind::Health || report.has_parts();
    if !is_report || report.whole() != Some(Word::Bad) {
        return None;
    }
    Some(Health { says: report.says(true)?, ..report.health })
}

/// 5xx: the body decides, else the status.
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

/// What the body of a 5xx says, if it is readable, with the numbers in it, and whether it names a
/// part of the app itself that is down.
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
