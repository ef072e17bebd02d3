//! The sentences of notifications, and which news they are.
use paramedic_core::{
    guard::Gate,
    target::{Remedy, Target},
    verify::Outcome,
};

use super::{Ended, MAX_NAME};
use crate::notification::{Occasion, plain};

/// Whether an operator can do something about a refusal. The others ask for time.
pub(super) const fn concerns_people(gate: Gate) -> bool {
    match gate {
        Gate::Confidence
        | Gate::Evidence
        | Gate::WarmUp
        | Gate::Patience
        | Gate::Resize
        | Gate::Cooldown
        | Gate::Window
        | Gate::Identity
        | Gate::WorkloadLock => false,
        Gate::Mode
        | Gate::Approval
        | Gate::Unfamiliar
        | Gate::Excused
        | Gate::NodeBudget
        | Gate::NodeNetwork
        | Gate::Exhausted
        | Gate::Futile
        | Gate::Journal
        | Gate::Paused
        | Gate::ApiServer
        | Gate::Rollout
        | Gate::DisruptionBudget
        | Gate::Overload => true,
    }
}

pub(super) const fn occasion_of(end: &Ended<'_>) -> Occasion {
    match end.outcome {
        Outcome::Healed => Occasion::Healed,
        _ if end.exhausted => Occasion::Exhausted,
        Outcome::NotHealed => Occasion::NotHealed,
        Outcome::Worse => Occasion::Worse,
        Outcome::Unverified => Occasion::Unverified,
        Outcome::Failed => Occasion::Failed,
    }
}

pub(super) fn summary_of(occasion: Occasion, target: &Target, remedy: Remedy) -> String {
    let (name, remedy) = (plain(&target.name, MAX_NAME), target.settings.called(remedy));
    match occasion {
        Occasion::Healed => format!("{name}: healed by {remedy}"),
        Occasion::NotHealed => format!("{name}: {remedy} did not help"),
        Occasion::Worse => format!("{name}: worse after {remedy}"),
        Occasion::Unverified => format!("{name}: whether {remedy} helped cannot be known"),
        Occasion::Failed => format!("{name}: {remedy} failed"),
        Occasion::Exhausted => format!("{name}: every permitted remedy was tried, none helped"),
        Occasion::WellAgain => format!("{name}: well again"),
        Occasion::Gone => format!("{name}: no longer watched"),
        Occasion::Refused
        | Occasion::Resized
        | Occasion::NotResized
        | Occasion::Paused
        | Occasion::Resumed => name,
    }
}

pub(super) const fn outcome_of(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Healed => "it is well again",
        Occasion::NotHealed => "the symptom is still there or came back",
        Occasion::Worse => "it is worse than before the remedy",
        Occasion::Unverified => "no sample has shown whether it is well",
        Occasion::Failed => "the remedy was not applied, or not to its end",
        Occasion::Exhausted => "it is still unhealthy, and the agent leaves it alone",
        Occasion::WellAgain => "it has been well for five minutes",
        Occasion::Gone => "it was removed",
        Occasion::Refused
        | Occasion::Resized
        | Occasion::NotResized
        | Occasion::Paused
        | Occasion::Resumed => "",
    }
}

pub(super) fn advice_of(occasion: Occasion, target: &Target, remedy: Remedy) -> String {
    let name = plain(&target.name, MAX_NAME);
    match occasion {
        Occasion::Healed if target.settings.means(remedy) == "quarantine" => format!(
            "look at the pod, which is kept: `paramedic release {name}` puts it back, or delete it"
        ),
        Occasion::Healed => {
            "nothing; `paramedic incidents --verbose` shows what was measured".to_owned()
        }
        Occasion::NotHealed | Occasion::Worse => {
            "the agent applies the next permitted remedy, if there is one; \
             `paramedic incidents --verbose` shows what was measured"
                .to_owned()
        }
        Occasion::Unverified => {
            format!("look whether it serves; `paramedic explain {name}` shows what the agent sees")
        }
        Occasion::Failed => {
            "the outcome names the cause, and the agent's log has the rest; the agent may try again"
                .to_owned()
        }
        Occasion::Exhausted => format!(
            "look at it now: the agent does nothing until it has been well for five minutes; \
             `paramedic explain {name}` shows what the agent sees"
        ),
        Occasion::Refused
        | Occasion::Resized
        | Occasion::NotResized
        | Occasion::WellAgain
        | Occasion::Gone
        | Occasion::Paused
        | Occasion::Resumed => "nothing".to_owned(),
    }
}

/// Markdown's links as plain text: `[health.md](health.md)` becomes `docs/health.md`.
pub(super) fn without_links(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        text.push_str(before);
        match link.split_once("](").and_then(|(_, link)| link.split_once(')')) {
            Some((page, after)) => {
                text.push_str("docs/");
                text.push_str(page);
                rest = after;
            }
            None => {
                text.push('[');
                rest = link;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_has_no_markdown_links() {
        assert_eq!(
            without_links("look ([a.md](a.md#x)), then [b.md](b.md)"),
            "look (docs/a.md#x), then docs/b.md"
        );
        assert_eq!(without_links("a [b"), "a [b");
        for gate in Gate::ALL {
            assert!(!without_links(gate.advice()).contains(']'), "{}", gate.name());
        }
    }
}
