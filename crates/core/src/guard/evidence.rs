//! The last few samples of one target, and the evidence that they give together.
use std::time::Duration;

use super::Why;
use crate::{boot_time::BootTime, decide::Action};

/// The verdict of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Time of the sample.
    pub at: BootTime,
    /// The action of the decision.
    pub action: Action,
    /// Whether this sample polled `/health` itself, with any result.
    pub polled: bool,
}

/// Maximum number of samples behind a hard remedy.
const KEPT: usize = 4;
/// Of the last three samples, this many must call for an action before a soft remedy.
const SOFT_AGREE: u8 = 2;
const SOFT_OF: usize = 3;
/// Of the last four, this many before a hard one.
const HARD_AGREE: u8 = 3;
/// Minimum time from the first to the last agreeing sample, for a hard remedy.
const HARD_SPAN: Duration = Duration::from_millis(400);
/// Fresh polls among the agreeing samples, for a hard remedy.
const HARD_POLLS: u8 = 2;

/// The last four samples, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    observations: [Option<Observation>; KEPT],
}

impl Evidence {
    /// Adds one sample.
    pub fn push(&mut self, observation: Observation) {
        self.observations.rotate_left(1);
        self.observations[KEPT - 1] = Some(observation);
    }

    /// Clears all samples: after a remedy, and for a new instance.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The samples, newest first.
    fn newest(&self) -> impl Iterator<Item = &Observation> {
        self.observations.iter().rev().flatten()
    }

    /// `None` if the evidence suffices for a soft remedy: two of the last three samples call for an
    /// action.
    #[must_use]
    pub fn soft(&self) -> Option<Why> {
        let agree = self
            .newest()
            .take(SOFT_OF)
            .filter(|observation| observation.action > Action::NoAction)
            .fold(0, |n, _| n + 1);
        (agree < SOFT_AGREE).then_some(Why::TooFewLooks(agree, SOFT_AGREE))
    }

    /// `None` if the evidence suffices for a hard remedy: three of the last four samples call for
    /// `least` or more, span at least 400 ms and have at least two fresh polls.
    #[must_use]
    pub fn hard(&self, least: Action) -> Option<Why> {
        let mut agree = 0;
        let mut polls = 0;
        let mut span: Option<(BootTime, BootTime)> = None;
        for observation in self.newest().filter(|observation| observation.action >= least) {
            agree += 1;
            polls += u8::from(observation.polled);
            span = Some((observation.at, span.map_or(observation.at, |(_, last)| last)));
        }
        if agree < HARD_AGREE {
            return Some(Why::TooFewLooks(agree, HARD_AGREE));
        }
        if span.is_none_or(|(first, last)| last.since(first) < HARD_SPAN) {
            return Some(Why::TooShort);
        }
        (polls < HARD_POLLS).then_some(Why::NoFreshPoll)
    }
}
