//! The loop's handle: takes facts and never waits.
use std::sync::Arc;

use paramedic_core::{
    decide::{Action, Classifier},
    engine::{Case, Fact, Intent},
    target::Target,
};
use paramedic_host::clock::{Clock, wall_time};
use paramedic_record::{Metrics, metrics::NotificationResult};
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    channel::Kind,
    teller::{Ended, Moment, Teller, Telling},
};

/// Maximum number of reasons in a notification.
const REASONS: usize = 3;

/// Decides what people are told, and queues it.
#[derive(Debug)]
pub struct Notifier {
    teller: Teller,
    outgoing: mpsc::Sender<Telling>,
    metrics: Arc<Metrics>,
    classifier: Arc<Classifier>,
    kinds: Vec<Kind>,
    clock: Clock,
}

impl Notifier {
    pub(crate) const fn new(
        teller: Teller,
        outgoing: mpsc::Sender<Telling>,
        metrics: Arc<Metrics>,
        classifier: Arc<Classifier>,
        kinds: Vec<Kind>,
        clock: Clock,
    ) -> Self {
        Self { teller, outgoing, metrics, classifier, kinds, clock }
    }

    /// A remedy is about to be applied.
    pub fn healing(&mut self, target: &Target, intent: &Intent) {
        let symptom = intent.symptom.name();
        let health = intent.health.as_ref().map(|word| format!("; {word}")).unwrap_or_default();
        let reasons = self.classifier.reasons(&intent.row, intent.decision.action, REASONS);
        let seen = format!("{symptom}: {reasons}{health}");
        self.teller.treats(target, &seen, self.moment());
    }

    /// A fact about a case.
    pub fn tell(&mut self, case: &Case, fact: &Fact) {
        let (target, at) = (&case.target, self.moment());
        let telling = match fact {
            Fact::Decided { decision, .. } => {
                let well = decision.action == Action::NoAction && case.is_present();
                self.teller.decided(target, well, at)
            }
            Fact::Refused { remedy, refusal, decision, .. } => {
                let reasons = || self.classifier.reasons(&case.row, decision.action, REASONS);
                let seen = || match case.health() {
                    Some(word) => format!("{}; {word}", reasons()),
                    None => reasons().to_string(),
                };
                self.teller.refused(target, *remedy, refusal, seen, at)
            }
            Fact::Concluded { incident, remedy, outcome, took, detail, exhausted, .. } => {
                let ended = Ended {
                    incident: *incident,
                    remedy: *remedy,
                    outcome: *outcome,
                    took: *took,
                    detail: detail.as_deref(),
                    exhausted: *exhausted,
                };
                self.teller.concluded(target, &ended, at)
            }
            Fact::Resizing(news) => self.teller.resizing(target, news, at),
            Fact::Undecided
            | Fact::Heard(_)
            | Fact::Blind(_)
            | Fact::LeftAlone { .. }
            | Fact::Preferred(_)
            | Fact::DryRun(_) => None,
        };
        self.queue(telling);
    }

    /// A target is no longer watched.
    pub fn forget(&mut self, target: &Target) {
        let telling = self.teller.removed(target, self.moment());
        self.queue(telling);
    }

    /// Whether healing is paused on this node. Call it regularly.
    pub fn switch(&mut self, paused: bool) {
        let tellings = self.teller.switch(paused, self.moment());
        self.queue(tellings);
    }

    fn moment(&self) -> Moment {
        let unix_s = wall_time();
        Moment { now: self.clock.now(), unix_s }
    }

    /// If the disk is so slow that the queue is full, news is lost and counted: the loop never waits.
    fn queue(&self, tellings: impl IntoIterator<Item = Telling>) {
        for telling in tellings {
            if self.outgoing.try_send(telling).is_err() {
                warn!("too many notifications at once: dropped one");
                for kind in &self.kinds {
                    self.metrics.notification(kind.name(), NotificationResult::Dropped);
                }
            }
        }
    }
}
