//! Evaluates the results of an episode's clients and the log of its agent. Pure.
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    ask::PATIENCE,
    clients::Request,
    plan::Planned,
    truth::{Seen, share, summary},
    verdict::{Act, Did},
};
use crate::stage::agent::Line;

/// Until a fault affects all clients.
pub(super) const FELT: Duration = Duration::from_secs(3);
/// With a smaller percentage of good answers a service was not well before the fault.
const WELL: f64 = 95.0;

/// Whether clients were served worse since the agent watches, before any fault.
///
/// # Errors
/// If they were not served before either, so that there is nothing to compare with.
pub(super) fn watched_as_unwatched(
    requests: &[Request],
    unwatched: u64,
    watched: u64,
    fault: u64,
) -> Result<bool> {
    // The fault may have affected a request that began just before it.
    let margin = Duration::from_millis(300).as_nanos() as u64;
    well_before(requests, unwatched, watched)?;
    let under_watch = share(Seen::Well, requests, watched, fault.saturating_sub(margin));
    Ok(under_watch.is_some_and(|share| share < WELL))
}

/// # Errors
/// If the service was not well in this time.
pub(super) fn well_before(requests: &[Request], from: u64, to: u64) -> Result<()> {
    let before = share(Seen::Well, requests, from, to);
    let of = || summary(requests, from, to);
    ensure!(before.is_none_or(|share| share >= WELL), "not well before all: {}", of());
    Ok(())
}

/// Requests under way at a restart may have been cut off by the restart and not by the fault.
pub(super) fn leave_out_broken_off(requests: &mut Vec<Request>, restart: u64) {
    let asked = restart.saturating_sub(PATIENCE.as_nanos() as u64);
    requests.retain(|r| r.at < asked || !Seen::Unanswered.is(r.given));
}

/// # Errors
/// If the clients did not see the effect that the fault must have.
pub(super) fn happened(
    planned: &Planned,
    requests: &[Request],
    fault: u64,
    until: u64,
) -> Result<()> {
    let Some(truth) = planned.truth() else { return Ok(()) };
    let felt = fault + FELT.as_nanos() as u64;
    let holds = truth.holds(requests, felt, until).unwrap_or_else(|| {
        // A fast agent leaves time for only a few requests; then one is enough.
        let mut few = requests.iter().filter(|request| request.at >= fault).peekable();
        few.peek().is_none() || few.any(|request| truth.seen.is(request.given))
    });
    ensure!(holds, "the fault did not happen: expected {truth}");
    Ok(())
}

/// The remedies that the agent has started.
pub(super) fn acts(lines: &[Line]) -> Vec<Act> {
    let healing = lines.iter().filter(|line| line.message() == "healing");
    healing
        .map(|line| Act {
            at: line.number("boot_ns").unwrap_or_default() as u64,
            did: if line.text("remedy") == "soft" { Did::Soft } else { Did::Restart },
        })
        .collect()
}

/// The agent's last reason: why it acted, else the last gate, else why it took no action.
pub(super) fn why(lines: &[Line]) -> String {
    let last = |message: &str| lines.iter().rfind(|line| line.message() == message);
    if let Some(line) = last("healing") {
        return format!("{}: {}", line.text("remedy"), line.text("reasons"));
    }
    if let Some(line) = last("not healed") {
        return format!("{}: {}", line.text("gate"), line.text("reason"));
    }
    last("left alone").map(|line| line.text("reason").to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strangers::ask::Given;

    #[test]
    fn the_last_word_is_of_the_strongest_sort() {
        let left = Line(json!({"message": "left alone", "reason": "5xx"}));
        let gate = Line(json!({"message": "not healed", "gate": "evidence", "reason": "wait"}));
        let act = Line(json!({"message": "healing", "remedy": "restart", "reasons": "a=1",
                              "boot_ns": 7}));
        assert_eq!(why(&[]), "");
        assert_eq!(why(std::slice::from_ref(&left)), "5xx");
        assert_eq!(why(&[gate.clone(), left.clone()]), "evidence: wait");
        assert_eq!(why(&[act.clone(), gate, left]), "restart: a=1");
        let acts = acts(&[act]);
        assert!(matches!(acts[..], [Act { at: 7, did: Did::Restart }]), "{acts:?}");
    }

    #[test]
    fn what_a_restart_broke_off_is_not_the_faults() {
        let second = 1_000_000_000;
        let request = |s: u64, given| Request { at: s * second, ended: s * second, given };
        let mut requests = vec![
            request(1, Given::Silence),
            request(9, Given::Status(502)),
            request(9, Given::Broken),
        ];
        leave_out_broken_off(&mut requests, 10 * second);
        let left: Vec<_> = requests.iter().map(|request| request.given).collect();
        assert_eq!(left, [Given::Silence, Given::Status(502)]);
    }

    #[test]
    fn clients_that_are_served_worse_under_watch_are_disturbed() {
        let all = |given: fn(u64) -> Given| {
            (0..40)
                .map(|n| Request {
                    at: n * 1_000_000_000,
                    ended: n * 1_000_000_000,
                    given: given(n),
                })
                .collect::<Vec<_>>()
        };
        let second = 1_000_000_000;
        let judged =
            |requests: &[Request]| watched_as_unwatched(requests, 0, 20 * second, 40 * second);
        assert!(!judged(&all(|_| Given::Status(200))).unwrap());
        let since = all(|n| if n < 20 { Given::Status(200) } else { Given::Silence });
        assert!(judged(&since).unwrap());
        assert!(judged(&all(|_| Given::Silence)).is_err());
    }
}
