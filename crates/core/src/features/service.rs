//! [`Service`]: whether one instance serves, according to its polls and its responses to other
//! clients.
//!
//! Silence, and an app's report that it is sick, count against it from the first poll on, by time
//! and not by number. Unreadable responses, blamed dependencies and intended states do not.
use crate::{
    health::{BUDGET, Heard, Poll},
    moment::Moment,
};

/// So many errors at the beginning of an instance's traffic, and nothing else, are how it began.
const BEGAN: u64 = 5;

/// What is known of an instance since it was watched first; a remedy makes it forget only what it
/// is to cure.
#[derive(Debug, Default)]
pub struct Service {
    heard: Option<Heard>,
    /// Whether a poll was ever answered within [`BUDGET`], and how many in a row were not since.
    was_prompt: bool,
    late: u32,
    /// When the first of the polls that failed in a row began.
    failing_since: Option<Moment>,
    responded: bool,
    /// Whether the app ever said that it is well.
    spoke_well: bool,
    /// Whether it ever answered anybody with anything but a 5xx.
    served: bool,
    /// Whether others than the agent ever got such an answer, and how many of its own 5xx they got
    /// before.
    served_others: bool,
    first_errors: u64,
    well_at: Option<Moment>,
    /// Requests of its own that waited for an answer when it was last seen well.
    waiting_when_well: u64,
}

/// What an instance never did, as long as it was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailsSinceStart {
    /// It never answered anything but a 5xx, the agent included.
    pub never_served: bool,
    /// Its traffic began with errors, and there was nothing else since.
    pub only_errors: bool,
}

/// What came to pass between two looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers {
    /// When the second look was.
    pub(super) at: Moment,
    /// Whether it answered the agent with anything but a 5xx.
    pub(super) to_agent: bool,
    /// Its answers to others: good ones, and 5xx of its own.
    pub(super) good: u64,
    pub(super) errors: u64,
    /// Whether there was an error of its own within the window, which looks may divide finely.
    pub(super) recent_error: bool,
    /// Requests of its own that wait for an answer.
    pub(super) waiting: u64,
}

impl Service {
    /// Takes in one poll.
    pub(super) fn take_poll(&mut self, poll: &Poll) {
        let heard = poll.heard();
        self.heard = Some(heard);
        self.responded |= poll.responses.iter().any(|n| *n > 0);
        self.spoke_well |= self.speaks_well();
        let fails = match heard {
            // Of an instance that never answered it is no news: it may speak another protocol.
            Heard::Silent => self.responded,
            // Before it ever said anything better, it may be a path that means something else.
            Heard::Ill => self.spoke_well,
            Heard::Well
            | Heard::Warns
            | Heard::Blames
            | Heard::NotNow
            | Heard::Unreadable
            | Heard::NotAsked => false,
        };
        self.take_time(poll, heard, fails);
        if fails {
            self.failing_since.get_or_insert(poll.at);
        } else {
            self.failing_since = None;
        }
    }

    /// An answer that comes late is an answer, and tells all the same: of an instance that once was
    /// prompt. One whose health check always took long is only slow.
    fn take_time(&mut self, poll: &Poll, heard: Heard, fails: bool) {
        let answered = !matches!(heard, Heard::Silent | Heard::NotAsked);
        let prompt = answered && poll.latency <= BUDGET;
        self.was_prompt |= prompt;
        let late = answered && !prompt && self.was_prompt && heard != Heard::Unreadable;
        self.late = if fails || late { self.late.saturating_add(1) } else { 0 };
    }

    /// The look brought no poll.
    pub(super) const fn not_polled(&mut self) {
        self.heard = None;
    }

    /// Takes in how it answered.
    pub(super) fn take_answers(&mut self, answers: &Answers) {
        let Answers { at, good, errors, recent_error, waiting, .. } = *answers;
        let answered = answers.to_agent || self.speaks_well();
        if !self.served_others {
            self.first_errors += errors;
        }
        self.served |= answered || good > 0;
        self.served_others |= good > 0;
        let no_complaint =
            matches!(self.heard, None | Some(Heard::Well | Heard::Warns | Heard::Unreadable));
        if no_complaint && !recent_error && (answered || good > 0) {
            self.well_at = Some(at);
            self.waiting_when_well = waiting;
        }
    }

    /// Polls that failed count no more: after a remedy, and after one that did not fail.
    pub(super) const fn forgive(&mut self) {
        self.failing_since = None;
        self.late = 0;
    }

    /// Polls in a row that failed, or were answered later than they once were.
    pub(super) const fn failures_or_late(&self) -> u32 {
        self.late
    }

    /// When the first of the polls that failed in a row began.
    pub(super) const fn failing_since(&self) -> Option<Moment> {
        self.failing_since
    }

    /// Requests of its own that waited for an answer when it was last seen well.
    pub(super) const fn waiting_when_well(&self) -> u64 {
        self.waiting_when_well
    }

    /// What it never did.
    #[must_use]
    pub const fn fails_since_start(&self) -> FailsSinceStart {
        FailsSinceStart {
            never_served: !self.served,
            only_errors: !self.served_others && self.first_errors >= BEGAN,
        }
    }

    /// When it was last seen well.
    #[must_use]
    pub const fn well_at(&self) -> Option<Moment> {
        self.well_at
    }

    /// Whether it ever answered anything but a 5xx.
    #[must_use]
    pub const fn has_served(&self) -> bool {
        self.served
    }

    /// Whether it ever answered a poll with anything at all, a 404 included.
    #[must_use]
    pub const fn has_responded(&self) -> bool {
        self.responded
    }

    /// Whether at the last look the app said that it is well, or at least that it serves.
    #[must_use]
    pub const fn speaks_well(&self) -> bool {
        matches!(self.heard, Some(Heard::Well | Heard::Warns))
    }

    /// What the last poll came to.
    #[must_use]
    pub const fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// Whether the last poll failed.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }
}
