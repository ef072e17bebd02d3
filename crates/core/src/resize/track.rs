//! What is in progress for one target: asked, being verified, refused, or nothing.
use std::time::Duration;

use super::{
    Answer, Ceilings, Direction, NoResize, Reason, ResizeOutcome, Resource, Seen, Step, Wish,
    rule::{Rule, Stress},
};
use crate::boot_time::BootTime;

/// Minimum time between two steps.
const COOLDOWN: Duration = Duration::from_secs(60);
/// The same after a step that did not help, or did not come.
const IN_VAIN: Duration = Duration::from_secs(300);
/// An answer that takes longer is lost: each request has a shorter time limit of its own.
const ASK_LIMIT: Duration = Duration::from_secs(90);
/// The cgroup must have the new limit within this time.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long a restart for a level alone waits for the rule to come to a conclusion.
const GOES_FIRST: Duration = Duration::from_secs(120);
/// A resize that was tried does not hold a restart up again within this time.
const TRIED: Duration = Duration::from_secs(600);
/// The kernel rounds a quota to microseconds per period, and memory down to a page, which may be as
/// large as this.
const CPU_ROUNDING: u64 = 1;
const MEMORY_ROUNDING: u64 = 65_536;

/// An earlier resize, from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// Its number in the journal.
    pub id: i64,
    /// The step.
    pub step: Step,
    /// Whether it has no outcome yet: an agent died in between.
    pub open: bool,
}

/// A resize that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concluded {
    /// The journal's number, if it has one.
    pub id: Option<i64>,
    /// The step.
    pub step: Step,
    /// Its outcome.
    pub outcome: ResizeOutcome,
    /// Time since the new limit was accepted.
    pub took: Duration,
    /// What was seen, if that is not plain.
    pub detail: Option<String>,
}

impl Concluded {
    /// What was done, or may have been, and can no longer be verified.
    #[must_use]
    pub fn unknown(answer: &Answer, why: &str) -> Option<Self> {
        let (id, step) = match answer {
            Answer::Given { id, step } | Answer::Unknown { id, step, .. } => (*id, *step),
            Answer::Withheld(_) | Answer::Refused { .. } => return None,
        };
        let (outcome, detail) = (ResizeOutcome::Unverified, Some(why.to_owned()));
        Some(Self { id, step, outcome, took: Duration::ZERO, detail })
    }
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    /// The cluster or the engine was asked.
    Asked(Wish, BootTime),
    Verifying(Verifying),
}

#[derive(Clone, Debug)]
struct Verifying {
    id: Option<i64>,
    step: Step,
    began: BootTime,
    /// When the cgroup showed the new limit.
    shown: Option<BootTime>,
    /// Why it may never have been accepted.
    doubt: Option<String>,
}

/// The last refusal about a resource.
#[derive(Clone, Debug)]
struct Refused {
    wish: Wish,
    no: NoResize,
    until: BootTime,
}

/// The side track of one target.
#[derive(Debug)]
pub struct Track {
    ceilings: Ceilings,
    rule: Rule,
    state: State,
    /// By resource.
    refused: [Option<Refused>; 2],
    /// By resource: the last step of the agent, until the limit is the owner's own again.
    last: [Option<Step>; 2],
    tried: [Option<BootTime>; 2],
    not_before: BootTime,
    /// Since when a level that a resize might lower has shown.
    near_since: Option<BootTime>,
    /// By resource: the last refusal that was told.
    told: [Option<(Direction, Reason)>; 2],
}

impl Track {
    /// Of a target that was just found.
    #[must_use]
    pub fn new(ceilings: Ceilings) -> Self {
        Self {
            ceilings,
            rule: Rule::default(),
            state: State::Idle,
            refused: [const { None }; 2],
            last: [None; 2],
            tried: [None; 2],
            not_before: BootTime::default(),
            near_since: None,
            told: [None; 2],
        }
    }

    /// What its owner permits.
    #[must_use]
    pub const fn ceilings(&self) -> &Ceilings {
        &self.ceilings
    }

    /// Its owner permits something else: refusals are asked anew.
    pub fn permit(&mut self, ceilings: Ceilings) {
        if self.ceilings != ceilings {
            self.ceilings = ceilings;
            self.refused = [const { None }; 2];
        }
    }

    /// The instance has ended, or is no longer watched: what was seen of it does not count any more.
    /// Returns a resize whose outcome can no longer be known.
    pub fn ended(&mut self, why: &str, now: BootTime) -> Option<Concluded> {
        self.rule = Rule::default();
        self.near_since = None;
        let State::Verifying(verifying) = &self.state else { return None };
        let ended = verifying.concluded(ResizeOutcome::Unverified, Some(why.to_owned()), now);
        self.state = State::Idle;
        Some(ended)
    }

    /// Takes a sample; returns a resize that has ended. A new limit must have had its effect for
    /// `window`.
    pub fn see(&mut self, seen: Seen, window: Duration) -> Option<Concluded> {
        self.rule.see(seen);
        let nears = Resource::ALL.into_iter().any(|resource| self.may_help(resource));
        self.near_since = self.near_since.filter(|_| nears).or(nears.then_some(seen.at));
        if let State::Asked(wish, since) = self.state
            && seen.at.since(since) >= ASK_LIMIT
        {
            self.state = State::Idle;
            self.refuse(wish, NoResize::new(Reason::ApiServer, "the answer was lost"), seen.at);
        }
        self.judge(&seen, window)
    }

    fn judge(&mut self, seen: &Seen, window: Duration) -> Option<Concluded> {
        let State::Verifying(verifying) = &mut self.state else { return None };
        let now = seen.at;
        let Verifying { step, began, .. } = *verifying;
        let is_shown = shows(seen, &step);
        if verifying.shown.is_none() && is_shown {
            verifying.shown = Some(now);
            verifying.doubt = None;
            self.rule.begin_anew();
            return None;
        }
        let ended = match verifying.shown {
            None if now.since(began) < SHOWN_WITHIN => return None,
            None => {
                let limit = seen.limits[step.resource.index()];
                let has = limit.map_or_else(|| "none".to_owned(), |n| step.resource.text(n));
                let doubt = verifying.doubt.clone().map(|why| format!("; {why}"));
                let detail = format!("its cgroup has {has}{}", doubt.unwrap_or_default());
                verifying.concluded(ResizeOutcome::Failed, Some(detail), now)
            }
            Some(_) if !is_shown && seen.limits[step.resource.index()].is_some() => {
                let detail = "somebody else has changed its limit again".to_owned();
                verifying.concluded(ResizeOutcome::Unverified, Some(detail), now)
            }
            Some(shown) if now.since(shown) < window => return None,
            Some(_) if self.rule.shows(step.resource) => {
                let detail = match step.resource {
                    Resource::Cpu => "it is still throttled",
                    Resource::Memory => "its memory is nearly full again",
                };
                verifying.concluded(ResizeOutcome::NotHealed, Some(detail.to_owned()), now)
            }
            Some(_) => verifying.concluded(ResizeOutcome::Healed, None, now),
        };
        self.conclude(&ended, now);
        Some(ended)
    }

    fn conclude(&mut self, ended: &Concluded, now: BootTime) {
        let at = ended.step.resource.index();
        self.state = State::Idle;
        let wait = match ended.outcome {
            ResizeOutcome::Healed => COOLDOWN,
            _ => IN_VAIN,
        };
        self.not_before = self.not_before.max(now + wait);
        self.tried[at] = Some(now);
        if ended.step.to <= ended.step.base && ended.outcome == ResizeOutcome::Healed {
            self.last[at] = None;
        }
    }

    /// What the rule wants now, if nothing is in progress: memory first, because its end is near, and
    /// only then what can be given back. What was refused does not hold up the others.
    #[must_use]
    pub fn wish(&self) -> Option<Wish> {
        if !matches!(self.state, State::Idle) {
            return None;
        }
        let permitted = |resource: &Resource| self.ceilings.of(*resource).is_some();
        let order = || [Resource::Memory, Resource::Cpu].into_iter().filter(permitted);
        let up = order().filter_map(|resource| self.more(resource));
        let down = order().filter_map(|resource| self.less(resource));
        let all: Vec<Wish> = up.chain(down).collect();
        let now = self.rule.last().at;
        let open = all.iter().find(|wish| self.standing(wish, now).is_none());
        open.or(all.first()).copied()
    }

    fn more(&self, resource: Resource) -> Option<Wish> {
        let short = matches!(self.rule.stress(resource), Stress::Yes | Stress::Unseen);
        let used = self.rule.last().used[resource.index()].unwrap_or_default();
        short.then(|| self.wished(resource, Direction::Up, used))
    }

    fn less(&self, resource: Resource) -> Option<Wish> {
        self.last[resource.index()]?;
        let peak = self.rule.quiet(resource)?;
        Some(self.wished(resource, Direction::Down, peak))
    }

    fn wished(&self, resource: Resource, direction: Direction, used: u64) -> Wish {
        let at = resource.index();
        let limit = self.rule.last().limits[at];
        Wish { resource, direction, used, limit, last: self.last[at] }
    }

    /// Why the wish must wait, as far as this target alone knows.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self, wish: &Wish, now: BootTime) -> Result<(), NoResize> {
        if wish.direction == Direction::Up && self.rule.stress(wish.resource) == Stress::Unseen {
            return Err(Reason::Unseen.into());
        }
        if let Some(no) = self.standing(wish, now) {
            return Err(no.clone());
        }
        if now < self.not_before {
            let left = self.not_before.since(now).as_secs_f64().ceil();
            return Err(NoResize::new(Reason::Cooldown, format!("{left:.0} s are left")));
        }
        Ok(())
    }

    /// A refusal of the same wish that still stands.
    fn standing(&self, wish: &Wish, now: BootTime) -> Option<&NoResize> {
        let refused = self.refused[wish.resource.index()].as_ref()?;
        let same = refused.wish.direction == wish.direction && now < refused.until;
        same.then_some(&refused.no)
    }

    /// The wish goes to the cluster or the engine.
    pub fn ask(&mut self, wish: Wish, now: BootTime) {
        self.state = State::Asked(wish, now);
        self.told[wish.resource.index()] = None;
    }

    /// A refusal: remembered for a while. Returns whether it is news.
    pub fn refuse(&mut self, wish: Wish, no: NoResize, now: BootTime) -> bool {
        let told = (wish.direction, no.reason);
        let until = now + no.reason.wait();
        let place = &mut self.refused[wish.resource.index()];
        // What lasts is not forgotten for what passes.
        let stands = |before: &Refused| now < before.until;
        let keeps = |before: &Refused| stands(before) && (before.no == no || before.until >= until);
        if !place.as_ref().is_some_and(keeps) {
            *place = Some(Refused { wish, until, no });
        }
        self.told[wish.resource.index()].replace(told) != Some(told)
    }

    /// The answer to the wish. Returns the refusal with the wish and whether it is news, if it is one.
    pub fn answered(&mut self, answer: &Answer, now: BootTime) -> Option<(Wish, NoResize, bool)> {
        let asked = match self.state {
            State::Asked(wish, _) => Some(wish),
            _ => None,
        };
        match answer {
            // Also if the answer came too late to be expected: something was done.
            Answer::Given { id, step } => self.verify(*id, *step, None, now),
            Answer::Unknown { id, step, why } => self.verify(*id, *step, Some(why.clone()), now),
            Answer::Withheld(step) => {
                self.state = State::Idle;
                let (at, direction) = (step.resource.index(), step.direction());
                self.tried[at] = Some(now);
                let no = NoResize::new(Reason::Cooldown, "it was advised");
                self.told[at] = Some((direction, no.reason));
                let wish = self.wished(step.resource, direction, 0);
                self.refused[at] = Some(Refused { wish, no, until: now + TRIED });
            }
            Answer::Refused { no, .. } => {
                let wish = asked?;
                self.state = State::Idle;
                if no.reason == Reason::AtTemplate {
                    self.last[wish.resource.index()] = None;
                }
                let news = self.refuse(wish, no.clone(), now);
                return Some((wish, no.clone(), news));
            }
        }
        None
    }

    fn verify(&mut self, id: Option<i64>, step: Step, doubt: Option<String>, now: BootTime) {
        self.last[step.resource.index()] = Some(step);
        self.not_before = now + COOLDOWN;
        self.state = State::Verifying(Verifying { id, step, began: now, shown: None, doubt });
    }

    /// An earlier agent process did this. One without an outcome counts as done, and is verified.
    pub fn recall(&mut self, recalled: &Recalled, now: BootTime) {
        let Recalled { id, step, open } = *recalled;
        self.last[step.resource.index()] = (step.to != step.base || open).then_some(step);
        self.not_before = now + COOLDOWN;
        if open {
            let doubt = "an earlier agent process intended it".to_owned();
            self.verify(Some(id), step, Some(doubt), now);
        }
    }

    /// Whether more of this resource may end what nears: nobody has refused it, and it was not tried
    /// in vain.
    fn may_help(&self, resource: Resource) -> bool {
        let at = resource.index();
        let now = self.rule.last().at;
        let refused = self.refused[at].as_ref().is_some_and(|refused| {
            refused.wish.direction == Direction::Up
                && now < refused.until
                && !refused.no.reason.passes()
        });
        let tried = self.tried[at].is_some_and(|tried| now.since(tried) < TRIED);
        self.ceilings.of(resource).is_some() && self.rule.nears(resource) && !refused && !tried
    }

    /// Whether a restart for a level alone has to wait: a resize is in progress, or may come within
    /// two minutes.
    #[must_use]
    pub fn goes_first(&self, now: BootTime) -> bool {
        !matches!(self.state, State::Idle)
            || self.near_since.is_some_and(|since| now.since(since) < GOES_FIRST)
    }

    /// Nothing is wanted: the next refusal is news.
    pub const fn at_rest(&mut self) {
        self.told = [None; 2];
    }

    /// Its present state in one sentence, for people.
    #[must_use]
    pub fn story(&self, now: BootTime) -> String {
        let mut parts = vec![format!("up to {}", self.ceilings)];
        for step in self.last.iter().flatten() {
            let own = step.resource.text(step.base);
            parts.push(format!("last {step} (its owner's: {own})"));
        }
        match &self.state {
            State::Idle => {}
            State::Asked(wish, _) => parts.push(format!("{wish}: asked")),
            State::Verifying(Verifying { step, shown: None, .. }) => {
                parts.push(format!("{step}: not in its cgroup yet"));
            }
            State::Verifying(Verifying { step, .. }) => parts.push(format!("{step}: verifying")),
        }
        let told = self.told.iter().zip(&self.refused).filter(|(told, _)| told.is_some());
        for refused in told.filter_map(|(_, refused)| refused.as_ref()) {
            if now < refused.until {
                parts.push(format!(
                    "{} refused ({}): {}",
                    refused.wish,
                    refused.no.reason.name(),
                    refused.no
                ));
            }
        }
        parts.join("; ")
    }
}

impl Verifying {
    fn concluded(
        &self,
        outcome: ResizeOutcome,
        detail: Option<String>,
        now: BootTime,
    ) -> Concluded {
        let took = now.since(self.began);
        Concluded { id: self.id, step: self.step, outcome, took, detail }
    }
}

/// Whether the cgroup has the new limit.
fn shows(seen: &Seen, step: &Step) -> bool {
    let rounding = match step.resource {
        Resource::Cpu => CPU_ROUNDING,
        Resource::Memory => MEMORY_ROUNDING,
    };
    let limit = seen.limits[step.resource.index()];
    limit.is_some_and(|limit| limit.abs_diff(step.to) <= rounding)
}
