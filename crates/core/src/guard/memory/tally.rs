//! What a memory says, counted: how often each remedy helped against each symptom, and what the
//! guard concludes from it. For people; the guard itself asks [`Memory::futile`] and
//! [`Memory::helped`].
use super::{COMES_BACK, Memory, REMEMBERED, Symptom, Treatment};
use crate::{boot_time::BootTime, guard::refusal::Ago, target::Remedy, verify::Outcome};

/// The remembered treatments of a workload by one remedy against one symptom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The symptom.
    pub symptom: Symptom,
    /// The remedy.
    pub remedy: Remedy,
    /// How often it was applied and its outcome is known.
    pub tried: u32,
    /// How often it helped, and the symptom stayed away for [`COMES_BACK`].
    pub helped: u32,
    /// How often it helped, and the symptom was treated again within that time.
    pub came_back: u32,
    /// Time of the last of these outcomes.
    pub last: BootTime,
    /// What the guard concludes, if anything.
    pub follows: Option<Follows>,
}

/// What the guard concludes from a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// The remedy goes first against this symptom, within the ceiling.
    GoesFirst,
    /// It is refused against this symptom until then: it did not help.
    FutileUntil(BootTime),
    /// It is refused if the symptom is back before then: it only hid the cause.
    FutileIfBackBefore(BootTime),
}

impl Tally {
    /// The tally as a sentence.
    fn told(&self, now: BootTime) -> String {
        let Self { symptom, remedy, tried, helped, came_back, follows, .. } = self;
        let (remedy, symptom) = (remedy.name(), symptom.name());
        let follows = match follows {
            None => String::new(),
            Some(Follows::GoesFirst) => ": it goes first".to_owned(),
            Some(Follows::FutileUntil(at)) => {
                format!(": it is futile for another {}", Ago(at.since(now)))
            }
            Some(Follows::FutileIfBackBefore(at)) => {
                format!(": it is futile if that is back within {}", Ago(at.since(now)))
            }
        };
        format!(
            "{remedy} against {symptom} helped {helped} of {tried} times, came back {came_back}{follows}"
        )
    }
}

impl Memory {
    /// Counts the treatments that are still remembered, by symptom and remedy.
    #[must_use]
    pub fn tallies(&self, now: BootTime) -> Vec<Tally> {
        let mut tallies: Vec<Tally> = Vec::new();
        for (n, treatment) in self.treatments.iter().enumerate() {
            if !treatment.counts(now) {
                continue;
            }
            let Treatment { remedy, symptom, outcome, at, .. } = *treatment;
            let known = tallies.iter().position(|t| (t.symptom, t.remedy) == (symptom, remedy));
            let known = known.unwrap_or_else(|| {
                let follows = self.follows(remedy, symptom, now);
                let (tried, helped, came_back, last) = (0, 0, 0, at);
                tallies.push(Tally { symptom, remedy, tried, helped, came_back, last, follows });
                tallies.len() - 1
            });
            let tally = &mut tallies[known];
            tally.tried += 1;
            tally.last = tally.last.max(at);
            if outcome == Outcome::Healed {
                let back = self.treatments[n + 1..].iter().any(|later| later.follows_up(treatment));
                *(if back { &mut tally.came_back } else { &mut tally.helped }) += 1;
            }
        }
        tallies.sort_by_key(|tally| (tally.symptom.name(), tally.remedy));
        tallies
    }

    /// The same in sentences.
    #[must_use]
    pub fn told(&self, now: BootTime) -> Vec<String> {
        self.tallies(now).iter().map(|tally| tally.told(now)).collect()
    }

    /// What the guard would conclude if the symptom appeared now.
    fn follows(&self, remedy: Remedy, symptom: Symptom, now: BootTime) -> Option<Follows> {
        if self.helped(symptom, now, now) == Some(remedy) {
            return Some(Follows::GoesFirst);
        }
        let last = self.last(remedy, symptom, now)?;
        self.futile(remedy, symptom, now, now).filter(|_| remedy.is_hard()).map(|_| {
            match last.outcome {
                Outcome::Healed => Follows::FutileIfBackBefore(last.at + COMES_BACK),
                _ => Follows::FutileUntil(last.at + REMEMBERED),
            }
        })
    }
}

impl Treatment {
    /// Whether it was for the return of a symptom that `earlier` had cured. One that had begun
    /// before was for another replica.
    fn follows_up(&self, earlier: &Self) -> bool {
        self.symptom == earlier.symptom
            && self.began >= earlier.at
            && self.began.since(earlier.at) < COMES_BACK
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guard::memory::tests::{at, memory};

    const ERRORS: Symptom = Symptom::Errors;

    fn tally(of: &Memory, remedy: Remedy, now: u64) -> Option<Tally> {
        of.tallies(at(now)).into_iter().find(|tally| tally.remedy == remedy)
    }

    fn counts(tally: Option<Tally>) -> (u32, u32, u32) {
        tally.map(|tally| (tally.tried, tally.helped, tally.came_back)).unwrap_or_default()
    }

    #[test]
    fn outcomes_are_counted_by_remedy_and_symptom() {
        let memory = memory(&[
            (Remedy::Soft, ERRORS, Outcome::Healed, 0),
            (Remedy::Soft, ERRORS, Outcome::NotHealed, 60),
            (Remedy::Restart, ERRORS, Outcome::Healed, 61),
            (Remedy::Restart, Symptom::Silence, Outcome::Worse, 90),
        ]);
        assert_eq!(counts(tally(&memory, Remedy::Soft, 91)), (2, 1, 0));
        let names = memory.tallies(at(91));
        let names: Vec<_> = names.iter().map(|t| (t.symptom.name(), t.remedy, t.last)).collect();
        let expected = [
            ("errors", Remedy::Soft, at(60)),
            ("errors", Remedy::Restart, at(61)),
            ("silence", Remedy::Restart, at(90)),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn an_outcome_that_tells_nothing_is_not_counted() {
        let memory = memory(&[
            (Remedy::Soft, ERRORS, Outcome::Failed, 0),
            (Remedy::Restart, ERRORS, Outcome::Unverified, 1),
        ]);
        assert_eq!(memory.tallies(at(2)), []);
    }

    #[test]
    fn a_symptom_that_is_treated_again_within_ten_minutes_came_back() {
        let soft = |minutes| (Remedy::Soft, ERRORS, Outcome::Healed, minutes);
        let memory = memory(&[soft(0), soft(9), soft(30)]);
        assert_eq!(counts(tally(&memory, Remedy::Soft, 31)), (3, 2, 1));
    }

    /// Two replicas that are sick at the same time are treated one after the other.
    #[test]
    fn a_treatment_that_had_begun_before_the_outcome_is_no_return() {
        let mut memory = memory(&[(Remedy::Soft, ERRORS, Outcome::Healed, 1)]);
        let (began, ended) = (at(0), at(2));
        let (remedy, outcome) = (Remedy::Soft, Outcome::Healed);
        memory.push(Treatment { remedy, symptom: ERRORS, outcome, began, at: ended });
        assert_eq!(counts(tally(&memory, Remedy::Soft, 3)), (2, 2, 0));
    }

    #[test]
    fn what_follows_is_what_the_guard_does() {
        let failed = memory(&[(Remedy::Restart, ERRORS, Outcome::NotHealed, 0)]);
        let follows = |of: &Memory, remedy, now| tally(of, remedy, now).and_then(|t| t.follows);
        let until = at(0) + REMEMBERED;
        assert_eq!(follows(&failed, Remedy::Restart, 60), Some(Follows::FutileUntil(until)));

        let healed = memory(&[(Remedy::Restart, ERRORS, Outcome::Healed, 0)]);
        let before = at(0) + COMES_BACK;
        let soon = follows(&healed, Remedy::Restart, 5);
        assert_eq!(soon, Some(Follows::FutileIfBackBefore(before)));
        assert_eq!(follows(&healed, Remedy::Restart, 11), None, "it stayed away");

        let climbed = memory(&[
            (Remedy::Soft, ERRORS, Outcome::NotHealed, 0),
            (Remedy::Restart, ERRORS, Outcome::Healed, 1),
        ]);
        assert_eq!(follows(&climbed, Remedy::Restart, 20), Some(Follows::GoesFirst));
        assert_eq!(follows(&climbed, Remedy::Soft, 20), None, "a reset is never futile");
    }

    #[test]
    fn a_tally_is_told_with_what_follows() {
        let failed = memory(&[(Remedy::Restart, ERRORS, Outcome::NotHealed, 0)]);
        let told = |minutes| tally(&failed, Remedy::Restart, minutes).unwrap().told(at(minutes));
        assert_eq!(
            told(60),
            "restart against errors helped 0 of 1 times, came back 0: it is futile for another 23 h"
        );
    }

    #[test]
    fn after_a_day_nothing_is_left_to_count() {
        let memory = memory(&[(Remedy::Restart, ERRORS, Outcome::NotHealed, 0)]);
        let minutes = REMEMBERED.as_secs() / 60;
        assert_eq!(counts(tally(&memory, Remedy::Restart, minutes - 1)), (1, 0, 0));
        assert_eq!(memory.tallies(at(minutes)), []);
        assert_eq!(REMEMBERED, Duration::from_secs(86_400));
    }
}
