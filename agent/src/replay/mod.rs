//! Replays a recorded trace with the same engine: what would have been done, when, and why.
//!
//! The engine is pure, so its events are all that a replay needs. Under the model and policy of the
//! recording it does what it did then, with the recorded outcomes. Under others it is a dry run: a
//! remedy is reported and has no effect, the cluster refuses nothing, and samples come at the
//! recorded times. A recording can only answer which remedy would have come first, not what would
//! have happened afterwards.
mod summary;

use std::{collections::BTreeMap, sync::Arc};

pub use summary::{ByMemory, Deed, Summary};

use paramedic_core::{
    boot_time::BootTime,
    decide::{Action, Classifier, Decision},
    engine::{Command, Engine, Event, Fact, Index, Intent, Pace, Preferred},
    features::FeatureVector,
    guard::{Policy, Refusal},
    signal::Trigger,
    target::{Remedy, Target},
    verify::Outcome,
};
use paramedic_record::trace::{Header, Line, TraceError, What};

/// What to change against the recording.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// Another model decides.
    pub other_model: bool,
    /// Owners and operator permit remedies up to this one.
    pub max_remedy: Option<Remedy>,
    /// Every target requires this confidence.
    pub min_confidence: Option<f32>,
}

impl Trial {
    /// Whether anything differs from the recording.
    #[must_use]
    pub const fn is_another(&self) -> bool {
        self.other_model || self.max_remedy.is_some() || self.min_confidence.is_some()
    }

    fn policy(&self, recorded: Policy) -> Policy {
        let max_remedy = self.max_remedy.unwrap_or(recorded.max_remedy);
        let is_another = self.is_another();
        let dry_run = recorded.dry_run || is_another;
        Policy { max_remedy, dry_run, examine: !is_another, ..recorded }
    }

    fn apply(&self, target: &mut Target) {
        target.settings.ceiling = self.max_remedy.unwrap_or(target.settings.ceiling);
        target.settings.min_confidence =
            self.min_confidence.unwrap_or(target.settings.min_confidence);
    }
}

/// An event of a replay, for one target.
#[derive(Debug)]
pub struct Told<'a> {
    /// Time on the recording's clock.
    pub at: BootTime,
    /// The target.
    pub target: &'a Target,
    /// The event.
    pub what: Seen<'a>,
}

/// The kind of event.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A decided sample.
    Row {
        /// What triggered the sample.
        trigger: Trigger,
        /// The row.
        row: &'a FeatureVector,
        /// Its decision.
        decision: &'a Decision,
        /// Whether the verdict has changed.
        news: bool,
    },
    /// A remedy was applied, or would have been.
    Remedy(&'a Intent),
    /// A gate refused; the last refusal was another.
    Refused(Remedy, &'a Refusal, &'a Decision),
    /// Another remedy goes first, because it helped before.
    Preferred(Preferred),
    /// A symptom that needs no remedy, in words.
    LeftAlone(String),
    /// A treatment ended.
    Concluded(Remedy, Outcome),
    /// It has another instance.
    Another,
    /// Its process ended.
    Lost,
    /// The recorded agent: what it decided, did and found, whatever is tried here.
    Recorded(Recorded),
}

/// A trace's notes about its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The verdict of its model from this sample on.
    Verdict(Action),
    /// A remedy that it applied, or in a dry run would have applied.
    Remedy(Remedy),
    /// The outcome of a remedy.
    Outcome(Remedy, Outcome),
}

/// Maximum number of ticks between two lines of a recording; a longer gap is skipped.
const MOST_TICKS: usize = 1000;

/// Feeds a recording to an engine.
#[derive(Debug)]
pub struct Player {
    classifier: Arc<Classifier>,
    trial: Trial,
    engine: Engine,
    /// The last target at an index that the engine has freed: the outcome of an eviction comes
    /// after its target is gone.
    gone: BTreeMap<Index, Target>,
    run: Option<(String, u32)>,
    now: BootTime,
    /// Start of the recording.
    began: BootTime,
    commands: Vec<Command>,
    summary: Summary,
}

impl Player {
    /// A player before its first line.
    #[must_use]
    pub fn new(classifier: Arc<Classifier>, trial: Trial) -> Self {
        let engine = Engine::new(Arc::clone(&classifier), Policy::default(), Pace::default());
        Self {
            classifier,
            trial,
            engine,
            gone: BTreeMap::new(),
            run: None,
            now: BootTime::default(),
            began: BootTime::default(),
            commands: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Starts a part: the next one of the same run, or of another, which starts from scratch.
    pub fn part(&mut self, header: &Header) {
        let goes_on = self.run.as_ref().is_some_and(|(run, part)| {
            *run == header.run && part.checked_add(1) == Some(header.part)
        });
        self.run = Some((header.run.clone(), header.part));
        self.summary.part(header, goes_on);
        if goes_on {
            return;
        }
        let pace = Pace {
            tick: std::time::Duration::from_nanos(header.tick_ns),
            verify_window: std::time::Duration::from_nanos(header.verify_window_ns),
        };
        let policy = self.trial.policy(header.policy());
        self.engine = Engine::new(Arc::clone(&self.classifier), policy, pace);
        self.gone.clear();
        self.began = BootTime::from_nanos(header.boot_ns);
        self.now = self.began;
    }

    /// Start of the present recording.
    #[must_use]
    pub const fn began(&self) -> BootTime {
        self.began
    }

    /// The summary so far.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Ends a part, complete or truncated.
    pub const fn ended(&mut self, truncated: bool) {
        self.summary.truncated |= truncated;
    }

    /// Feeds one line, and reports the resulting events.
    ///
    /// # Errors
    /// If the line holds values that no agent writes.
    pub fn take(
        &mut self,
        line: Line,
        wrong: impl Fn(&dyn std::fmt::Display) -> TraceError,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), TraceError> {
        let Line(at, hour, what) = line;
        self.tick_until(BootTime::from_nanos(at), hour, tell);
        match &what {
            What::Missing(lines) => {
                self.summary.missing = self.summary.missing.saturating_add(*lines);
            }
            What::Switches(paused, journal) => {
                let trial = self.trial.is_another();
                self.engine.set_paused(*paused && !trial);
                self.engine.set_journal_writable(*journal || trial);
            }
            What::Did(index, remedy, _) => {
                self.summary.recorded(self.deed(*index, *remedy));
                self.tell(*index, Seen::Recorded(Recorded::Remedy(*remedy)), tell);
            }
            What::Said(index, action) => {
                self.tell(*index, Seen::Recorded(Recorded::Verdict(*action)), tell);
            }
            What::Concluded(index, remedy, outcome) => {
                self.tell(*index, Seen::Recorded(Recorded::Outcome(*remedy, *outcome)), tell);
            }
            _ => {}
        }
        let known = matches!(what, What::Known(..));
        if let Some(event) = what.event().map_err(|absurd| wrong(&absurd))? {
            self.hear(event, known, hour, tell);
        }
        Ok(())
    }

    fn hear(&mut self, event: Event, known: bool, hour: u8, tell: &mut dyn FnMut(Told<'_>)) {
        match event {
            // A part that is read alone starts with the targets of earlier ones.
            Event::Changed(index, mut target) if known => {
                self.trial.apply(&mut target);
                if self.engine.case(index).is_none() {
                    self.handle(Event::Added(index, target), hour, tell);
                }
            }
            Event::Added(index, mut target) => {
                self.trial.apply(&mut target);
                self.handle(Event::Added(index, target), hour, tell);
            }
            Event::Changed(index, mut target) => {
                self.trial.apply(&mut target);
                self.handle(Event::Changed(index, target), hour, tell);
                self.tell(index, Seen::Another, tell);
            }
            Event::Removed(index) => {
                if let Some(case) = self.engine.case(index) {
                    self.gone.insert(index, case.target.clone());
                }
                self.handle(Event::Removed(index), hour, tell);
            }
            Event::Lost(index) => {
                self.handle(Event::Lost(index), hour, tell);
                self.tell(index, Seen::Lost, tell);
            }
            Event::Sampled(index, sample) => {
                let (trigger, at) = (sample.trigger, sample.at);
                if let Some(case) = self.engine.case(index) {
                    self.summary.sampled(&case.target.name, at);
                }
                let before = self.engine.case(index).and_then(|case| case.decision);
                let context = Some((index, trigger, before));
                self.step(Event::Sampled(index, sample), hour, context, tell);
            }
            // The recorded agent's remedies are not those of this replay.
            Event::Treated { .. } | Event::Resized(..) if self.trial.is_another() => {}
            event => self.handle(event, hour, tell),
        }
    }

    fn tick_until(&mut self, at: BootTime, hour: u8, tell: &mut dyn FnMut(Told<'_>)) {
        for _ in 0..MOST_TICKS {
            match self.engine.next_due() {
                Some(due) if due <= at => self.now = self.now.max(due),
                _ => break,
            }
            self.handle(Event::Tick, hour, tell);
        }
        self.now = self.now.max(at);
    }

    fn handle(&mut self, event: Event, hour: u8, tell: &mut dyn FnMut(Told<'_>)) {
        self.step(event, hour, None, tell);
    }

    fn step(
        &mut self,
        event: Event,
        hour: u8,
        context: Option<(Index, Trigger, Option<Decision>)>,
        tell: &mut dyn FnMut(Told<'_>),
    ) {
        let mut commands = std::mem::take(&mut self.commands);
        self.engine.handle(self.now, hour, event, &mut commands);
        let mut asked = None;
        for command in commands.drain(..) {
            match command {
                Command::Heal(index, _, intent) => self.remedy(index, &intent, tell),
                Command::Tell(index, Fact::DryRun(intent)) => {
                    self.remedy(index, &intent, tell);
                }
                Command::Tell(index, Fact::Decided { decision, row }) => {
                    let (_, trigger, before) = context.unwrap_or((index, Trigger::Tick, None));
                    let news = before.is_none_or(|before| before.action != decision.action);
                    let seen = Seen::Row { trigger, row: &row, decision: &decision, news };
                    self.tell(index, seen, tell);
                }
                Command::Tell(index, Fact::Refused { remedy, refusal, decision, news: true }) => {
                    self.summary.refused(&refusal);
                    self.tell(index, Seen::Refused(remedy, &refusal, &decision), tell);
                }
                Command::Tell(index, Fact::Preferred(preferred)) => {
                    self.summary.preferred();
                    self.tell(index, Seen::Preferred(preferred), tell);
                }
                Command::Tell(index, Fact::LeftAlone { notable, .. }) => {
                    self.tell(index, Seen::LeftAlone(notable.to_string()), tell);
                }
                Command::Tell(index, Fact::Concluded { remedy, outcome, .. }) => {
                    self.tell(index, Seen::Concluded(remedy, outcome), tell);
                }
                Command::Ask(index, remedy) => asked = Some((index, remedy)),
                Command::Forget(index) => self.engine.forget(index),
                Command::Tell(..)
                | Command::Sample { .. }
                | Command::Release(_)
                | Command::Resize(..) => {}
            }
        }
        self.commands = commands;
        if let Some((index, remedy)) = asked.filter(|_| self.trial.is_another()) {
            self.step(Event::Cleared { index, remedy, answer: Ok(()) }, hour, None, tell);
        }
    }

    fn remedy(&mut self, index: Index, intent: &Intent, tell: &mut dyn FnMut(Told<'_>)) {
        self.summary.given(self.deed(index, intent.remedy));
        self.tell(index, Seen::Remedy(intent), tell);
    }

    fn deed(&self, index: Index, remedy: Remedy) -> Deed {
        let name = self.target(index).map(|target| target.name.clone());
        Deed { target: name.unwrap_or_default(), remedy }
    }

    fn target(&self, index: Index) -> Option<&Target> {
        self.engine.case(index).map(|case| &case.target).or_else(|| self.gone.get(&index))
    }

    fn tell(&self, index: Index, what: Seen<'_>, tell: &mut dyn FnMut(Told<'_>)) {
        if let Some(target) = self.target(index) {
            tell(Told { at: self.now, target, what });
        }
    }
}

#[cfg(test)]
mod tests;
