//! What is known of one instance of a target. The next instance starts with nothing of it.
use std::time::Duration;

use super::{case::ASK_LIMIT, pace::TargetPace};
use crate::{
    boot_time::BootTime,
    features::{Blind, FailsSinceStart, Sight, Window},
    guard::Evidence,
    health::{Heard, Word},
    signal::{HostFacts, Polled, Sample, Trigger},
};

/// A remedy needs an examination of the host that is no older.
const HOST_FRESH: Duration = Duration::from_secs(3);
/// Delay from the first sample that calls for an action to the second.
const FIRST_CONFIRM: Duration = Duration::from_millis(100);
/// Delay between later ones: four samples then span 400 ms, which a hard remedy requires.
const LATER_CONFIRM: Duration = Duration::from_millis(150);

/// After so many good polls in a row, the kernel's view of its traffic may replace some.
const TRUSTED: u32 = 5;

/// One run of a target.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) window: Window,
    pub(super) evidence: Evidence,
    pub(super) pace: TargetPace,
    /// Result of the last poll.
    pub(super) health: Option<Word>,
    /// Why the kernel does not see its traffic, if that was reported.
    pub(super) blind: Option<Blind>,
    /// What the host showed at the last confirming sample.
    pub(super) host: Option<Box<HostFacts>>,
    /// When that was.
    host_at: Option<BootTime>,
    /// Whether it has said that it does not offer its soft remedy.
    pub(super) no_soft: bool,
    /// Whether it started while the agent was watching.
    watched_from_start: bool,
    /// Whether the kubelet calls it ready; `None` without a kubelet.
    kubelet_ready: Option<bool>,
    /// Consecutive polls that the app answered well, and when the last one of all was.
    well_polls: u32,
    polled_at: Option<BootTime>,
    /// Whether the last sample cast doubt on what the last poll said.
    pub(super) doubted: bool,
    /// Whether a sample is in progress.
    pub(super) sampling: bool,
    /// Number of samples that confirmed the present symptom.
    confirms: u32,
    /// Start of the cluster check in progress.
    asking: Option<BootTime>,
}

impl Instance {
    /// An instance that was just found.
    pub(super) fn new(watched_from_start: bool) -> Self {
        Self {
            window: Window::new(),
            evidence: Evidence::default(),
            pace: TargetPace::default(),
            health: None,
            blind: None,
            host: None,
            host_at: None,
            no_soft: false,
            watched_from_start,
            kubelet_ready: None,
            well_polls: 0,
            polled_at: None,
            doubted: true,
            sampling: false,
            confirms: 0,
            asking: None,
        }
    }

    /// The next instance of the target. The result of a sample in progress will be ignored.
    pub(super) fn successor(&self) -> Self {
        Self { kubelet_ready: self.kubelet_ready.map(|_| false), ..Self::new(true) }
    }

    /// Its process has ended.
    pub(super) fn ended(&mut self) {
        self.sampling = false;
        self.asking = None;
        self.window = Window::new();
        self.clear_evidence();
    }

    pub(super) const fn kubelet_says(&mut self, ready: bool) {
        self.kubelet_ready = Some(ready);
    }

    /// Whether a cluster check is in progress; one that takes too long is lost.
    pub(super) fn is_asking(&self, now: BootTime) -> bool {
        self.asking.is_some_and(|since| now.since(since) < ASK_LIMIT)
    }

    pub(super) const fn begin_asking(&mut self, now: BootTime) {
        self.asking = Some(now);
    }

    /// The cluster has answered; returns whether it was asked.
    pub(super) fn end_asking(&mut self) -> bool {
        self.asking.take().is_some()
    }

    /// What was observed before a remedy says nothing about the time after it.
    pub(super) fn clear_evidence(&mut self) {
        self.evidence.clear();
        self.confirms = 0;
    }

    /// Whether it has shown that it serves, by a response other than a 5xx to a poll or, as the
    /// kernel saw, to others. `silent`: the agent sends it no HTTP.
    pub(super) fn is_ready(&self, silent: bool) -> bool {
        let unheard = silent && self.kubelet_ready.is_none();
        self.window.service().has_served() || unheard || self.kubelet_ready == Some(true)
    }

    /// Whether something shows that it is well, as opposed to nothing showing that it is sick.
    pub(super) fn is_alive(&self) -> bool {
        self.window.service().speaks_well() || self.window.good_responses() > 0
    }

    /// If the agent did not see the instance start, errors at the beginning of its traffic prove
    /// nothing. If it can be neither polled nor seen, nothing shows that it never served.
    pub(super) fn fails_since_start(&self, shows: bool, silent: bool) -> FailsSinceStart {
        let fails = self.window.service().fails_since_start();
        FailsSinceStart {
            never_served: fails.never_served && shows && !self.is_ready(silent),
            only_errors: fails.only_errors && self.watched_from_start,
        }
    }

    /// Stores the health check of a sample; returns what is new. `tls`: the target speaks TLS;
    /// `probed`: and opted in to having its responses counted there.
    pub(super) fn hear(
        &mut self,
        sample: &Sample,
        tls: bool,
        probed: bool,
    ) -> (Option<Word>, Option<Blind>) {
        let mut news = false;
        match &sample.poll {
            Polled::Now(poll) => {
                let word = Word::of(poll);
                news = self.health.as_ref().is_none_or(|before| word.is_news(before));
                self.health = Some(word);
            }
            Polled::LastStands => {}
            Polled::Never => self.health = None,
        }
        let mut blind = self.window.blind();
        if tls && (blind.is_some() || !probed) {
            blind = Some(Blind::Tls);
        }
        if tls && probed && self.window.sees_traffic() {
            // Its library was found late.
            self.blind = None;
        }
        let blind_news = blind.filter(|_| self.blind.is_none());
        self.blind = blind.or(self.blind);
        (self.health.clone().filter(|_| news), blind_news)
    }

    /// Counts the polls that were answered well.
    pub(super) fn polled(&mut self, sample: &Sample) {
        let Polled::Now(poll) = &sample.poll else { return };
        self.polled_at = Some(sample.at);
        let answers = matches!(poll.heard(), Heard::Well | Heard::Unreadable);
        self.well_polls = if answers { self.well_polls.saturating_add(1) } else { 0 };
    }

    /// Whether the kernel's view of its traffic may replace some polls.
    pub(super) fn is_trusted(&self) -> bool {
        self.well_polls >= TRUSTED && self.window.sees_traffic() && self.window.answers_clients()
    }

    /// Whether a sample must poll. `apart`: how far apart polls are that nothing casts doubt on, if that
    /// is further than regular samples.
    pub(super) fn must_poll(
        &self,
        now: BootTime,
        trigger: Trigger,
        apart: Option<Duration>,
    ) -> bool {
        let may_wait = !self.doubted && trigger == Trigger::Tick;
        let last = self.polled_at.zip(apart).filter(|_| may_wait);
        last.is_none_or(|(at, apart)| now.since(at) >= apart)
    }

    /// The facts that are not in the row.
    pub(super) fn sight(&self) -> Sight {
        Sight {
            unavailable_rate: self.window.unavailable_rate(),
            stopped: self.window.service().is_stopped(),
            stuck: self.window.service().is_stuck_in_the_kernel(),
            silent: self.window.silent_to_clients().unwrap_or_default().as_secs_f32(),
            answers_well: self.window.good_responses() > 0,
            answers_polls: !matches!(
                self.window.service().heard(),
                None | Some(Heard::Silent | Heard::NotAsked)
            ),
        }
    }

    pub(super) const fn is_confirming(&self) -> bool {
        self.confirms > 0
    }

    /// Stores what the host showed at a sample.
    pub(super) fn examined(&mut self, sample: &Sample) {
        self.host.clone_from(&sample.host);
        self.host_at = Some(sample.at);
    }

    /// Whether the host was asked of late: what it shows may refuse a remedy.
    pub(super) fn is_examined(&self, now: BootTime) -> bool {
        self.host_at.is_some_and(|at| now.since(at) <= HOST_FRESH)
    }

    /// The next sample confirms or refutes the last one.
    pub(super) const fn confirm_delay(&mut self) -> Duration {
        self.confirms = self.confirms.saturating_add(1);
        if self.confirms == 1 { FIRST_CONFIRM } else { LATER_CONFIRM }
    }

    /// Nothing is left to confirm.
    pub(super) const fn end_confirming(&mut self) {
        self.confirms = 0;
    }
}
