//! [`Word`]: the result of a poll as a sentence for users.
use std::{fmt, sync::Arc};

use super::{Fault, Field, Health, HealthError, Heard, Poll, Says};

/// The result of a poll, without its numbers.
#[derive(Clone, Debug)]
pub struct Word {
    /// The kind of result.
    pub heard: Heard,
    /// The polled path.
    pub path: Arc<str>,
    result: Result<(Says, Option<(Field, Fault)>), HealthError>,
}

impl Word {
    /// The result of this poll.
    #[must_use]
    pub fn of(poll: &Poll) -> Self {
        let said = |health: &Health| (health.says.clone(), health.left_out);
        let result = poll.result.as_ref().map(said).map_err(|error| *error);
        Self { heard: poll.heard(), path: Arc::clone(&poll.path), result }
    }

    /// Whether this differs from `before`. The position of a syntax error does not matter.
    #[must_use]
    pub fn is_news(&self, before: &Self) -> bool {
        let same = match (&self.result, &before.result) {
            (Ok(now), Ok(then)) => now == then,
            (Err(now), Err(then)) => now.name() == then.name(),
            _ => false,
        };
        !same || self.heard != before.heard || self.path != before.path
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (says, left_out) = match &self.result {
            Ok(said) => said,
            Err(error) => return error.fmt(f),
        };
        match says {
            Says::Well => f.write_str("the app reports that it is well")?,
            Says::Warns => f.write_str("the app serves, but reports a problem")?,
            Says::Ill => f.write_str("the app reports that it is sick")?,
            Says::Blames(component) => write!(f, "the app blames {:?}", component.as_str())?,
            Says::NotNow => {
                f.write_str("the app does not serve now: it starts, drains or is in maintenance")?;
            }
        }
        if let Some((field, fault)) = left_out {
            write!(f, "; its field `{}` {fault} and is ignored", field.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_time::BootTime;

    fn word(result: Result<Health, HealthError>) -> Word {
        Word::of(&Poll::for_tests(BootTime::default(), result))
    }

    #[test]
    fn an_ignored_field_is_named() {
        let health =
            Health { left_out: Some((Field::CpuUsage, Fault::Absurd)), ..Health::default() };
        assert_eq!(
            word(Ok(health)).to_string(),
            "the app reports that it is well; its field `cpu_usage` is absurdly large and is ignored"
        );
    }

    #[test]
    fn changed_numbers_are_not_news_and_changed_verdicts_are() {
        let well = word(Ok(Health::default()));
        let busy = word(Ok(Health { cpu_usage: Some(90.0), ..Health::default() }));
        assert!(!busy.is_news(&well));
        assert!(word(Ok(Health { says: Says::Warns, ..Health::default() })).is_news(&well));
        let redirect = |code| word(Err(HealthError::Redirect(code)));
        assert!(redirect(302).is_news(&well));
        assert!(!redirect(302).is_news(&redirect(301)));
    }
}
