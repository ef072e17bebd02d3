//! The part of an episode with the fault: its steps, and the effect of a restart.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{
    account::{FELT, acts},
    ask::{self, Given},
    episode::Episode,
    ground::Ground,
    plan::Planned,
    play::{Cast, STEP},
    truth::Seen,
    verdict::Did,
};
use crate::stage::{agent::Agent, boot_ns};

/// From a restart to the end of the process: 10 s of grace, and a kill.
const ENDS: Duration = Duration::from_secs(16);
/// An agent may act this soon after a fault.
const AT_ONCE: Duration = Duration::from_millis(700);
/// From a restart to clients that are served again.
const CURED: Duration = Duration::from_secs(20);

/// Takes the steps, and gives the agent time, but less once it has restarted the service. Returns
/// how often the service had ended by then.
pub(super) fn fall_ill(
    cast: &Cast<'_>,
    episode: &Planned,
    agent: &Agent,
    ground: &mut Ground,
    fault: u64,
) -> Result<u32> {
    let begun = Instant::now();
    let mut steps = episode.steps.iter().peekable();
    let mut asked = episode.health.is_none();
    // A changed answer shows at once. When answers are to end, a worker may still give some.
    let answered = match episode.health {
        Some(Given::Status(_)) => AT_ONCE,
        _ => FELT,
    };
    while begun.elapsed() < Duration::from_secs(episode.seconds) {
        cast.interrupt.check()?;
        while let Some((_, step)) =
            steps.next_if(|(at, _)| begun.elapsed() >= Duration::from_secs(*at))
        {
            ground.take(*step)?;
        }
        let restarted = acts(&agent.lines()).iter().any(|act| act.did == Did::Restart);
        if restarted {
            return wait_for_the_end(cast, episode, ground);
        }
        if !asked && begun.elapsed() >= answered {
            asked = true;
            let given = ask::get(ground.port, health_path(episode));
            // A restart in between may have ended the fault.
            let is_cured = acts(&agent.lines()).iter().any(|act| act.at >= fault);
            if Some(given) != episode.health && !is_cured {
                bail!("the health report should give {:?}, and gave {given:?}", episode.health);
            }
        }
        thread::sleep(STEP);
    }
    Ok(ground.service.ends())
}

fn health_path(episode: &Episode) -> &'static str {
    match episode.arguments {
        ["--health-path", path] => path,
        _ => "/health",
    }
}

/// Waits for the end of the restarted process and, if a restart ends the fault, for good answers.
fn wait_for_the_end(cast: &Cast<'_>, episode: &Episode, ground: &Ground) -> Result<u32> {
    let deadline = Instant::now() + ENDS;
    while Instant::now() < deadline {
        cast.interrupt.check()?;
        let ends = ground.service.ends();
        if ends > ground.restarts && episode.right == [Did::Restart] {
            let end = boot_ns();
            cast.interrupt.until("the restart cures", CURED, STEP, || {
                let requests = ground.clients.requests();
                let last = requests.iter().rev().take(5);
                let well = last.filter(|r| r.at > end && Seen::Well.is(r.given)).count();
                ensure!(well == 5, "clients are not served again");
                Ok(())
            })?;
            return Ok(ends);
        }
        if ends > ground.restarts {
            // The restart did not help. The episode ends when the process listens again.
            let _ = cast.interrupt.until("it is there again", CURED, STEP, || {
                ensure!(matches!(ask::listens(ground.port), Given::Status(_)), "it is not");
                Ok(())
            });
            return Ok(ends);
        }
        thread::sleep(STEP);
    }
    Ok(ground.service.ends())
}
