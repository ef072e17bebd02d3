//! Windows of time in which the owner of a target wants no remedy: during its backup, its nightly
//! job, its busiest hour.
use std::fmt;

use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};

/// Maximum number of windows of a target.
const MOST: usize = 16;
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Some windows; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

/// The same hours of each day, by the wall clocks of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Minutes since midnight. A window that ends before it begins goes on past midnight.
    from: u16,
    to: u16,
    zone: TimeZone,
    name: String,
}

/// Why a text names no windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAWindow {
    /// It has another form.
    #[error("{}", self.why())]
    Form,
    /// The IANA database, as of the agent's build, does not know the zone.
    #[error("{}", self.why())]
    Zone,
}

impl NotAWindow {
    /// The reason.
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::Form => {
                "not of the form `01:00-03:00 Europe/Berlin`, several separated by commas"
            }
            Self::Zone => "in a time zone that the IANA database does not have",
        }
    }
}

impl Windows {
    /// Reads `HH:MM-HH:MM ZONE`, several separated by commas. The zone is an IANA name.
    ///
    /// # Errors
    /// See [`NotAWindow`]; `Form` also if a window has no length, or there are more than 16.
    pub fn read(text: &str) -> Result<Self, NotAWindow> {
        let windows: Vec<_> =
            text.split(',').map(|one| Window::read(one.trim())).collect::<Result<_, _>>()?;
        if windows.len() > MOST { Err(NotAWindow::Form) } else { Ok(Self(windows)) }
    }

    /// Whether this moment, in seconds since 1970 UTC, is within one of them. A zone's change to
    /// summer time or back moves them with its wall clocks: an hour that comes twice is in both
    /// times, and one that is left out is in none.
    #[must_use]
    pub fn contain(&self, unix_seconds: i64) -> bool {
        self.0.iter().any(|window| window.contains(unix_seconds))
    }

    /// Whether the owner excludes no time.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Window {
    fn read(text: &str) -> Result<Self, NotAWindow> {
        let (span, name) = text.split_once(' ').ok_or(NotAWindow::Form)?;
        let (from, to) = span.split_once('-').ok_or(NotAWindow::Form)?;
        let (from, to) = minute(from).zip(minute(to)).ok_or(NotAWindow::Form)?;
        if from == to {
            return Err(NotAWindow::Form);
        }
        let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| NotAWindow::Zone)?;
        Ok(Self { from, to, zone, name: name.to_owned() })
    }

    fn contains(&self, unix_seconds: i64) -> bool {
        let Ok(moment) = Timestamp::from_second(unix_seconds) else { return false };
        let local = moment.to_zoned(self.zone.clone());
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// The minute of the day of `HH:MM`; `24:00` is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let two = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        two.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

/// As [`Windows::read`] reads them.
impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        for (index, Window { from, to, name, .. }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}-{} {name}", clock(*from), clock(*to))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of these moments is within the windows.
    fn within<const N: usize>(windows: &str, moments: [&str; N]) -> [bool; N] {
        let windows = Windows::read(windows).unwrap();
        moments.map(|moment| windows.contain(moment.parse::<Timestamp>().unwrap().as_second()))
    }

    #[test]
    fn a_window_is_of_its_zones_wall_clocks() {
        // Berlin is two hours ahead of UTC in summer, and one in winter.
        let summer = ["2026-07-01T22:59:59Z", "2026-07-01T23:00:00Z", "2026-07-02T00:59:59Z"];
        assert_eq!(within("01:00-03:00 Europe/Berlin", summer), [false, true, true]);
        let winter = ["2026-12-01T23:30:00Z", "2026-12-02T00:00:00Z", "2026-12-02T02:00:00Z"];
        assert_eq!(within("01:00-03:00 Europe/Berlin", winter), [false, true, false]);
        assert_eq!(within("01:00-03:00 UTC", ["2026-07-02T01:00:00Z"]), [true]);
        // Half an hour is a part of some zones.
        assert_eq!(within("09:00-10:00 Asia/Kolkata", ["2026-07-02T03:30:00Z"]), [true]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_within_both_times_and_one_left_out_never() {
        // 2026-10-25: 03:00 summer time is 02:00 again.
        let autumn = [
            "2026-10-24T23:59:59Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:59:59Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:59:59Z",
            "2026-10-25T02:00:00Z",
        ];
        let expected = [false, true, true, true, true, false];
        assert_eq!(within("02:00-03:00 Europe/Berlin", autumn), expected);
        // 2026-03-29: after 01:59:59 comes 03:00.
        let spring = ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"];
        assert_eq!(within("02:00-03:00 Europe/Berlin", spring), [false, false]);
    }

    #[test]
    fn a_window_may_go_on_past_midnight_and_there_may_be_several() {
        let night = ["2026-07-02T21:59:00Z", "2026-07-02T22:00:00Z", "2026-07-03T05:59:00Z"];
        assert_eq!(within("22:00-06:00 UTC", night), [false, true, true]);
        let two = "01:00-02:00 UTC, 12:00-24:00 UTC";
        let moments = ["2026-07-02T01:30:00Z", "2026-07-02T11:00:00Z", "2026-07-02T23:59:59Z"];
        assert_eq!(within(two, moments), [true, false, true]);
        assert_eq!(Windows::read(two).unwrap().to_string(), two);
        assert!(Windows::default().is_empty() && !Windows::default().contain(0));
    }

    #[test]
    fn other_texts_and_zones_are_refused() {
        for text in [
            "",
            "01:00-03:00",
            "01:00 Europe/Berlin",
            "1:00-3:00 UTC",
            "01:00-25:00 UTC",
            "01:60-02:00 UTC",
            "24:01-02:00 UTC",
            "02:00-02:00 UTC",
            "+1:00-02:00 UTC",
            "01:00-02:00 UTC,",
        ] {
            assert_eq!(Windows::read(text), Err(NotAWindow::Form), "{text:?}");
        }
        for zone in ["Europe/Entenhausen", "", " UTC", "../etc/passwd", "CEST+2"] {
            let text = format!("01:00-02:00 {zone}");
            assert!(Windows::read(&text).is_err(), "{text:?}");
        }
        let many = vec!["01:00-02:00 UTC"; 17].join(",");
        assert_eq!(Windows::read(&many), Err(NotAWindow::Form));
        assert!(!Windows::read("01:00-02:00 UTC").unwrap().contain(i64::MAX));
    }
}
