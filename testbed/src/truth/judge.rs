//! What should have been counted of what a client was given, and whether it was.
//!
//! The rules are written out here once more, from the meaning of the statuses and codes: they must
//! not come from the code that is tested.
use serde::Deserialize;

use super::{case::Case, counts::Counts};

/// What a client has asked for and was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Given {
    requests: u64,
    /// Status of a response's head, and the code of gRPC in it.
    heads: Vec<(u16, Option<u8>)>,
    /// Codes in trailers.
    trailers: Vec<u8>,
    /// Codes of which the client cannot tell whether they came with a head (of a 200) or in trailers
    /// behind one.
    either: Vec<u8>,
}

/// All, and the part that a proxy was asked to pass on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Record {
    pub(super) all: Given,
    passed: Given,
}

/// Whether a code of gRPC is a server's fault, and if so, whether of the kind of 503 and 504.
const fn fault(code: u8) -> Option<bool> {
    match code {
        // UNKNOWN, UNIMPLEMENTED, INTERNAL, DATA_LOSS
        2 | 12 | 13 | 15 => Some(false),
        // DEADLINE_EXCEEDED, UNAVAILABLE
        4 | 14 => Some(true),
        _ => None,
    }
}

impl Given {
    /// Its counts; codes that may have come either way as if they came with heads.
    fn counts(&self) -> Counts {
        let mut counts = Counts { requests: self.requests, ..Counts::default() };
        let either = self.either.iter().map(|&code| (200, Some(code)));
        for (status, code) in self.heads.iter().copied().chain(either) {
            let (class, unavailable) = match code.and_then(fault) {
                Some(unavailable) => (4, unavailable),
                None => (usize::from(status / 100).saturating_sub(1), matches!(status, 502..=504)),
            };
            if let Some(count) = counts.responses.get_mut(class) {
                *count += 1;
            }
            counts.unavailable += u64::from(unavailable);
        }
        for unavailable in self.trailers.iter().copied().filter_map(fault) {
            counts.responses[4] += 1;
            counts.in_trailers += 1;
            counts.unavailable += u64::from(unavailable);
        }
        counts
    }

    /// Responses that say that who asked is not accepted.
    fn denied(&self) -> u64 {
        self.heads.iter().filter(|(status, _)| matches!(status, 401 | 403 | 407)).count() as u64
    }

    /// Faults that may have been counted late.
    fn maybe_late(&self) -> u64 {
        self.either.iter().filter(|&&code| fault(code).is_some()).count() as u64
    }
}

impl Record {
    /// What should have been counted.
    pub(super) fn counts(&self) -> Counts {
        let passed = self.passed.counts();
        let interim = passed.responses[0];
        let responses: u64 = passed.responses.iter().sum();
        Counts {
            upstream_requests: passed.requests,
            // Of a fault that comes late the response was counted before.
            upstream_responses: responses - interim - passed.in_trailers,
            upstream_5xx: passed.responses[4],
            upstream_denied: self.passed.denied(),
            ..self.all.counts()
        }
    }
}

/// What was counted wrongly; empty if nothing was.
pub(super) fn judge(case: Case, record: &Record, counted: &Counts) -> Vec<String> {
    let mut given = record.counts();
    // Those that came late have a head of their own.
    let late = counted.in_trailers.saturating_sub(given.in_trailers);
    let late = late.min(record.all.maybe_late());
    given.in_trailers += late;
    given.responses[1] += late;
    if case.unwatched().is_some() {
        let mut wrong = in_the_middle(record, &given, counted);
        let (faults, counted) = (given.responses[4], counted.responses[4]);
        if case == Case::Fails && counted < faults {
            wrong.push(format!("5xx: {counted} counted, {faults} given"));
        }
        return wrong;
    }
    let pairs = given.fields().into_iter().zip(counted.fields());
    pairs
        .filter(|(given, counted)| given != counted)
        .map(|((name, given), (_, counted))| format!("{name}: {counted} counted, {given} given"))
        .collect()
}

/// Nothing that was not given, and each response that is missing is unknown.
fn in_the_middle(record: &Record, given: &Counts, counted: &Counts) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((name, given), (_, counted)) in given.fields().into_iter().zip(counted.fields()) {
        let is_missing = matches!(name, "unknown" | "not understood");
        if counted > given && !is_missing {
            wrong.push(format!("{name}: {counted} counted, {given} given"));
        }
    }
    let all = |counts: &Counts| counts.responses.iter().sum::<u64>();
    let missing = all(given).saturating_sub(all(counted));
    if missing > counted.unknown {
        wrong.push(format!("{missing} responses are missing, {} are unknown", counted.unknown));
    }
    // A response is unknown at most twice: by its head, and by its trailers.
    let most = 2 * (record.all.heads.len() + record.all.either.len()) as u64;
    if counted.unknown > most {
        wrong.push(format!("{} are unknown of at most {most}", counted.unknown));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(all: Given) -> Record {
        Record { all, passed: Given::default() }
    }

    fn of_heads(heads: &[(u16, Option<u8>)]) -> Given {
        Given { requests: heads.len() as u64, heads: heads.to_vec(), ..Given::default() }
    }

    #[test]
    fn statuses_and_codes_are_counted_by_whose_fault_they_are() {
        let mut given =
            of_heads(&[(100, None), (200, None), (304, None), (503, None), (200, Some(13))]);
        given.trailers = vec![0, 5, 14];
        let counts = record(given.clone()).counts();
        assert_eq!(counts.responses, [1, 1, 1, 0, 3]);
        assert_eq!((counts.unavailable, counts.in_trailers), (2, 1));
        assert_eq!((counts.upstream_requests, counts.upstream_5xx), (0, 0));
        let counts = Record { all: given.clone(), passed: given }.counts();
        assert_eq!((counts.upstream_requests, counts.upstream_responses), (5, 4));
        assert_eq!(counts.upstream_5xx, 3);
    }

    #[test]
    fn every_count_must_be_what_was_given() {
        let record = record(of_heads(&[(200, None), (500, None)]));
        let right = record.counts();
        assert!(judge(Case::Mix, &record, &right).is_empty());
        let mut wrong = right;
        wrong.responses[1] = 0;
        wrong.unknown = 1;
        let said = judge(Case::Mix, &record, &wrong);
        assert_eq!(said, ["2xx: 0 counted, 1 given", "unknown: 1 counted, 0 given"]);
        assert!(judge(Case::Mid, &record, &wrong).is_empty());
        wrong.unknown = 0;
        assert_eq!(judge(Case::Mid, &record, &wrong).len(), 1, "missing without a word");
        wrong.responses[4] = 2;
        assert_eq!(judge(Case::Mid, &record, &wrong), ["5xx: 2 counted, 1 given"]);
        (wrong.responses[4], wrong.unknown) = (0, 2);
        assert!(judge(Case::Mid, &record, &wrong).is_empty());
        assert_eq!(judge(Case::Fails, &record, &wrong), ["5xx: 0 counted, 1 given"]);
    }

    #[test]
    fn a_fault_is_late_if_its_head_was_counted_too() {
        let given = Given { requests: 2, either: vec![13, 0], ..Given::default() };
        let record = record(given);
        let mut counted = record.counts();
        assert_eq!(counted.responses, [0, 1, 0, 0, 1]);
        assert!(judge(Case::Codes, &record, &counted).is_empty());
        counted.in_trailers = 1;
        assert!(!judge(Case::Codes, &record, &counted).is_empty(), "no head before it");
        counted.responses[1] = 2;
        assert!(judge(Case::Codes, &record, &counted).is_empty());
        counted.in_trailers = 2;
        assert!(!judge(Case::Codes, &record, &counted).is_empty(), "only one is a fault");
    }
}
