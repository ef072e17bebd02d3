//! Plays one episode: the service unwatched, watched, and with its fault.
use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    account::{acts, happened, leave_out_broken_off, watched_as_unwatched, why},
    befall::fall_ill,
    ground::Ground,
    kit::Kit,
    plan::{Draw, Planned},
    step::Step,
    truth::summary,
    verdict::{Act, Did, Verdict, judge, strongest},
};
use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Line},
    boot_ns, tail,
};

/// The phase without the agent. Its answers are compared with those under watch.
const UNWATCHED: Duration = Duration::from_secs(2);
/// The phase with the agent before the fault: several samples.
const HEALTHY: Duration = Duration::from_secs(6);
/// From an agent's start to its first sample.
const READY: Duration = Duration::from_secs(20);
pub(super) const STEP: Duration = Duration::from_millis(50);

/// The result of an episode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Played {
    pub(super) name: String,
    pub(super) service: String,
    pub(super) fault: String,
    pub(super) draw: Draw,
    pub(super) right: Vec<Did>,
    pub(super) did: Did,
    pub(super) verdict: Verdict,
    /// How long it took.
    pub(super) seconds: f64,
    /// From the fault to the strongest remedy.
    pub(super) act_after_s: Option<f64>,
    /// The agent's last reason.
    pub(super) why: String,
    /// What the clients saw since the fault, until the service was restarted.
    pub(super) truth: String,
    /// Whether the run fails if the verdict is not right.
    pub(super) required: bool,
}

/// What all episodes share.
pub(super) struct Cast<'a> {
    pub(super) programs: &'a Programs,
    pub(super) kit: &'a Kit,
    pub(super) interrupt: &'a Interrupt,
}

/// Plays it and judges. A failure of the test bed is a verdict of its own; an interrupt is an
/// error.
pub(super) fn play(cast: &Cast<'_>, planned: &Planned, number: usize) -> Result<Played> {
    let begun = Instant::now();
    let mut played = Played {
        name: planned.name(),
        service: planned.service.name.to_owned(),
        fault: planned.fault.to_owned(),
        draw: planned.draw,
        right: planned.right.to_vec(),
        did: Did::Nothing,
        verdict: Verdict::Error,
        seconds: 0.0,
        act_after_s: None,
        why: String::new(),
        truth: String::new(),
        required: planned.required,
    };
    let folder = tempfile::tempdir().context("no folder for the service")?;
    let result = on_stage(cast, planned, number, folder.path(), &mut played);
    played.seconds = tenths(begun.elapsed().as_secs_f64());
    if let Err(error) = result {
        cast.interrupt.check()?;
        let log = tail(&folder.path().join("log"), 8);
        played.verdict = Verdict::Error;
        played.why = format!("{error:#}\nthe end of the service's log:\n{log}");
    }
    Ok(played)
}

fn on_stage(
    cast: &Cast<'_>,
    planned: &Planned,
    number: usize,
    folder: &Path,
    played: &mut Played,
) -> Result<()> {
    let mut ground = Ground::prepare(cast, planned, number, folder)?;
    let unwatched = boot_ns();
    cast.wait(UNWATCHED)?;
    let state = tempfile::tempdir().context("no folder for the agent")?;
    let watched = boot_ns();
    let agent = cast.agent(planned, &ground, state.path())?;
    if !cast.is_ready(&agent)? {
        let said = |line: &Line| format!("{} {}", line.message(), line.text("error"));
        played.why = agent.lines().last().map(said).unwrap_or_default();
        played.verdict = Verdict::Unwatched;
        return Ok(());
    }
    cast.wait(HEALTHY)?;
    let fault = boot_ns();
    let requests = ground.clients.requests();
    let disturbed = watched_as_unwatched(&requests, unwatched, watched, fault)?;
    let ends = fall_ill(cast, planned, &agent, &mut ground, fault)?;
    // Without later steps the fault is there from the start.
    let since = if planned.steps.is_empty() { watched } else { fault };
    let course = Course { since, fault, to: boot_ns(), ends, disturbed };
    judged(planned, &agent, &ground, &course, played)
}

/// How an episode went.
struct Course {
    /// The time from which the agent may act.
    since: u64,
    fault: u64,
    to: u64,
    /// How often the service had ended.
    ends: u32,
    /// Whether its clients were served worse since the agent watches.
    disturbed: bool,
}

/// Judges what the agent did, if the fault has happened.
fn judged(
    episode: &Planned,
    agent: &Agent,
    ground: &Ground,
    course: &Course,
    played: &mut Played,
) -> Result<()> {
    let Course { since, fault, to, ends, mut disturbed } = *course;
    let acts = acts(&agent.lines());
    let (early, late): (Vec<Act>, Vec<Act>) = acts.iter().partition(|act| act.at < since);
    played.did = strongest(&acts);
    let act = late.iter().find(|act| act.did == strongest(&late));
    played.act_after_s = act.map(|act| tenths(act.at.saturating_sub(since) as f64 / 1e9));
    played.why = why(&agent.lines());
    let restarted = acts.iter().find(|act| act.did == Did::Restart);
    // What ends the fault ends what its clients see of it.
    let ends_by_soft = episode.right == [Did::Soft];
    let reset = acts.iter().find(|act| act.did == Did::Soft && ends_by_soft);
    let until = restarted.or(reset).map_or(to, |act| act.at);
    let mut requests = ground.clients.requests();
    if restarted.is_some() {
        leave_out_broken_off(&mut requests, until);
    }
    played.truth = summary(&requests, fault, until);
    agent.metric("up").context("the agent itself no longer answers")?;
    if strongest(&early) == Did::Restart {
        // The verdict holds whether the fault happened or not.
        played.verdict = Verdict::WrongRestart;
        return Ok(());
    }
    match happened(episode, &requests, fault, until) {
        // Only the agent was added.
        Err(_) if episode.steps.is_empty() => disturbed = true,
        Err(_) if disturbed => {}
        other => other.with_context(|| format!("clients were given {}", played.truth))?,
    }
    let unexplained = ends.saturating_sub(ground.restarts + u32::from(restarted.is_some()));
    ensure!(episode.ends || unexplained == 0, "the service ended by itself");
    ensure!(!episode.ends || ends > 0, "the service did not end");
    let has_quota = episode.steps.iter().any(|(_, step)| matches!(step, Step::Quota(_)));
    ensure!(!has_quota || ground.service.cgroup.throttled() > 0, "the quota did not bite");
    let has_ended = ends > ground.restarts;
    let is_cured = has_ended || episode.holds;
    played.verdict = match judge(episode.right, strongest(&early), strongest(&late), is_cured) {
        _ if episode.holds && has_ended => Verdict::WrongRestart,
        Verdict::Right if disturbed => Verdict::Disturbed,
        verdict => verdict,
    };
    Ok(())
}

impl Cast<'_> {
    pub(super) fn wait(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.interrupt.check()?;
            thread::sleep(STEP);
        }
        Ok(())
    }

    fn agent(&self, planned: &Planned, ground: &Ground, state: &Path) -> Result<Agent> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.programs.agent);
        command.args(["--log", "json", "watch", &ground.url()]);
        command.args(["--max-remedy", "restart", "--state-dir"]).arg(state);
        command.args(planned.arguments);
        Agent::spawn(command, |_| ())
    }

    /// Whether it sees the service; some it does not find.
    fn is_ready(&self, agent: &Agent) -> Result<bool> {
        let deadline = Instant::now() + READY;
        while !agent.is_ready() {
            self.interrupt.check()?;
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(STEP);
        }
        Ok(true)
    }
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
