//! What is told of resizes in place, in log, metrics, Events and journal.
use paramedic_core::{
    engine::{Case, Resizing},
    resize::{Concluded, Direction, ResizeOutcome, Resource, Step},
    target::{Kind, Target},
};
use tokio::task::spawn_blocking;
use tracing::{debug, error, info, warn};

use super::{Recorder, journal::Resize};

impl Recorder {
    /// The last resize of each limit, by this and earlier agent processes.
    pub fn last_resizes(&self) -> Vec<Resize> {
        let Some(journal) = self.journal() else { return Vec::new() };
        journal.last_resizes().unwrap_or_else(|error| {
            warn!(%error, "cannot read past resizes; limits that were raised stay as they are");
            Vec::new()
        })
    }

    /// Records news of a resize.
    pub(crate) fn tell_resizing(&self, case: &Case, news: Resizing) {
        let of = &case.target;
        let target = of.name.as_str();
        match news {
            Resizing::Refused { id, wish, no, news } => {
                self.metrics().resize_refused(no.reason);
                let (wanted, gate, reason) = (wish.to_string(), no.reason.name(), no.to_string());
                if news {
                    info!(target, wanted, gate, reason, "not resized");
                } else {
                    debug!(target, wanted, gate, reason, "not resized");
                }
                if news && !no.reason.passes() {
                    self.announce(of, false, "ResizeRefused", Some(gate), || {
                        format!("resize ({wanted}) refused ({gate}): {reason}")
                    });
                }
                self.end_resize(id, ResizeOutcome::Refused, Some(no.to_string()));
            }
            Resizing::Given(step) => {
                info!(target, step = %step, owners = step.resource.text(step.base), "resized");
                self.announce(of, false, "Resized", None, || {
                    format!("resize: {step}; {} is its owner's own", step.resource.text(step.base))
                });
            }
            Resizing::Withheld(step) => {
                self.metrics().resize_withheld();
                let advice = keep_it(of, &step);
                info!(target, step = %step, advice, "would resize");
                self.announce(of, false, "WouldResize", Some("resize"), || {
                    format!("resize: {step} would be applied; {advice}")
                });
            }
            Resizing::Concluded(ended) => self.tell_end(of, ended),
        }
    }

    fn tell_end(&self, of: &Target, ended: Concluded) {
        let Concluded { id, step, outcome, took, detail } = ended;
        self.metrics().resize(&step, outcome, took);
        let (target, seconds) = (of.name.as_str(), took.as_secs_f64());
        let helped = outcome == ResizeOutcome::Healed;
        let raised = helped && step.direction() == Direction::Up;
        let advice = raised.then(|| keep_it(of, &step));
        if helped {
            info!(target, step = %step, outcome = outcome.name(), seconds, advice, "resize ended");
        } else {
            warn!(target, step = %step, outcome = outcome.name(), seconds, detail, "resize ended");
        }
        let well = matches!(outcome, ResizeOutcome::Healed | ResizeOutcome::Unverified);
        self.announce(of, !well, reason_of(outcome), None, || {
            let more =
                detail.iter().chain(&advice).fold(String::new(), |all, text| all + "; " + text);
            format!("resize: {} after {:.0} s: {step}{more}", outcome.name(), seconds)
        });
        self.end_resize(id, outcome, detail);
    }

    /// Stores the outcome of a resize.
    pub fn end_resize(&self, id: Option<i64>, outcome: ResizeOutcome, detail: Option<String>) {
        let (Some(journal), Some(id)) = (self.journal(), id) else { return };
        spawn_blocking(move || {
            if let Err(error) = journal.conclude_resize(id, outcome, detail.as_deref()) {
                error!(resize = id, %error, "cannot write the outcome of a resize to the journal");
            }
        });
    }
}

/// The reason of an Event for an outcome, as for a remedy.
const fn reason_of(outcome: ResizeOutcome) -> &'static str {
    match outcome {
        ResizeOutcome::Healed => "Healed",
        ResizeOutcome::NotHealed => "NotHealed",
        ResizeOutcome::Unverified => "HealUnverified",
        ResizeOutcome::Failed => "HealFailed",
        ResizeOutcome::Refused => "ResizeRefused",
    }
}

/// What the owner has to write down for the new limit to stay.
#[must_use]
pub fn keep_it(target: &Target, step: &Step) -> String {
    let text = step.to_text();
    match (&target.kind, step.resource) {
        (Kind::Pod(pod), resource) => format!(
            "to keep it, put `{resource}: {text}` into the limits of container {} in its template",
            pod.container
        ),
        (Kind::Container(_), Resource::Cpu) => {
            format!("to keep it, start the container with `--cpus {}`", cores(step.to))
        }
        (Kind::Container(_), Resource::Memory) => {
            format!("to keep it, start the container with `--memory {}`", step.to)
        }
        (Kind::Process, Resource::Cpu) => {
            format!("its unit needs `CPUQuota={}%`", step.to.div_ceil(10))
        }
        (Kind::Process, Resource::Memory) => format!("its unit needs `MemoryMax={}`", step.to),
    }
}

/// Millicores as a decimal number of cores.
fn cores(millicores: u64) -> String {
    format!("{}.{:03}", millicores / 1000, millicores % 1000)
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_explains_every_reason() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/resize.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        for reason in paramedic_core::resize::Reason::ALL {
            let name = format!("`{}`", reason.name());
            let explained =
                |row: &&str| row.split('|').nth(1).is_some_and(|cell| cell.contains(&name));
            assert!(rows.iter().any(explained), "{name}");
        }
    }

    #[test]
    fn the_owner_is_told_what_to_write_down() {
        let cpu = Step { resource: Resource::Cpu, from: 500, to: 750, base: 500 };
        let memory =
            Step { resource: Resource::Memory, from: 1 << 27, to: 192 << 20, base: 1 << 27 };
        let pod = Target::pod_for_tests("shop", 1);
        assert_eq!(
            keep_it(&pod, &cpu),
            "to keep it, put `cpu: 750m` into the limits of container app in its template"
        );
        assert!(keep_it(&pod, &memory).contains("`memory: 192Mi`"));
        let process = Target::for_tests("shop", 1);
        assert_eq!(keep_it(&process, &cpu), "its unit needs `CPUQuota=75%`");
        assert_eq!(keep_it(&process, &memory), "its unit needs `MemoryMax=201326592`");
        assert_eq!(
            (cores(750), cores(2000), cores(1005)),
            ("0.75".into(), "2".into(), "1.005".into())
        );
    }
}
