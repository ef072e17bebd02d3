//! What people are told of resizes in place. They are news for information and open no problem: a
//! limit that was raised asks its owner to write it down, at any time.
use paramedic_core::{
    engine::Resizing,
    resize::{Concluded, Direction, ResizeOutcome},
    target::Target,
};
use paramedic_record::{journal::Change, keep_it};

use super::{MAX_NAME, MAX_OUTCOME, Moment, Teller, Telling, widened};
use crate::notification::{Notification, Occasion, Phase, plain};

impl Teller {
    /// News of a resize, if people can do something about it.
    pub fn resizing(&mut self, target: &Target, news: &Resizing, at: Moment) -> Option<Telling> {
        let name = plain(&target.name, MAX_NAME);
        let (occasion, summary, outcome, advice) = match news {
            Resizing::Given(_) => return None,
            Resizing::Refused { no, news, .. } if !news || no.reason.passes() => return None,
            Resizing::Refused { wish, no, .. } => (
                Occasion::NotResized,
                format!("{name}: it needs {wish}, and is not resized ({})", no.reason.name()),
                no.to_string(),
                "docs/resize.md explains each reason and what to do".to_owned(),
            ),
            Resizing::Withheld(step) => (
                Occasion::Resized,
                format!("{name}: {step} is advised"),
                "nothing was changed".to_owned(),
                keep_it(target, step),
            ),
            Resizing::Concluded(Concluded { step, outcome, detail, .. }) => match outcome {
                ResizeOutcome::Healed if step.direction() == Direction::Down => return None,
                ResizeOutcome::Healed => (
                    Occasion::Resized,
                    format!("{name}: {step}, and it is well"),
                    "the limit was raised in place, without a restart".to_owned(),
                    keep_it(target, step),
                ),
                ResizeOutcome::Unverified => return None,
                ResizeOutcome::NotHealed | ResizeOutcome::Failed | ResizeOutcome::Refused => (
                    Occasion::NotResized,
                    format!("{name}: {step} did not help"),
                    detail.clone().unwrap_or_default(),
                    format!("look at it; `paramedic explain {name}` shows what the agent sees"),
                ),
            },
        };
        let left_out = self.known(target).may_tell(occasion, at.now)?;
        let problem = widened(self.problem(&target.id.uid, at.unix_s), target);
        let notification = Notification {
            target: name,
            summary,
            outcome: plain(&outcome, MAX_OUTCOME),
            advice: self.advice(advice, target),
            left_out,
            ..self.blank(occasion, Phase::Info, &problem, at)
        };
        Some(Telling { notification, to: problem.channels, change: Change::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paramedic_core::{
        boot_time::BootTime,
        resize::{NoResize, Reason, Resource, Step, Wish},
        target::ChannelNames,
    };

    use super::*;
    use crate::notification::Severity;

    const STEP: Step = Step { resource: Resource::Cpu, from: 500, to: 750, base: 500 };

    fn at(seconds: u64) -> Moment {
        let now = BootTime::from(Duration::from_secs(seconds));
        Moment { now, unix_s: i64::try_from(seconds).unwrap() }
    }

    fn ended(outcome: ResizeOutcome, step: Step) -> Resizing {
        let took = Duration::from_secs(15);
        Resizing::Concluded(Concluded { id: None, step, outcome, took, detail: None })
    }

    fn refused(reason: Reason) -> Resizing {
        let (resource, direction) = (Resource::Cpu, Direction::Up);
        let wish = Wish { resource, direction, used: 0, limit: None, last: None };
        Resizing::Refused { id: None, wish, no: NoResize::from(reason), news: true }
    }

    #[test]
    fn owners_are_told_what_to_write_down_and_that_something_lacks_room() {
        let mut teller = Teller::new("worker-1", ChannelNames::default(), Vec::new());
        let pod = Target::pod_for_tests("shop", 1);
        let healed = teller.resizing(&pod, &ended(ResizeOutcome::Healed, STEP), at(1)).unwrap();
        let told = healed.notification;
        assert_eq!(told.summary, "default/shop: cpu 500m → 750m, and it is well");
        assert!(told.advice.contains("`cpu: 750m`"), "{}", told.advice);
        assert_eq!((told.phase, told.severity), (Phase::Info, Severity::Info));
        assert_eq!(healed.change, Change::Nothing);
        let told = teller.resizing(&pod, &refused(Reason::NoRoom), at(2)).unwrap().notification;
        assert_eq!(told.summary, "default/shop: it needs more cpu, and is not resized (no_room)");
        assert_eq!((told.event, told.severity), (Occasion::NotResized, Severity::Warning));
        assert_eq!(
            teller.resizing(&pod, &refused(Reason::Quota), at(3)),
            None,
            "within ten minutes"
        );
        let again = teller.resizing(&pod, &refused(Reason::Quota), at(700)).unwrap();
        assert_eq!(again.notification.left_out, 1);
    }

    #[test]
    fn what_needs_nobody_is_not_told() {
        let mut teller = Teller::new("worker-1", ChannelNames::default(), Vec::new());
        let pod = Target::pod_for_tests("shop", 1);
        let down = Step { from: 750, to: 500, ..STEP };
        for news in [
            Resizing::Given(STEP),
            ended(ResizeOutcome::Healed, down),
            ended(ResizeOutcome::Unverified, STEP),
            refused(Reason::Cooldown),
            refused(Reason::Conflict),
        ] {
            assert_eq!(teller.resizing(&pod, &news, at(1)), None, "{news:?}");
        }
    }
}
