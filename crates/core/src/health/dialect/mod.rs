//! The dialects of health reports in JSON: Spring Boot Actuator (1 to 3), MicroProfile and Quarkus,
//! ASP.NET Core, NestJS Terminus, go-healthz and hellofresh, Dropwizard, django-health-check, the
//! IETF draft, and that of the original demo.
//!
//! They differ in names and agree in form: a word for the whole, and a word for each of its parts.
//! So one rule covers all. A whole that is down blames the first of its parts that is down, in the
//! order of the document: a restart of this app does not repair its database. Parts that are the
//! app itself (`livenessState`, `deadlock`, `heap`) make the app itself sick. If parts of both
//! kinds are down, the other one is blamed, because in doubt nothing is done.
use super::{Component, Health, HealthError, NotJson, Says, parse};

mod parts;
pub(super) mod text;
mod tree;
mod word;

#[cfg(test)]
pub(super) mod tests;

use parts::{Nature, Part};
pub(super) use tree::Tree;
pub(super) use word::Word;

/// A body that is a JSON object.
#[derive(Debug)]
pub(super) struct Report {
    /// Its numbers. The verdict is set later.
    pub(super) health: Health,
    whole: Option<Word>,
    parts: Vec<Part>,
}

impl Report {
    /// # Errors
    /// If it is not a JSON object.
    pub(super) fn read(text: &str) -> Result<Self, HealthError> {
        let object = tree::read(text)?;
        let (status, health) = parse::fields(&object);
        let status = status.or_else(|| other_status(&object));
        let whole = status.and_then(Word::of_value);
        Ok(Self { health, whole, parts: parts::of(&object) })
    }

    /// The word for the whole, if it has a known one.
    pub(super) const fn whole(&self) -> Option<Word> {
        self.whole
    }

    /// Whether it names parts.
    pub(super) const fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether it names a part of the app itself that is down.
    pub(super) fn names_itself(&self) -> bool {
        self.parts.iter().any(|part| part.nature == Nature::Own && part.is_down())
    }

    /// The verdict of the whole and its parts, if there is one. With `failed`, the HTTP status says
    /// that it is down if no word does.
    pub(super) fn says(&self, failed: bool) -> Option<Says> {
        let down = || self.parts.iter().filter(|part| part.is_down());
        let is_down = match self.whole {
            Some(word) => word == Word::Bad,
            None if self.parts.is_empty() => return None,
            None => failed && down().next().is_some(),
        };
        if !is_down {
            return Some(match self.whole {
                Some(Word::Later) => Says::NotNow,
                Some(Word::Warn) => Says::Warns,
                _ if down().next().is_some() => Says::Warns,
                _ => Says::Well,
            });
        }
        let first = |nature| down().find(|part| part.nature == nature);
        Some(match first(Nature::Foreign) {
            Some(part) => Says::Blames(Component::new(&part.name)),
            None if first(Nature::Own).is_some() => Says::Ill,
            None if first(Nature::Readiness).is_some() => Says::NotNow,
            None => Says::Ill,
        })
    }
}

/// `Status`, as .NET may write it, or `outcome`, as in MicroProfile 1.
fn other_status(object: &[(String, Tree)]) -> Option<&Tree> {
    let names =
        |name: &str| name == "outcome" || (name != "status" && name.eq_ignore_ascii_case("status"));
    object.iter().find(|(name, _)| names(name)).map(|(_, value)| value)
}

impl From<Word> for Says {
    fn from(word: Word) -> Self {
        match word {
            Word::Good => Self::Well,
            Word::Warn => Self::Warns,
            Word::Later => Self::NotNow,
            Word::Bad => Self::Ill,
        }
    }
}

impl From<serde_json::Error> for NotJson {
    fn from(error: serde_json::Error) -> Self {
        if error.is_eof() {
            return Self::Truncated;
        }
        Self::Malformed { line: error.line(), column: error.column() }
    }
}
