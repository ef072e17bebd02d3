//! What is worth telling people, and what belongs together.
//!
//! A target has at most one problem at a time. Its first bad news opens the problem and gives it a
//! key, later news updates it, and the end closes it: a remedy that helped, or five minutes in which
//! the target was well. A remedy that helps before anybody was told of a problem is told once, for
//! information. What repeats within ten minutes is counted and not told.
//!
//! Pure: it takes facts and the time, and returns notifications.
mod known;
mod resizes;
mod words;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use paramedic_core::{
    boot_time::BootTime,
    guard::{Gate, Refusal},
    target::{ChannelNames, Obstacle, Remedy, Target, consent::NOTIFY},
    verify::Outcome,
};
use paramedic_record::journal::{Change, Problem};

use self::{
    known::Known,
    words::{advice_of, concerns_people, occasion_of, outcome_of, summary_of, without_links},
};
use crate::{
    notification::{Notification, Occasion, Phase, Severity, VERSION, plain},
    signature::digest,
};

/// After a start, how long a target with an open problem may take to be found again.
const UNSEEN_FOR: Duration = Duration::from_secs(600);
/// Maximum lengths, in characters.
const MAX_NAME: usize = 200;
const MAX_SEEN: usize = 400;
const MAX_STEP: usize = 160;
const MAX_OUTCOME: usize = 400;

/// The uid under which the node's own problem is kept; no target has it.
const NODE: &str = "";

/// The present time on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On the node's boot clock, for calculations.
    pub now: BootTime,
    /// In seconds since 1970, for display.
    pub unix_s: i64,
}

/// The end of a treatment.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The journal's number of the incident, if it has one.
    pub incident: Option<i64>,
    /// The remedy.
    pub remedy: Remedy,
    /// Its outcome.
    pub outcome: Outcome,
    /// Time since the remedy was applied.
    pub took: Duration,
    /// The error, if there was one.
    pub detail: Option<&'a str>,
    /// Whether every permitted remedy was tried now.
    pub exhausted: bool,
}

/// A notification, who gets it, and what it does to the open problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// The notification.
    pub notification: Notification,
    /// The named channels that get it too; those without a name get all.
    pub to: ChannelNames,
    /// For the journal.
    pub change: Change,
}

/// The memory of what people were told.
#[derive(Debug)]
pub struct Teller {
    node: String,
    /// The names that channels have.
    named: ChannelNames,
    /// The open problems by uid.
    problems: HashMap<String, Problem>,
    cases: HashMap<String, Known>,
    /// Targets of earlier agent processes that were not found again yet, and until when they may be.
    unseen: HashSet<String>,
    unseen_until: Option<BootTime>,
}

/// What a notification says, beside its problem.
struct News<'a> {
    occasion: Occasion,
    summary: String,
    outcome: String,
    advice: String,
    incident: Option<i64>,
    target: &'a Target,
}

impl Teller {
    /// With the names that channels have, and the problems that earlier agent processes have told of
    /// and that have not ended.
    #[must_use]
    pub fn new(node: &str, named: ChannelNames, open: Vec<Problem>) -> Self {
        let unseen = open.iter().map(|problem| problem.uid.clone()).filter(|uid| uid != NODE);
        Self {
            node: plain(node, MAX_NAME),
            named,
            unseen: unseen.collect(),
            problems: open.into_iter().map(|problem| (problem.uid.clone(), problem)).collect(),
            cases: HashMap::new(),
            unseen_until: None,
        }
    }

    /// A remedy is about to be applied, for what was `seen`.
    pub fn treats(&mut self, target: &Target, seen: &str, at: Moment) {
        self.known(target).treats(plain(seen, MAX_SEEN), at.unix_s);
    }

    /// A treatment has ended.
    pub fn concluded(&mut self, target: &Target, end: &Ended<'_>, at: Moment) -> Option<Telling> {
        let (remedy, outcome) = (target.settings.called(end.remedy), end.outcome.name());
        let detail = end.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        let step = format!("{remedy}: {outcome} after {} s{detail}", end.took.as_secs());
        let began = self.known(target).treated(plain(&step, MAX_STEP));
        let occasion = occasion_of(end);
        let news = News {
            occasion,
            summary: summary_of(occasion, target, end.remedy),
            outcome: format!("{}{detail}", outcome_of(occasion)),
            advice: advice_of(occasion, target, end.remedy),
            incident: end.incident,
            target,
        };
        match occasion {
            Occasion::Healed => self.healed(news, began.unwrap_or(at.unix_s), at),
            _ => self.trouble(news, began.unwrap_or(at.unix_s), at),
        }
    }

    /// A remedy was refused, for what was `seen`.
    pub fn refused(
        &mut self,
        target: &Target,
        remedy: Remedy,
        refusal: &Refusal,
        seen: impl FnOnce() -> String,
        at: Moment,
    ) -> Option<Telling> {
        // Of a quarantine people were told when it began.
        let is_kept = target.no_evict == Some(Obstacle::InQuarantine);
        if is_kept || !concerns_people(refusal.gate) || self.was_told(target, refusal.gate) {
            return None;
        }
        let known = self.known(target);
        let lasted = known.refused(refusal.gate, at.now)?;
        known.seen = plain(&seen(), MAX_SEEN);
        let (remedy, gate) = (target.settings.called(remedy), refusal.gate.name());
        let minutes = lasted.as_secs() / 60;
        let name = plain(&target.name, MAX_NAME);
        let news = News {
            occasion: Occasion::Refused,
            summary: match refusal.gate {
                Gate::Approval => format!("{name}: a remedy ({remedy}) waits for approval"),
                _ => format!("{name}: not healed for {minutes} min, the gate {gate} refuses"),
            },
            outcome: format!("{remedy} is refused by the gate {gate}: {}", refusal.why),
            advice: without_links(refusal.gate.advice()),
            incident: None,
            target,
        };
        let since = at.unix_s.saturating_sub(i64::try_from(lasted.as_secs()).unwrap_or(0));
        self.trouble(news, since, at)
    }

    /// A sample was judged.
    pub fn decided(&mut self, target: &Target, well: bool, at: Moment) -> Option<Telling> {
        self.unseen.remove(&target.id.uid);
        if !self.problems.contains_key(&target.id.uid) {
            return None;
        }
        if !self.known(target).is_well_again(well, at.now) {
            return None;
        }
        self.ends(target, Occasion::WellAgain, at)
    }

    /// A target is no longer watched.
    pub fn removed(&mut self, target: &Target, at: Moment) -> Option<Telling> {
        self.unseen.remove(&target.id.uid);
        let told = self.ends(target, Occasion::Gone, at);
        self.cases.remove(&target.id.uid);
        told
    }

    /// The state of the node's switch. Call it again and again: it also ends the problems of targets
    /// that an earlier agent process watched and that do not come back.
    pub fn switch(&mut self, paused: bool, at: Moment) -> Vec<Telling> {
        let mut told = self.give_up_unseen(at);
        let was_paused = self.problems.contains_key(NODE);
        if paused != was_paused {
            told.push(self.switched(paused, at));
        }
        told
    }

    fn switched(&mut self, paused: bool, at: Moment) -> Telling {
        let (occasion, phase) = match paused {
            true => (Occasion::Paused, Phase::Trigger),
            false => (Occasion::Resumed, Phase::Resolve),
        };
        let problem = match self.problems.remove(NODE) {
            Some(problem) => problem,
            None => self.problem(NODE, at.unix_s),
        };
        let to = problem.channels.clone();
        let change = if paused {
            self.problems.insert(NODE.to_owned(), problem.clone());
            Change::Opens(problem.clone())
        } else {
            Change::Closes(problem.key.clone())
        };
        let (what, outcome, advice) = match paused {
            true => (
                "is paused",
                "the agent watches and applies no remedy",
                "remove the file `paused` from the agent's state directory to resume",
            ),
            false => ("is resumed", "the agent applies remedies again", "nothing"),
        };
        let notification = Notification {
            summary: format!("node {}: healing {what}", self.node),
            outcome: outcome.to_owned(),
            advice: advice.to_owned(),
            ..self.blank(occasion, phase, &problem, at)
        };
        Telling { notification, to, change }
    }

    fn give_up_unseen(&mut self, at: Moment) -> Vec<Telling> {
        let until = *self.unseen_until.get_or_insert(at.now + UNSEEN_FOR);
        if self.unseen.is_empty() || at.now < until {
            return Vec::new();
        }
        let mut told = Vec::new();
        for uid in std::mem::take(&mut self.unseen) {
            let Some(problem) = self.problems.remove(&uid) else { continue };
            let name = plain(&uid, MAX_NAME);
            let notification = Notification {
                summary: format!("{name}: no longer watched"),
                target: name,
                outcome: "it was not found again after the agent's restart".to_owned(),
                advice: "nothing".to_owned(),
                ..self.blank(Occasion::Gone, Phase::Resolve, &problem, at)
            };
            let change = Change::Closes(problem.key);
            told.push(Telling { notification, to: problem.channels, change });
        }
        told
    }

    /// A remedy helped: the end of the problem, or news for information.
    fn healed(&mut self, news: News<'_>, began: i64, at: Moment) -> Option<Telling> {
        let uid = news.target.id.uid.clone();
        let telling = match self.problems.remove(&uid) {
            Some(problem) => {
                let problem = widened(problem, news.target);
                let change = Change::Closes(problem.key.clone());
                Some((Phase::Resolve, problem, change, 0))
            }
            None => {
                let problem = widened(self.problem(&uid, began), news.target);
                let left_out = self.known(news.target).may_tell(Occasion::Healed, at.now);
                left_out.map(|left_out| (Phase::Info, problem, Change::Nothing, left_out))
            }
        };
        let telling = telling.map(|(phase, problem, change, left_out)| {
            self.tells(news, phase, &problem, change, left_out, at)
        });
        if let Some(known) = self.cases.get_mut(&uid) {
            known.healed();
        }
        telling
    }

    /// Bad news: opens a problem or updates the open one.
    fn trouble(&mut self, news: News<'_>, since: i64, at: Moment) -> Option<Telling> {
        let uid = news.target.id.uid.clone();
        let open = self.problems.get(&uid).cloned();
        let is_new = open.is_none();
        let left_out = self.known(news.target).may_tell(news.occasion, at.now);
        // The first one of a problem is always told: its end will be.
        let left_out = if is_new { left_out.unwrap_or_default() } else { left_out? };
        let problem = open.unwrap_or_else(|| self.problem(&uid, since));
        let problem = widened(problem, news.target);
        self.problems.insert(uid, problem.clone());
        let change = Change::Opens(problem.clone());
        Some(self.tells(news, Phase::Trigger, &problem, change, left_out, at))
    }

    /// The problem of a target ends without a remedy.
    fn ends(&mut self, target: &Target, occasion: Occasion, at: Moment) -> Option<Telling> {
        let problem = widened(self.problems.remove(&target.id.uid)?, target);
        let news = News {
            occasion,
            summary: summary_of(occasion, target, Remedy::Observe),
            outcome: outcome_of(occasion).to_owned(),
            advice: advice_of(occasion, target, Remedy::Observe),
            incident: None,
            target,
        };
        let change = Change::Closes(problem.key.clone());
        let told = self.tells(news, Phase::Resolve, &problem, change, 0, at);
        if let Some(known) = self.cases.get_mut(&target.id.uid) {
            *known = Known::default();
        }
        Some(told)
    }

    fn tells(
        &self,
        news: News<'_>,
        phase: Phase,
        problem: &Problem,
        change: Change,
        left_out: u32,
        at: Moment,
    ) -> Telling {
        let known = self.cases.get(&news.target.id.uid);
        let notification = Notification {
            target: plain(&news.target.name, MAX_NAME),
            incident: news.incident,
            summary: news.summary,
            seen: known.map(|known| known.seen.clone()).unwrap_or_default(),
            done: known.map(|known| known.done.clone()).unwrap_or_default(),
            outcome: plain(&news.outcome, MAX_OUTCOME),
            advice: self.advice(news.advice, news.target),
            left_out,
            ..self.blank(news.occasion, phase, problem, at)
        };
        Telling { notification, to: problem.channels.clone(), change }
    }

    /// The advice, with a warning if the target names a channel that this agent does not have.
    fn advice(&self, advice: String, target: &Target) -> String {
        let unknown = target.settings.notify.without(&self.named);
        if unknown.is_empty() {
            return advice;
        }
        format!("{advice}; {NOTIFY} names {unknown}, and no channel of this agent has that name")
    }

    fn blank(
        &self,
        occasion: Occasion,
        phase: Phase,
        problem: &Problem,
        at: Moment,
    ) -> Notification {
        Notification {
            version: VERSION,
            key: problem.key.clone(),
            event: occasion,
            phase,
            severity: Severity::of(occasion),
            node: self.node.clone(),
            target: String::new(),
            incident: None,
            summary: String::new(),
            seen: String::new(),
            done: Vec::new(),
            outcome: String::new(),
            advice: String::new(),
            left_out: 0,
            since: problem.since,
            at: at.unix_s,
        }
    }

    fn problem(&self, uid: &str, since: i64) -> Problem {
        let digest = digest(&[&self.node, uid, &since.to_string()]);
        let key = format!("paramedic-{}", &digest[..32]);
        Problem { key, uid: uid.to_owned(), since, channels: ChannelNames::default() }
    }

    fn known(&mut self, target: &Target) -> &mut Known {
        let uid = &target.id.uid;
        self.unseen.remove(uid);
        self.cases.entry(uid.clone()).or_default()
    }

    /// Whether people know already why this gate refuses.
    fn was_told(&self, target: &Target, gate: Gate) -> bool {
        let uid = &target.id.uid;
        let is_exhausted = || {
            let known = self.cases.get(uid);
            self.problems.contains_key(uid) && known.is_some_and(Known::is_exhausted)
        };
        match gate {
            Gate::Paused => self.problems.contains_key(NODE),
            Gate::Exhausted => is_exhausted(),
            _ => false,
        }
    }
}

/// The problem, with the channels that its target names now added. The earlier ones stay, so that they get
/// its end.
fn widened(mut problem: Problem, target: &Target) -> Problem {
    problem.channels.join(&target.settings.notify);
    problem
}

#[cfg(test)]
mod tests;
