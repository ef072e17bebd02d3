//! One episode on paired copies of its service: left alone, reset, and restarted. An agent that
//! applies no remedy watches and records all of them.
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::{
    account::{happened, well_before},
    clients::Request,
    ground::Ground,
    plan::Planned,
    play::{Cast, STEP},
    step::Step,
    truth::{Seen, summary},
};
use crate::{
    lab::{
        self,
        kind::Remedy,
        label::{Measure, Tried},
        record::{BEFORE, DURING, observer, replayed},
        rows::{self, Row},
    },
    stage::{boot_ns, http, tail},
};

/// From the remedy to the end: 10 s of grace, a start that may take some seconds, an empty window,
/// and then the service is judged.
const AFTER: Duration = Duration::from_secs(25);
/// A process that does not end by itself is killed after this.
const GRACE: Duration = Duration::from_secs(10);
/// A slower answer counts as a failure to a user, as in the lab.
const PATIENCE: Duration = Duration::from_millis(500);

/// A copy of the service, and the times of its fault and its remedy.
struct Copied {
    ground: Ground,
    remedy: Remedy,
    /// How many steps of the fault were taken.
    taken: usize,
    fault: u64,
    treated: u64,
    /// How often it had ended before its restart.
    ends: u32,
}

/// What the copies showed.
pub(super) struct Shown {
    pub(super) measure: Measure,
    pub(super) rows: Vec<Row>,
    /// What the clients of the copy that was left alone were given from the fault on.
    pub(super) given: String,
}

/// The name of a row's fault in files that training reads.
pub(super) fn kind(fault: &str) -> String {
    fault.replace('-', "_")
}

/// Plays the episode. The agent's trace is left in `folder`. `number` is the episode's in the list.
pub(super) fn play(
    cast: &Cast<'_>,
    planned: &Planned,
    number: usize,
    folder: &Path,
) -> Result<Shown> {
    // Dropped after the copies, which hold files in it.
    let home = tempfile::tempdir().context("no folder for the services")?;
    let mut copies = prepare(cast, planned, number, &home)?;
    let begun = boot_ns();
    let (trace, state) = (folder.join("trace"), home.path().join("state"));
    fs::create_dir(&state)?;
    let urls = copies.iter().map(|copy| copy.ground.url()).collect();
    // It only observes anyway.
    let options: Vec<_> =
        planned.arguments.iter().copied().filter(|option| *option != "--dry-run").collect();
    let agent = observer(cast.programs, urls, &state, &trace, &options)?;
    cast.wait(BEFORE)?;
    for copy in &mut copies {
        copy.fault = boot_ns();
        copy.go_on(planned.steps, Duration::ZERO)?;
    }
    let fault = Instant::now();
    go_on(cast, &mut copies, planned, fault, DURING)?;
    for copy in &mut copies {
        copy.treat()?;
    }
    go_on(cast, &mut copies, planned, fault, DURING + GRACE)?;
    for copy in &copies {
        copy.end_of_grace();
    }
    go_on(cast, &mut copies, planned, fault, DURING + AFTER)?;
    let end = boot_ns();
    drop(agent);
    judge(planned, &copies, (begun, end), &replayed(cast.programs, &trace)?)
}

/// Starts the copies: three, or one where there is no fault to treat.
fn prepare(
    cast: &Cast<'_>,
    planned: &Planned,
    number: usize,
    home: &TempDir,
) -> Result<Vec<Copied>> {
    let remedies = if planned.steps.is_empty() { &Remedy::ALL[..1] } else { &Remedy::ALL[..] };
    let copy = |(index, &remedy): (usize, &Remedy)| {
        let folder = home.path().join(remedy.name());
        fs::create_dir(&folder)?;
        let number = number * Remedy::ALL.len() + index;
        let ground = Ground::prepare(cast, planned, number, &folder)
            .with_context(|| format!("the end of its log:\n{}", tail(&folder.join("log"), 8)))?;
        Ok(Copied { ground, remedy, taken: 0, fault: 0, treated: 0, ends: 0 })
    };
    remedies.iter().enumerate().map(copy).collect()
}

/// Lets the faults of all copies develop until this time after their beginning.
fn go_on(
    cast: &Cast<'_>,
    copies: &mut [Copied],
    planned: &Planned,
    fault: Instant,
    until: Duration,
) -> Result<()> {
    while fault.elapsed() < until {
        cast.wait(STEP)?;
        for copy in &mut *copies {
            copy.go_on(planned.steps, fault.elapsed().min(until))?;
        }
    }
    Ok(())
}

impl Copied {
    /// Takes the steps that are due.
    fn go_on(&mut self, steps: &[(u64, Step)], since: Duration) -> Result<()> {
        while let Some((at, step)) = steps.get(self.taken)
            && since >= Duration::from_secs(*at)
        {
            self.taken += 1;
            self.ground.take(*step)?;
        }
        Ok(())
    }

    fn treat(&mut self) -> Result<()> {
        self.treated = boot_ns();
        self.ends = self.ground.service.ends();
        match self.remedy {
            Remedy::ResetErrors if self.ground.heals => {
                let url = format!("{}/heal", self.ground.url());
                // A process that hangs may not answer; that is what is measured.
                let _ = http::post(&url, &json!({ "action": "reset_errors" }));
                Ok(())
            }
            // It has no soft remedy.
            Remedy::NoAction | Remedy::ResetErrors => Ok(()),
            Remedy::RestartService => self.ground.service.signal(Signal::SIGTERM),
        }
    }

    /// Kills it if it did not end when it was told to.
    fn end_of_grace(&self) {
        if self.remedy == Remedy::RestartService && self.ground.service.ends() == self.ends {
            // It may have ended just now.
            let _ = self.ground.service.signal(Signal::SIGKILL);
        }
    }
}

/// Measures which remedy helped, and labels the rows of the replay.
fn judge(
    planned: &Planned,
    copies: &[Copied],
    (begun, end): (u64, u64),
    replay: &str,
) -> Result<Shown> {
    let requests: Vec<_> = copies.iter().map(|copy| copy.ground.clients.requests()).collect();
    let (left_alone, given) =
        copies.first().zip(requests.first()).context("an episode without a copy")?;
    let summary = summary(given, left_alone.fault, end);
    well_before(given, begun, left_alone.fault)?;
    happened(planned, given, left_alone.fault, end)
        .with_context(|| format!("clients were given {summary}"))?;
    let unexplained = left_alone.ground.service.ends() > left_alone.ground.restarts;
    ensure!(planned.ends || !unexplained, "the service ended by itself");
    let tried: Vec<Tried> = copies
        .iter()
        .zip(&requests)
        .map(|(copy, requests)| {
            Tried::of(copy.remedy, (copy.fault, copy.treated, end), &as_the_lab(requests))
        })
        .collect();
    let (untreated, others) = tried.split_first().context("an episode without a copy")?;
    if let Some(reset) = others.first().filter(|_| !left_alone.ground.heals) {
        // Without a soft remedy it was left alone too.
        let alike = reset.well == untreated.well;
        ensure!(alike, "of two copies without a remedy one was well at the end");
    }
    let measure = Measure::of(untreated, others);
    let right = (!planned.steps.is_empty()).then_some(measure.label);
    let mut labelled = Vec::new();
    for seen in rows::parse(replay)?.into_iter().filter(|seen| seen.at <= end) {
        let at = copies.iter().position(|copy| copy.ground.url() == seen.target);
        if let Some(tried) = at.and_then(|at| tried.get(at)) {
            let (kind, service) = (kind(planned.fault), Some(planned.service.name));
            labelled.push(Row::of(planned.id, kind, service, tried, right, seen));
        }
    }
    ensure!(!labelled.is_empty(), "the agent saw none of the copies");
    Ok(Shown { measure, rows: labelled, given: summary })
}

/// The requests as the lab judges them: a 2xx in good time is good. What clients themselves cut off
/// says nothing.
fn as_the_lab(requests: &[Request]) -> Vec<lab::client::Request> {
    let answered = requests.iter().filter(|request| !Seen::Cut.is(request.given));
    answered
        .map(|request| lab::client::Request {
            at: request.ended,
            good: Seen::Well.is(request.given)
                && u128::from(request.ended.saturating_sub(request.at)) <= PATIENCE.as_nanos(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strangers::ask::Given;

    #[test]
    fn a_late_answer_is_a_failure_and_a_client_that_left_is_none() {
        let request = |ms: u64, given| Request { at: 0, ended: ms * 1_000_000, given };
        let judged = as_the_lab(&[
            request(500, Given::Status(204)),
            request(501, Given::Status(200)),
            request(10, Given::Cut),
            request(10, Given::Status(503)),
        ]);
        assert_eq!(judged.iter().map(|r| r.good).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(judged[0].at, 500_000_000);
    }
}
