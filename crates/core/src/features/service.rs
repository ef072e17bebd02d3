//! [`Service`]: whether one instance serves, according to its polls and its responses to other
//! clients.
//!
//! Silence, and an app's report that it is sick, count against it from the first poll on, by time
//! and not by number. Unreadable responses, blamed dependencies and intended states do not.
use std::time::Duration;

use crate::{
    boot_time::BootTime,
    health::{BUDGET, Heard, Poll},
    signal::ProcessState,
};

/// An instance fails since its start if its traffic began with at least this many errors and
/// nothing else.
const BEGAN: u64 = 5;

/// A process that waits for a disk in every sample for this long is stuck.
const STUCK: Duration = Duration::from_secs(5);

/// What is known of an instance since it was first watched. A remedy clears only what it is meant
/// to repair.
#[derive(Debug, Default)]
pub struct Service {
    heard: Option<Heard>,
    /// Whether a poll was ever answered within [`BUDGET`], and how many in a row were not since.
    was_prompt: bool,
    late: u32,
    /// Start of the first of the polls that failed in a row.
    failing_since: Option<BootTime>,
    responded: bool,
    /// Whether the app ever reported that it is well.
    spoke_well: bool,
    /// Whether it ever gave any client a response other than a 5xx.
    served: bool,
    /// Whether it ever gave a client other than the agent such a response, and how many own 5xx it
    /// sent before.
    served_others: bool,
    first_errors: u64,
    well_at: Option<BootTime>,
    /// Its own requests without a response when it was last seen well.
    waiting_when_well: u64,
    /// The last sample's state of the main process, and since when it is the same.
    process: Option<(ProcessState, BootTime)>,
    sampled_at: BootTime,
}

/// What an instance has never done while it was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailsSinceStart {
    /// It never gave any response but a 5xx, not even to the agent.
    pub never_served: bool,
    /// Its traffic began with errors, and there was nothing else since.
    pub only_errors: bool,
}

/// The responses between two samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers {
    /// Time of the second sample.
    pub(super) at: BootTime,
    /// Whether it gave the agent a response other than a 5xx.
    pub(super) to_agent: bool,
    /// Whether the app reported in this sample that it is well.
    pub(super) says_well: bool,
    /// Its responses to other clients: good ones, and own 5xx.
    pub(super) good: u64,
    pub(super) errors: u64,
    /// Whether it sent an own error within the window, which may contain many samples.
    pub(super) recent_error: bool,
    /// Its own requests without a response.
    pub(super) waiting: u64,
}

impl Service {
    /// Takes the state of the main process, before the poll of the same sample.
    pub(super) fn take_process(&mut self, state: Option<ProcessState>, at: BootTime) {
        self.sampled_at = at;
        self.process = state.map(|state| match self.process {
            Some((before, since)) if before == state => (state, since),
            _ => (state, at),
        });
    }

    /// Takes one poll.
    pub(super) fn take_poll(&mut self, poll: &Poll) {
        let heard = poll.heard();
        self.heard = Some(heard);
        self.responded |= poll.responses.iter().any(|n| *n > 0);
        self.spoke_well |= self.speaks_well();
        let fails = match heard {
            // A poll is not a failure if the instance never answered one: it may use another
            // protocol.
            Heard::Silent => self.responded || self.is_stopped(),
            // Before the path ever gave a better response, it may be one with another meaning.
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

    /// A late response counts as a failure only if the instance once was prompt, and its content
    /// counts all the same. An instance whose health check was always slow is only slow.
    fn take_time(&mut self, poll: &Poll, heard: Heard, fails: bool) {
        let answered = !matches!(heard, Heard::Silent | Heard::NotAsked);
        let prompt = answered && poll.latency <= BUDGET;
        self.was_prompt |= prompt;
        let late = answered && !prompt && self.was_prompt && heard != Heard::Unreadable;
        self.late = if fails || late { self.late.saturating_add(1) } else { 0 };
    }

    /// The sample had no poll. A stopped process would not have answered one.
    pub(super) fn not_polled(&mut self, at: BootTime) {
        self.heard = None;
        if self.is_stopped() {
            self.heard = Some(Heard::Silent);
            self.failing_since.get_or_insert(at);
            self.late = self.late.saturating_add(1);
        } else if self.process.is_some() {
            self.forgive();
        }
    }

    /// Takes the responses of a sample.
    pub(super) fn take_answers(&mut self, answers: &Answers) {
        let Answers { at, good, errors, recent_error, waiting, .. } = *answers;
        let answered = answers.to_agent || answers.says_well;
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

    /// Clears failed polls: after a remedy, and after a poll that did not fail.
    pub(super) const fn forgive(&mut self) {
        self.failing_since = None;
        self.late = 0;
    }

    /// Consecutive polls that failed, or were answered later than they once were.
    pub(super) const fn failures_or_late(&self) -> u32 {
        self.late
    }

    /// Start of the first of the polls that failed in a row.
    pub(super) const fn failing_since(&self) -> Option<BootTime> {
        self.failing_since
    }

    /// Its own requests without a response when it was last seen well.
    pub(super) const fn waiting_when_well(&self) -> u64 {
        self.waiting_when_well
    }

    /// What it has never done.
    #[must_use]
    pub const fn fails_since_start(&self) -> FailsSinceStart {
        FailsSinceStart {
            // A process that was stopped by a signal has run before.
            never_served: !self.served && !self.is_stopped(),
            only_errors: !self.served_others && self.first_errors >= BEGAN,
        }
    }

    /// When it was last seen well.
    #[must_use]
    pub const fn well_at(&self) -> Option<BootTime> {
        self.well_at
    }

    /// Whether it ever gave a response other than a 5xx.
    #[must_use]
    pub const fn has_served(&self) -> bool {
        self.served
    }

    /// Whether a signal has stopped its main process.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        matches!(self.process, Some((ProcessState::Stopped, _)))
    }

    /// Whether its main process is seen to run.
    #[must_use]
    pub const fn runs(&self) -> bool {
        matches!(self.process, Some((ProcessState::Active, _)))
    }

    /// Whether its main process has waited in the kernel, and taken no signal, for some seconds.
    #[must_use]
    pub fn is_stuck_in_the_kernel(&self) -> bool {
        let Some((ProcessState::Uninterruptible, since)) = self.process else { return false };
        self.sampled_at.since(since) >= STUCK
    }

    /// Whether it ever answered a poll with any response, even a 404.
    #[must_use]
    pub const fn has_responded(&self) -> bool {
        self.responded
    }

    /// Whether the app reported at the last sample that it is well, or at least that it serves.
    #[must_use]
    pub const fn speaks_well(&self) -> bool {
        matches!(self.heard, Some(Heard::Well | Heard::Warns))
    }

    /// The result of the last poll.
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
