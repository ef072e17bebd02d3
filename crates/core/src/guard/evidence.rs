//! The last few samples of one target, and the evidence that they give together.
use std::time::Duration;

use super::Why;
use crate::{decide::Action, moment::Moment};

/// The verdict of one look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// When.
    pub at: Moment,
    /// What the decision called for.
    pub action: Action,
    /// Whether this look polled `/health` itself, with whatever result.
    pub polled: bool,
}

/// Looks that a hard heal rests on, at the most.
const KEPT: usize = 4;
/// Of the last three looks, this many must call for an action before a soft heal.
const SOFT_AGREE: u8 = 2;
const SOFT_OF: usize = 3;
/// Of the last four, this many before a hard one.
const HARD_AGREE: u8 = 3;
/// Least time from the first to the last look that agrees, for a hard heal.
const HARD_SPAN: Duration = Duration::from_millis(400);
/// Fresh polls among the looks that agree, for a hard heal.
const HARD_POLLS: u8 = 2;

/// The last four looks, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    looks: [Option<Look>; KEPT],
}

impl Evidence {
    /// Takes in one look.
    pub fn push(&mut self, look: Look) {
        self.looks.rotate_left(1);
        self.looks[KEPT - 1] = Some(look);
    }

    /// Forgets all looks: after a heal, and for a new instance.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks, newest first.
    fn newest(&self) -> impl Iterator<Item = &Look> {
        self.looks.iter().rev().flatten()
    }

    /// `None` if a soft heal is supported: two of the last three looks call for an action.
    #[must_use]
    pub fn soft(&self) -> Option<Why> {
        let agree = self
            .newest()
            .take(SOFT_OF)
            .filter(|look| look.action > Action::NoAction)
            .fold(0, |n, _| n + 1);
        (agree < SOFT_AGREE).then_some(Why::TooFewLooks(agree, SOFT_AGREE))
    }

    /// `None` if a hard heal is supported: three of the last four looks call for `least` or more,
    /// span at least 400 ms and bring at least two fresh polls.
    #[must_use]
    pub fn hard(&self, least: Action) -> Option<Why> {
        let mut agree = 0;
        let mut polls = 0;
        let mut span: Option<(Moment, Moment)> = None;
        for look in self.newest().filter(|look| look.action >= least) {
            agree += 1;
            polls += u8::from(look.polled);
            span = Some((look.at, span.map_or(look.at, |(_, last)| last)));
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
