//! Time as the fake tells it: tokio's clock since the fake was made, on top of a fixed date.
//!
//! So a test under a paused clock sees the same dates in every run, and time passes only when
//! the test lets it.
use std::time::Duration;

use tokio::time::Instant;

/// 2026-11-22T21:00:00Z, the day of the recordings.
const EPOCH_S: u64 = 1_795_381_200;
const DAY_S: u64 = 86_400;
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Where time counts from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the fake was made.
    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// The instant at which `at` is reached.
    pub(crate) fn instant(self, at: Duration) -> Instant {
        self.0 + at
    }
}

/// A Kubernetes `Time`, such as `2026-11-22T21:00:00Z`.
pub(crate) fn rfc3339(at: Duration) -> String {
    let (year, month, day, second) = civil(at);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// What the `Date` header says, such as `Sun, 22 Nov 2026 21:00:00 GMT`.
pub(crate) fn http_date(at: Duration) -> String {
    let (year, month, day, second) = civil(at);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let days = (EPOCH_S + at.as_secs()) / DAY_S;
    let weekday = DAYS[(days % 7) as usize];
    let month = MONTHS[month as usize - 1];
    format!("{weekday}, {day:02} {month} {year:04} {h:02}:{m:02}:{s:02} GMT")
}

/// The time since the fake was made that a Kubernetes `Time` stands for; zero if it is none, or
/// earlier.
pub(crate) fn parse(text: &str) -> Duration {
    let number = |range| text.get(range).and_then(|t: &str| t.parse::<u64>().ok());
    let parts = (number(0..4), number(5..7), number(8..10), number(11..13), number(14..16));
    let (Some(year), Some(month), Some(day), Some(h), Some(m)) = parts else {
        return Duration::ZERO;
    };
    let seconds = number(17..19).unwrap_or(0) + 60 * m + 3600 * h;
    let total = days_before(year, month, day) * DAY_S + seconds;
    Duration::from_secs(total.saturating_sub(EPOCH_S))
}

/// Year, month, day and second of the day; Howard Hinnant's algorithm for dates after 1970.
fn civil(at: Duration) -> (u64, u64, u64, u64) {
    let total = EPOCH_S + at.as_secs();
    let z = total / DAY_S + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    (year, month, day, total % DAY_S)
}

/// Days from 1970-01-01 to the given day.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year.saturating_sub(1) } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day.saturating_sub(1);
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read_back() {
        for (s, date, header) in [
            (0, "2026-11-22T21:00:00Z", "Sun, 22 Nov 2026 21:00:00 GMT"),
            (195, "2026-11-22T21:03:15Z", "Sun, 22 Nov 2026 21:03:15 GMT"),
            (3 * 3600, "2026-11-23T00:00:00Z", "Mon, 23 Nov 2026 00:00:00 GMT"),
            (100 * DAY_S, "2027-03-02T21:00:00Z", "Tue, 02 Mar 2027 21:00:00 GMT"),
        ] {
            let at = Duration::from_secs(s);
            assert_eq!(rfc3339(at), date);
            assert_eq!(http_date(at), header);
            assert_eq!(parse(date), at);
        }
        assert_eq!(parse("yesterday"), Duration::ZERO);
    }
}
