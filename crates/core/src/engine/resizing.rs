//! The side track of resizing in place: what a sample means for it, and what its answers do.
use super::{Case, Command, Engine, Fact, Index, State};
use crate::{
    boot_time::BootTime,
    features::Feature,
    guard::Policy,
    resize::{Answer, Concluded, NoResize, Reason, Recalled, Seen, Step, Track, Wish, rule::waits},
    signal::Sample,
    target::{Remedy, Target},
};

/// News of a resize.
#[derive(Clone, Debug, PartialEq)]
pub enum Resizing {
    /// It was not done. `news` is false for repetitions.
    Refused {
        /// The journal's number, if it was intended.
        id: Option<i64>,
        /// What was wanted.
        wish: Wish,
        /// Why it was not done.
        no: NoResize,
        /// Whether this differs from the last refusal.
        news: bool,
    },
    /// The new limit was accepted.
    Given(Step),
    /// It was planned and, on purpose, not done.
    Withheld(Step),
    /// It has ended.
    Concluded(Concluded),
}

impl Case {
    /// A target has a side track if its owner permits it and the numbers of its cgroup are its own.
    pub(super) fn track_of(target: &Target) -> Option<Box<Track>> {
        let ceilings = target.settings.resize.filter(|_| !target.cgroups.shared)?;
        Some(Box::new(Track::new(ceilings)))
    }

    /// Its owner may have changed the settings.
    pub(super) fn keep_track(&mut self) {
        match (&mut self.resize, self.target.settings.resize) {
            (Some(track), Some(ceilings)) if !self.target.cgroups.shared => track.permit(ceilings),
            _ => self.resize = Self::track_of(&self.target),
        }
    }

    /// Ends what is verified of a resize, since `why`.
    pub(super) fn end_resize(&mut self, index: Index, why: &str, now: BootTime) -> Option<Command> {
        let ended = self.resize.as_mut()?.ended(why, now)?;
        Some(tell(index, Resizing::Concluded(ended)))
    }

    /// Its present state of resizing, for people; `None` if its owner does not permit it.
    #[must_use]
    pub fn resize_story(&self, now: BootTime) -> Option<String> {
        self.resize.as_ref().map(|track| track.story(now))
    }

    /// Whether a restart for a level alone has to wait for a resize.
    pub(super) fn resize_goes_first(&self, now: BootTime) -> bool {
        self.resize.as_ref().is_some_and(|track| track.goes_first(now))
    }

    /// What a sample shows of CPU and memory. A limit counts only together with a reading: what was
    /// not read is replaced by the machine's.
    fn seen(&self, sample: &Sample) -> Seen {
        let (window, usage) = (&self.instance.window, &sample.usage);
        let waiting = window.waiting_clients().filter(|_| window.sees_traffic());
        let cpu_limit = usage.cpu_limit.filter(|_| usage.cpu_usage_ns.is_some());
        let memory_limit = usage.memory_limit_bytes.filter(|_| usage.memory_bytes.is_some());
        let millicores = |cores: f32| (f64::from(cores) * 1000.0).round() as u64;
        Seen {
            at: sample.at,
            throttled: window.sees_throttling().then(|| self.row[Feature::CpuThrottledRatio]),
            waits: waiting.map(|waiting| {
                let (rate, late) = (Feature::HttpRequestRate, Feature::ResponseTime);
                waits(waiting.requests, self.row[rate], self.row[late])
            }),
            used: [window.cpu_used().map(millicores), usage.memory_bytes],
            limits: [cpu_limit.map(millicores), memory_limit],
        }
    }

    /// The gates of the node, in the order in which they are asked.
    fn may_resize(
        &self,
        wish: &Wish,
        policy: &Policy,
        node: (bool, bool),
        now: BootTime,
    ) -> Result<(), NoResize> {
        let (paused, journal_writable) = node;
        let permitted = self.target.settings.ceiling.min(policy.max_remedy) >= Remedy::Soft;
        let gates = [
            (!permitted, Reason::Mode),
            (!journal_writable, Reason::Journal),
            (paused, Reason::Paused),
            (self.not_now, Reason::Window),
        ];
        match gates.into_iter().find(|(refuses, _)| *refuses) {
            Some((_, reason)) => Err(reason.into()),
            None => self.resize.as_ref().map_or(Ok(()), |track| track.check(wish, now)),
        }
    }
}

impl Engine {
    /// What a sample means for the target's limits. While a restart or an eviction is under way they
    /// stay; a soft remedy may come to nothing before memory is full.
    pub(super) fn look_at_limits(
        &mut self,
        index: Index,
        sample: &Sample,
        now: BootTime,
        out: &mut Vec<Command>,
    ) {
        let node = self.switches();
        let Some(case) = self.cases[index].as_mut() else { return };
        let seen = case.seen(sample);
        let may_follow = match &case.state {
            State::Watching => true,
            State::Healing { .. } => false,
            State::Verifying { verification, .. } => !verification.remedy.is_hard(),
        };
        let Some(track) = case.resize.as_mut() else { return };
        let ended = track.see(seen, self.pace.verify_window);
        out.extend(ended.map(|ended| tell(index, Resizing::Concluded(ended))));
        let Some(wish) = track.wish().filter(|_| may_follow) else {
            track.at_rest();
            return;
        };
        let may = case.may_resize(&wish, &self.policy, node, now);
        let Some(track) = case.resize.as_mut() else { return };
        match may {
            Ok(()) => {
                track.ask(wish, now);
                out.push(Command::Resize(index, wish));
            }
            Err(no) => {
                let news = track.refuse(wish, no.clone(), now);
                out.push(tell(index, Resizing::Refused { id: None, wish, no, news }));
            }
        }
    }

    /// The answer to a wish.
    pub(super) fn resized(
        &mut self,
        index: Index,
        answer: &Answer,
        now: BootTime,
        out: &mut Vec<Command>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        let Some(track) = case.resize.as_mut() else {
            // Its owner has withdrawn the permission meanwhile.
            let ended = Concluded::unknown(answer, "its owner no longer permits it");
            out.extend(ended.map(|ended| tell(index, Resizing::Concluded(ended))));
            return;
        };
        let refused = track.answered(answer, now);
        let news = match answer {
            Answer::Given { step, .. } => Some(Resizing::Given(*step)),
            Answer::Withheld(step) => Some(Resizing::Withheld(*step)),
            Answer::Unknown { .. } => None,
            Answer::Refused { id, .. } => {
                refused.map(|(wish, no, news)| Resizing::Refused { id: *id, wish, no, news })
            }
        };
        out.extend(news.map(|news| tell(index, news)));
    }

    /// What an earlier agent process did to the target's limits.
    pub(super) fn recall_resize(&mut self, index: Index, recalled: &Recalled, now: BootTime) {
        let case = self.cases.get_mut(index).and_then(Option::as_mut);
        if let Some(track) = case.and_then(|case| case.resize.as_mut()) {
            track.recall(recalled, now);
        }
    }
}

pub(super) fn tell(index: Index, news: Resizing) -> Command {
    Command::Tell(index, Fact::Resizing(Box::new(news)))
}

#[cfg(test)]
mod tests;
