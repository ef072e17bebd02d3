//! Settings of owners on their pods and containers: the strongest permitted remedy, and exceptions
//! from the defaults.
//!
//! If a setting is invalid, the target is only observed until it is corrected: its owner wanted
//! something else than the default.
use std::{ops::RangeInclusive, time::Duration};

use super::{
    ChannelNames, HealthAsk, MAX_DRAIN, NoSoft, NotARequest, NotChannelNames, Quarantine, Remedy,
    Request, Settings, Soft, Windows, settings::is_path,
};
use crate::resize::{Ceilings, NotCeilings};

pub use paramedic_pod_metrics::HEAL_LABEL;

/// Key of the target's port.
pub const PORT: &str = "paramedic.dev/port";
/// Key of the health check: its path, or `grpc`, or `grpc:SERVICE`.
pub const HEALTH_PATH: &str = "paramedic.dev/health-path";
/// Key of the soft remedy: `http METHOD /path [body]`, `signal NAME` or `none`.
pub const SOFT: &str = "paramedic.dev/soft";
/// Key of the path of the soft remedy `POST /heal`, unless [`SOFT`] is set.
pub const HEAL_PATH: &str = "paramedic.dev/heal-path";
/// Key of the minimum confidence.
pub const MIN_CONFIDENCE: &str = "paramedic.dev/min-confidence";
/// Key of the patience: how long it may fail to answer.
pub const PATIENCE: &str = "paramedic.dev/patience";
/// Key of the warm-up: how long a new instance may take before it answers well.
pub const WARM_UP: &str = "paramedic.dev/warm-up";

/// Key of the times in which it gets no remedy: `01:00-03:00 Europe/Berlin`.
pub const NOT_BETWEEN: &str = "paramedic.dev/not-between";
/// Key of the mildest hard remedy before which people are asked: `restart` or `evict`.
pub const ASK: &str = "paramedic.dev/ask";
/// Key of what they approve: the request that the agent names.
pub const APPROVE: &str = "paramedic.dev/approve";
/// Key of the consent to probes on its TLS library.
pub const TLS: &str = "paramedic.dev/tls";

/// Key of the path of the app's own dump, which is read before a hard remedy.
pub const DUMP: &str = "paramedic.dev/dump";

/// Key of how far its limits may be raised: `cpu=2x,memory=1.5x`.
pub const RESIZE: &str = "paramedic.dev/resize";
/// Key of the time that a pod is out of its Services before a restart.
pub const DRAIN: &str = "paramedic.dev/drain";
/// Key of what takes the place of an eviction: `evict` or `quarantine`.
pub const GIVE_UP: &str = "paramedic.dev/give-up";
/// Key of how long a pod stays in quarantine.
pub const QUARANTINE_TTL: &str = "paramedic.dev/quarantine-ttl";
/// Key of the channels through which people are told of it, by their names.
pub const NOTIFY: &str = "paramedic.dev/notify";

/// Shortest and longest drain.
const DRAINS: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_DRAIN;
/// Longest quarantine.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Maximum patience or warm-up.
const LONGEST: Duration = Duration::from_secs(3600);

/// An invalid label or annotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value:?} is {why}; the target is only observed until it is corrected")]
pub struct InvalidSetting {
    /// Its key.
    pub key: &'static str,
    /// Its value, at most 80 characters.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A port, as its owner specifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// Its number.
    Number(u16),
    /// The name of one of the container's ports.
    Name(String),
}

impl Port {
    /// Longest name of a port, in bytes.
    const LONGEST_NAME: usize = 15;

    /// Whether a container's port may have this name.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        is_label(text, Self::LONGEST_NAME)
    }
}

/// Whether a text is a label of DNS, as Kubernetes names many things: `a` to `z`, `0` to `9` and `-`, with
/// a letter or digit at both ends, from one byte to `longest`.
pub(super) fn is_label(text: &str, longest: usize) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let outer = |b: Option<u8>| b.is_some_and(|b| b != b'-');
    text.len() <= longest
        && text.bytes().all(inner)
        && outer(text.bytes().next())
        && outer(text.bytes().next_back())
}

/// Reads settings by their keys, and collects the invalid ones.
pub struct SettingsReader<F> {
    find: F,
    /// The invalid settings.
    pub invalid_settings: Vec<InvalidSetting>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> SettingsReader<F> {
    /// A reader of the values that `find` returns.
    #[must_use]
    pub const fn new(find: F) -> Self {
        Self { find, invalid_settings: Vec::new() }
    }

    fn complain(&mut self, key: &'static str, value: &str, why: &'static str) {
        let value = value.chars().take(80).collect();
        self.invalid_settings.push(InvalidSetting { key, value, why });
    }

    /// The ceiling in the consent label; [`Remedy::Observe`] if it is invalid.
    pub fn remedy(&mut self, consent: &str) -> Remedy {
        Remedy::from_name(consent).unwrap_or_else(|| {
            self.complain(HEAL_LABEL, consent, "not one of observe, soft, restart, evict");
            Remedy::Observe
        })
    }

    /// The port, by number or by one of the known names.
    pub fn port(&mut self, is_name: impl Fn(&str) -> bool) -> Option<Port> {
        let text = (self.find)(PORT)?;
        if text.bytes().all(|b| b.is_ascii_digit()) {
            match text.parse() {
                Ok(number) if number > 0 => return Some(Port::Number(number)),
                _ => self.complain(PORT, text, "not a port from 1 to 65535"),
            }
            return None;
        }
        if is_name(text) {
            return Some(Port::Name(text.to_owned()));
        }
        self.complain(PORT, text, "neither a number nor the name of a container's port");
        None
    }

    /// The settings, with the ceiling `observe` if any of them is invalid.
    #[must_use]
    pub fn capped(&self, settings: Settings) -> Settings {
        let ceiling =
            if self.invalid_settings.is_empty() { settings.ceiling } else { Remedy::Observe };
        Settings { ceiling, ..settings }
    }

    /// What to ask for at the health endpoint.
    pub fn health_ask(&mut self) -> Option<HealthAsk> {
        let text = (self.find)(HEALTH_PATH)?;
        HealthAsk::read(text).map_err(|why| self.complain(HEALTH_PATH, text, why)).ok()
    }

    /// The soft remedy; the usual one if it is invalid.
    pub fn soft(&mut self) -> Soft {
        if let Some(text) = (self.find)(SOFT) {
            return Soft::read(text).unwrap_or_else(|_| {
                self.complain(SOFT, text, NoSoft::WHY);
                Soft::default()
            });
        }
        self.path(HEAL_PATH).map_or_else(Soft::default, |path| Soft::post(&path))
    }

    /// The path of the app's own dump of its state.
    pub fn dump(&mut self) -> Option<String> {
        self.path(DUMP)
    }

    /// How far its limits may be raised.
    pub fn resize(&mut self) -> Option<Ceilings> {
        let text = (self.find)(RESIZE)?;
        Ceilings::read(text).map_err(|_| self.complain(RESIZE, text, NotCeilings::WHY)).ok()
    }

    fn path(&mut self, key: &'static str) -> Option<String> {
        let path = (self.find)(key)?;
        if !is_path(path) {
            self.complain(key, path, "not a path: it must begin with / and contain no spaces");
            return None;
        }
        Some(path.to_owned())
    }

    /// How long it may fail to answer.
    pub fn patience(&mut self) -> Option<Duration> {
        self.span(PATIENCE)
    }

    /// How long a new instance may take before it answers well.
    pub fn warm_up(&mut self) -> Option<Duration> {
        self.span(WARM_UP)
    }

    /// Whether to attach to the functions of its TLS library.
    pub fn tls_probes(&mut self) -> bool {
        match (self.find)(TLS) {
            Some("true") => true,
            Some("false") | None => false,
            Some(text) => {
                self.complain(TLS, text, "neither true nor false");
                false
            }
        }
    }

    /// When it gets no remedy.
    pub fn not_between(&mut self) -> Windows {
        let Some(text) = (self.find)(NOT_BETWEEN) else { return Windows::default() };
        Windows::read(text).unwrap_or_else(|error| {
            self.complain(NOT_BETWEEN, text, error.why());
            Windows::default()
        })
    }

    /// The mildest hard remedy before which people are asked.
    pub fn ask_before(&mut self) -> Option<Remedy> {
        let text = (self.find)(ASK)?;
        let remedy = Remedy::from_name(text).filter(|remedy| remedy.is_hard());
        if remedy.is_none() {
            self.complain(ASK, text, "neither restart nor evict");
        }
        remedy
    }

    /// The request that people approve.
    pub fn approved(&mut self) -> Option<Request> {
        let text = (self.find)(APPROVE)?;
        Request::read(text).map_err(|_| self.complain(APPROVE, text, NotARequest::WHY)).ok()
    }

    /// The channels through which people are told of it.
    pub fn notify(&mut self) -> ChannelNames {
        let Some(text) = (self.find)(NOTIFY) else { return ChannelNames::default() };
        ChannelNames::read(text).unwrap_or_else(|_| {
            self.complain(NOTIFY, text, NotChannelNames::WHY);
            ChannelNames::default()
        })
    }

    /// How long it is out of its Services before a restart.
    pub fn drain(&mut self) -> Option<Duration> {
        let text = (self.find)(DRAIN)?;
        let drain = span(text).filter(|drain| DRAINS.contains(drain));
        if drain.is_none() {
            self.complain(DRAIN, text, "not a time from 1s to 2m, such as 10s");
        }
        drain
    }

    /// The quarantine that takes the place of an eviction.
    pub fn quarantine(&mut self) -> Option<Quarantine> {
        let lasts = self.quarantine_lasts();
        match (self.find)(GIVE_UP)? {
            "evict" => None,
            "quarantine" => Some(Quarantine { lasts }),
            text => {
                self.complain(GIVE_UP, text, "neither evict nor quarantine");
                None
            }
        }
    }

    fn quarantine_lasts(&mut self) -> Duration {
        let Some(text) = (self.find)(QUARANTINE_TTL) else { return Quarantine::LASTS };
        let lasts = span(text).filter(|lasts| !lasts.is_zero() && *lasts <= LONGEST_QUARANTINE);
        lasts.unwrap_or_else(|| {
            self.complain(QUARANTINE_TTL, text, "not a time up to 168h, such as 24h");
            Quarantine::LASTS
        })
    }

    fn span(&mut self, key: &'static str) -> Option<Duration> {
        let text = (self.find)(key)?;
        let span = span(text).filter(|span| *span <= LONGEST);
        if span.is_none() {
            self.complain(key, text, "not a time from 0s to 1h, such as 30s or 2m");
        }
        span
    }

    /// The minimum calibrated confidence, 0.5–1.
    pub fn min_confidence(&mut self) -> f32 {
        let Some(text) = (self.find)(MIN_CONFIDENCE) else { return Settings::MIN_CONFIDENCE };
        match text.parse() {
            Ok(p) if (0.5..=1.0).contains(&p) => p,
            _ => {
                self.complain(MIN_CONFIDENCE, text, "not a number from 0.5 to 1");
                Settings::MIN_CONFIDENCE
            }
        }
    }
}

/// A whole number of seconds, minutes or hours: `30s`, `2m`, `1h`; a bare number is seconds.
fn span(text: &str) -> Option<Duration> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_numbers_of_a_unit() {
        let seconds = |text| span(text).map(|span| span.as_secs());
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("2m"), Some(120));
        assert_eq!(seconds("1h"), Some(3600));
        assert_eq!(seconds("45"), Some(45));
        for text in ["", "s", "-1s", "1.5s", "10 s", "1d", "ten", "99999999999999999999", "5mm"] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
        assert_eq!(seconds("18446744073709551615h"), None);
    }

    #[test]
    fn a_list_of_channels_that_cannot_be_read_is_said() {
        let read = |text: &'static str| {
            let mut settings = SettingsReader::new(|key| (key == NOTIFY).then_some(text));
            (settings.notify().to_string(), settings.invalid_settings.len())
        };
        assert_eq!(read("shop, on-call"), ("on-call, shop".to_owned(), 0));
        for text in ["", "Shop", "shop;on-call"] {
            assert_eq!(read(text), (String::new(), 1), "{text:?}");
        }
    }

    #[test]
    fn a_health_check_is_a_path_or_a_service() {
        let read = |text: &'static str| {
            let mut settings = SettingsReader::new(|key| (key == HEALTH_PATH).then_some(text));
            (settings.health_ask(), settings.invalid_settings.len())
        };
        let long = "/".repeat(1025).leak();
        assert_eq!(read("/up?x=1"), (Some(HealthAsk::Path("/up?x=1".to_owned())), 0));
        assert_eq!(read("grpc"), (Some(HealthAsk::Grpc(String::new())), 0));
        assert_eq!(read("grpc:"), (Some(HealthAsk::Grpc(String::new())), 0));
        assert_eq!(read("grpc:a.B"), (Some(HealthAsk::Grpc("a.B".to_owned())), 0));
        for text in ["", "up", "grpcs", "GRPC", "grpc:a b", "/a b", "/a#b", long] {
            assert_eq!(read(text), (None, 1), "{text:?}");
        }
        for text in ["/up?x=1", "grpc", "grpc:a.B"] {
            assert_eq!(read(text).0.unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_soft_remedy_is_named_whole_or_by_its_path() {
        let read = |soft: Option<&'static str>, path: Option<&'static str>| {
            let mut settings = SettingsReader::new(|key| match key {
                SOFT => soft,
                HEAL_PATH => path,
                _ => None,
            });
            (settings.soft().to_string(), settings.invalid_settings.len())
        };
        let default = Soft::default().to_string();
        assert_eq!(read(None, None), (default.clone(), 0));
        assert_eq!(read(None, Some("/reset")), (Soft::post("/reset").to_string(), 0));
        assert_eq!(read(Some("signal HUP"), Some("/reset")), ("signal HUP".to_owned(), 0));
        assert_eq!(read(Some("signal KILL"), None), (default.clone(), 1));
        assert_eq!(read(None, Some("reset")), (default, 1));
    }

    #[test]
    fn consent_to_tls_probes_is_true_or_false() {
        for (text, expected) in [(Some("true"), true), (Some("false"), false), (None, false)] {
            let mut settings = SettingsReader::new(|key| text.filter(|_| key == TLS));
            assert_eq!(settings.tls_probes(), expected);
            assert_eq!(settings.invalid_settings, []);
        }
        let mut settings = SettingsReader::new(|key| (key == TLS).then_some("yes"));
        assert!(!settings.tls_probes());
        assert_eq!(settings.invalid_settings.len(), 1);
    }

    #[test]
    fn people_are_asked_before_hard_remedies_only() {
        let read = |text: &'static str| {
            let mut settings = SettingsReader::new(|key| (key == ASK).then_some(text));
            (settings.ask_before(), settings.invalid_settings.len())
        };
        assert_eq!(read("restart"), (Some(Remedy::Restart), 0));
        assert_eq!(read("evict"), (Some(Remedy::Evict), 0));
        for text in ["", "soft", "observe", "yes", "restart?"] {
            assert_eq!(read(text), (None, 1), "{text:?}");
        }
        let mut settings = SettingsReader::new(|key| (key == APPROVE).then_some("yes"));
        assert_eq!((settings.approved(), settings.invalid_settings.len()), (None, 1));
    }

    #[test]
    fn ceilings_are_factors_of_cpu_and_memory() {
        let read = |text: Option<&'static str>| {
            let mut settings = SettingsReader::new(|key| text.filter(|_| key == RESIZE));
            let ceilings = settings.resize().map(|ceilings| ceilings.to_string());
            let capped = settings.capped(Settings::up_to(Remedy::Restart));
            (ceilings, capped.ceiling)
        };
        let given = read(Some("cpu=2x,memory=1.5x"));
        assert_eq!(given, (Some("cpu=2x,memory=1.5x".to_owned()), Remedy::Restart));
        assert_eq!(read(None), (None, Remedy::Restart));
        assert_eq!(read(Some("cpu=200%")), (None, Remedy::Observe), "only observed");
    }

    #[test]
    fn a_dump_is_a_path_and_nothing_else() {
        let read = |text: Option<&'static str>| {
            let mut settings = SettingsReader::new(|key| text.filter(|_| key == DUMP));
            (settings.dump(), settings.invalid_settings.len())
        };
        let path = "/debug/pprof/goroutine?debug=1";
        assert_eq!(read(Some(path)), (Some(path.to_owned()), 0));
        assert_eq!(read(None), (None, 0));
        for text in ["", "threaddump", "/a b", "/a#b", "http://other/threaddump", "true"] {
            assert_eq!(read(Some(text)), (None, 1), "{text:?}");
        }
    }

    #[test]
    fn a_drain_takes_a_second_to_two_minutes() {
        let read = |text: &'static str| {
            let mut settings = SettingsReader::new(|key| (key == DRAIN).then_some(text));
            (settings.drain().map(|drain| drain.as_secs()), settings.invalid_settings.len())
        };
        for (text, seconds) in [("1s", 1), ("10s", 10), ("2m", 120), ("30", 30)] {
            assert_eq!(read(text), (Some(seconds), 0), "{text:?}");
        }
        for text in ["", "0s", "121s", "3m", "1h", "yes", "-5s"] {
            assert_eq!(read(text), (None, 1), "{text:?}");
        }
    }

    #[test]
    fn what_takes_the_place_of_an_eviction_is_named_and_has_an_end() {
        let read = |give_up: Option<&'static str>, ttl: Option<&'static str>| {
            let mut settings = SettingsReader::new(|key| match key {
                GIVE_UP => give_up,
                QUARANTINE_TTL => ttl,
                _ => None,
            });
            let quarantine = settings.quarantine().map(|quarantine| quarantine.lasts.as_secs());
            (quarantine, settings.invalid_settings.len())
        };
        let day = 24 * 3600;
        assert_eq!(read(None, None), (None, 0));
        assert_eq!(read(Some("evict"), None), (None, 0));
        assert_eq!(read(Some("quarantine"), None), (Some(day), 0));
        assert_eq!(read(Some("quarantine"), Some("168h")), (Some(7 * day), 0));
        for ttl in ["0s", "169h", "1d", ""] {
            assert_eq!(read(Some("quarantine"), Some(ttl)), (Some(day), 1), "{ttl:?}");
        }
        for give_up in ["", "Quarantine", "delete"] {
            assert_eq!(read(Some(give_up), None), (None, 1), "{give_up:?}");
        }
    }

    #[test]
    fn a_patience_beyond_an_hour_is_invalid() {
        let mut settings = SettingsReader::new(|key| (key == PATIENCE).then_some("2h"));
        assert_eq!(settings.patience(), None);
        assert_eq!(settings.invalid_settings.len(), 1);
        assert_eq!(settings.warm_up(), None);
        assert_eq!(settings.invalid_settings.len(), 1, "what is not set is no mistake");
    }
}
