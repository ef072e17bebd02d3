//! Whether and when a notification is sent again. Pure, but for the jitter's random number.
use std::time::Duration;

/// Time limits of a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time limit of one request, from the name of the host to the response.
    pub(crate) request: Duration,
    /// Delay after the first failed attempt; it doubles with each further one.
    pub(crate) first: Duration,
    /// Maximum of that delay.
    pub(crate) most: Duration,
    /// Maximum delay that a receiver may ask for.
    pub(crate) asked_most: Duration,
    /// Time after the first attempt from which on none follows.
    pub(crate) give_up: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            first: Duration::from_secs(1),
            most: Duration::from_secs(300),
            asked_most: Duration::from_secs(600),
            give_up: Duration::from_secs(3600),
        }
    }
}

/// What one attempt led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A response.
    Status {
        code: u16,
        /// How long the receiver asks to wait.
        retry_after: Option<Duration>,
    },
    /// None, and why.
    Nothing(String),
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The receiver has it.
    Delivered,
    /// The receiver will never take it.
    Refused,
    /// It was tried for long enough.
    Expired,
    /// Try again after this time; `all` if no other notification has better prospects before.
    Again { after: Duration, all: bool },
}

impl Pace {
    /// What follows from the answer to the attempt number `tries` (from 1 on), when the first
    /// attempt began `age` ago. `jitter` is a random number from 0 to 1.
    pub(crate) fn next(&self, answer: &Answer, tries: u32, age: Duration, jitter: f32) -> Next {
        let (all, asked) = match answer {
            Answer::Status { code: 200..=299, .. } => return Next::Delivered,
            Answer::Status { code: 429, retry_after } => (true, *retry_after),
            Answer::Status { code: 408 | 500.., retry_after } => (false, *retry_after),
            Answer::Status { .. } => return Next::Refused,
            Answer::Nothing(_) => (true, None),
        };
        let doublings = tries.saturating_sub(1).min(16);
        let delay = (self.first * 2_u32.pow(doublings)).min(self.most);
        // From half of the delay to all of it: many agents that lost one receiver do not return at
        // the same time.
        let delay = delay.mul_f32(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        let after = asked.map_or(delay, |asked| asked.min(self.asked_most).max(delay));
        if age + after > self.give_up { Next::Expired } else { Next::Again { after, all } }
    }
}

/// The value of `Retry-After`: seconds or a date. `now` is in seconds since 1970.
pub(crate) fn retry_after(value: &str, now: i64) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    let left = date.as_second().saturating_sub(now);
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// What to do about a status that is final.
pub(crate) const fn advice(code: u16) -> &'static str {
    match code {
        300..=399 => "it redirects, and no redirect is followed: give the URL that it leads to",
        400 | 422 => {
            "the receiver does not understand it: does the kind of the channel fit the URL, and is \
             the key right?"
        }
        401 | 403 => "the receiver refuses the URL or its key: make new ones there",
        404 | 405 | 410 => "nothing takes notifications there: correct the URL, or make a new one",
        413 => "the receiver takes no message of this size: raise its limit",
        _ => "look at the receiver's own log, and correct the URL or the key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Answer {
        Answer::Status { code, retry_after: None }
    }

    fn again(seconds: u64, all: bool) -> Next {
        Next::Again { after: Duration::from_secs(seconds), all }
    }

    #[test]
    fn each_answer_has_its_consequence() {
        let pace = Pace::default();
        let next = |answer: &Answer| pace.next(answer, 1, Duration::ZERO, 1.0);
        for code in [200, 202, 204] {
            assert_eq!(next(&status(code)), Next::Delivered);
        }
        for code in [300, 302, 400, 401, 403, 404, 410, 413, 422, 499] {
            assert_eq!(next(&status(code)), Next::Refused, "{code}");
            assert!(!advice(code).is_empty());
        }
        for code in [408, 500, 502, 503, 599] {
            assert_eq!(next(&status(code)), again(1, false), "{code}");
        }
        assert_eq!(next(&status(429)), again(1, true));
        assert_eq!(next(&Answer::Nothing("refused".into())), again(1, true));
    }

    #[test]
    fn delays_double_up_to_a_limit_and_vary() {
        let pace = Pace::default();
        let after = |tries, jitter| pace.next(&status(500), tries, Duration::ZERO, jitter);
        assert_eq!(after(2, 1.0), again(2, false));
        assert_eq!(after(5, 0.0), again(8, false));
        assert_eq!(after(9, 1.0), again(256, false));
        assert_eq!(after(u32::MAX, 1.0), again(300, false));
    }

    #[test]
    fn a_receiver_may_ask_for_at_most_ten_minutes() {
        let pace = Pace::default();
        let asked =
            |seconds| Answer::Status { code: 429, retry_after: Some(Duration::from_secs(seconds)) };
        let after = |seconds| pace.next(&asked(seconds), 1, Duration::ZERO, 1.0);
        assert_eq!(after(0), again(1, true));
        assert_eq!(after(30), again(30, true));
        assert_eq!(after(u64::MAX), again(600, true));
    }

    #[test]
    fn attempts_end_after_an_hour() {
        let pace = Pace::default();
        let after = |age| pace.next(&status(503), 9, Duration::from_secs(age), 1.0);
        assert_eq!(after(3300), again(256, false));
        assert_eq!(after(3400), Next::Expired);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let seconds = |value| retry_after(value, 784_111_770).map(|after| after.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for invalid in ["", "-1", "soon", "1.5"] {
            assert_eq!(seconds(invalid), None, "{invalid}");
        }
    }
}
