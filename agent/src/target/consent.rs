//! What owners write on their pods and containers: how far healing may go, and where the defaults do
//! not fit.
//!
//! A setting that cannot be read takes consent back to `observe` until it is corrected: its owner
//! meant something else than what we would do.
use super::Rung;

/// The label whose value is the consent, from `observe` to `evict`.
pub const HEAL_LABEL: &str = "paramedic.dev/heal";

pub(super) const PORT: &str = "paramedic.dev/port";
pub(super) const HEALTH_PATH: &str = "paramedic.dev/health-path";
pub(super) const HEAL_PATH: &str = "paramedic.dev/heal-path";
pub(super) const MIN_CONFIDENCE: &str = "paramedic.dev/min-confidence";

/// A label or annotation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value:?} is {why}; until it is corrected it is only observed")]
pub struct Complaint {
    /// Its key.
    pub key: &'static str,
    /// Its value, at most 80 characters.
    pub value: String,
    /// What is expected instead.
    pub why: &'static str,
}

/// A port as its owner names it.
pub(super) enum Port {
    Number(u16),
    Name(String),
}

/// Reads settings by their keys, and collects what makes no sense.
pub(super) struct Settings<F> {
    find: F,
    pub(super) complaints: Vec<Complaint>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Settings<F> {
    pub(super) const fn new(find: F) -> Self {
        Self { find, complaints: Vec::new() }
    }

    fn complain(&mut self, key: &'static str, value: &str, why: &'static str) {
        let value = value.chars().take(80).collect();
        self.complaints.push(Complaint { key, value, why });
    }

    pub(super) fn rung(&mut self, consent: &str) -> Rung {
        Rung::from_name(consent).unwrap_or_else(|| {
            self.complain(HEAL_LABEL, consent, "none of observe, soft, restart, evict");
            Rung::Observe
        })
    }

    /// By number, or by a name that is among those known.
    pub(super) fn port(&mut self, is_name: impl Fn(&str) -> bool) -> Option<Port> {
        let text = (self.find)(PORT)?;
        if text.bytes().all(|b| b.is_ascii_digit()) {
            match text.parse() {
                Ok(number) if number > 0 => return Some(Port::Number(number)),
                _ => self.complain(PORT, text, "no port from 1 to 65535"),
            }
            return None;
        }
        if is_name(text) {
            return Some(Port::Name(text.to_owned()));
        }
        self.complain(PORT, text, "neither a number nor the name of a container's port");
        None
    }

    pub(super) fn health_path(&mut self) -> String {
        self.path(HEALTH_PATH, "/health")
    }

    pub(super) fn heal_path(&mut self) -> String {
        self.path(HEAL_PATH, "/heal")
    }

    fn path(&mut self, key: &'static str, default: &str) -> String {
        let Some(path) = (self.find)(key) else { return default.to_owned() };
        let fits = path.starts_with('/')
            && path.len() <= 1024
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if fits {
            return path.to_owned();
        }
        self.complain(key, path, "no path: it must begin with / and hold no spaces");
        default.to_owned()
    }

    pub(super) fn min_confidence(&mut self) -> f32 {
        const DEFAULT: f32 = 0.8;
        let Some(text) = (self.find)(MIN_CONFIDENCE) else { return DEFAULT };
        match text.parse() {
            Ok(p) if (0.5..=1.0).contains(&p) => p,
            _ => {
                self.complain(MIN_CONFIDENCE, text, "no number from 0.5 to 1");
                DEFAULT
            }
        }
    }
}
