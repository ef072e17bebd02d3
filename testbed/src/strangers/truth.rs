//! What the clients must have seen for an episode to count: a fault that did not happen proves
//! nothing, whatever the agent did.
use std::fmt;

use super::{ask::Given, clients::Request};

/// A kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// 2xx
    Well,
    Status(u16),
    /// No answer in time, or a broken connection.
    Unanswered,
    /// Any answer but 2xx, or none.
    Ill,
    /// Closed early by the client itself.
    Cut,
}

impl Seen {
    pub(super) fn is(self, given: Given) -> bool {
        match (self, given) {
            (Self::Well, Given::Status(status)) => (200..300).contains(&status),
            (Self::Status(wanted), Given::Status(status)) => wanted == status,
            (Self::Unanswered, Given::Silence | Given::Broken) | (Self::Cut, Given::Cut) => true,
            (Self::Ill, given) => given != Given::Cut && !Self::Well.is(given),
            _ => false,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("2xx"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Unanswered => f.write_str("no answer"),
            Self::Ill => f.write_str("anything but 2xx"),
            Self::Cut => f.write_str("cut off"),
        }
    }
}

/// The share of requests that must have this result, in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truth {
    pub(super) seen: Seen,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Truth {
    /// At least this percentage.
    pub(super) const fn of(seen: Seen, least: f64) -> Self {
        Self { seen, least, most: 100.0 }
    }

    pub(super) const fn between(seen: Seen, least: f64, most: f64) -> Self {
        Self { seen, least, most }
    }

    /// Whether it holds; `None` if there were too few requests to judge.
    pub(super) fn holds(&self, requests: &[Request], from: u64, to: u64) -> Option<bool> {
        let share = share(self.seen, requests, from, to)?;
        Some((self.least..=self.most).contains(&share))
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} % {}", self.least, self.most, self.seen)
    }
}

/// With fewer requests there is no judgement.
const FEW: usize = 8;

/// The percentage with this result, among the requests that began in this time and ended.
pub(super) fn share(seen: Seen, requests: &[Request], from: u64, to: u64) -> Option<f64> {
    let within: Vec<_> = requests.iter().filter(|r| (from..to).contains(&r.at)).collect();
    let such = within.iter().filter(|r| seen.is(r.given)).count();
    (within.len() >= FEW).then(|| such as f64 * 100.0 / within.len() as f64)
}

/// The results in this time, in words.
pub(super) fn summary(requests: &[Request], from: u64, to: u64) -> String {
    let within: Vec<_> = requests.iter().filter(|r| (from..to).contains(&r.at)).collect();
    let mut counts: Vec<(String, usize)> = Vec::new();
    for request in &within {
        let name = match request.given {
            Given::Status(status) => status.to_string(),
            Given::Silence => "no answer".to_owned(),
            Given::Broken => "broken off".to_owned(),
            Given::Cut => Seen::Cut.to_string(),
        };
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words: Vec<_> = counts.iter().map(|(name, count)| format!("{count} × {name}")).collect();
    if words.is_empty() { "no request".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(given: &[Given]) -> Vec<Request> {
        (0..).zip(given).map(|(at, &given)| Request { at, ended: at, given }).collect()
    }

    #[test]
    fn a_share_is_of_the_requests_of_its_time() {
        let (well, ill) = (Given::Status(204), Given::Status(502));
        let of = requests(&[[well; 10], [ill; 10]].concat());
        assert_eq!(share(Seen::Well, &of, 0, 10), Some(100.0));
        assert_eq!(share(Seen::Well, &of, 5, 15), Some(50.0));
        assert_eq!(Truth::of(Seen::Status(502), 90.0).holds(&of, 10, 20), Some(true));
        assert_eq!(Truth::between(Seen::Status(502), 1.0, 9.0).holds(&of, 10, 20), Some(false));
        assert_eq!(share(Seen::Well, &of, 0, 7), None, "too few");
        assert_eq!(summary(&of, 8, 14), "4 × 502, 2 × 204");
    }

    #[test]
    fn a_client_that_broke_off_was_not_left_unanswered() {
        assert!(Seen::Unanswered.is(Given::Silence) && Seen::Unanswered.is(Given::Broken));
        assert!(!Seen::Unanswered.is(Given::Cut) && !Seen::Well.is(Given::Cut));
        assert!(Seen::Ill.is(Given::Silence) && Seen::Ill.is(Given::Status(503)));
        assert!(!Seen::Ill.is(Given::Cut) && !Seen::Ill.is(Given::Status(204)));
    }
}
