//! Overload: all targets of one agent get too many requests at the same time. One that hangs alone
//! would be restarted; together they lack capacity, and a restart would reduce it further.
use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{
    grade,
    kind::Kind,
    plan::{Episode, Load},
    record::{BEFORE, wait},
    subject::Subject,
    truth,
};
use crate::stage::{Interrupt, Programs, boot_ns};

const TARGETS: u32 = 4;
/// Clients of each target, which send the next request as soon as one is answered. Each answer
/// takes 20 ms of CPU, so far fewer would fill this machine's cores.
const CLIENTS_A_CORE: u32 = 30;
const LASTS: Duration = Duration::from_secs(40);

/// What the agent did about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Overload {
    pub(crate) patients: u32,
    /// Those that did not serve their clients well.
    pub(crate) drowned: u32,
    /// Remedies.
    pub(crate) soft: u32,
    pub(crate) hard: u32,
    /// Refusals by gate, as far as the agent logged them.
    pub(crate) refused: BTreeMap<String, u32>,
}

pub(crate) fn play(
    programs: &Programs,
    seed: u64,
    arguments: &[String],
    interrupt: &Interrupt,
) -> Result<Overload> {
    let mut subjects = Vec::new();
    for id in 0..TARGETS {
        interrupt.check()?;
        let seed = seed.wrapping_add(id.into());
        let episode =
            Episode { id, kind: Kind::Quota, intensity: 0.5, load: Load::Idle, quota: None, seed };
        subjects.push(Subject::prepare(programs, &episode, &format!("overload-{id}"), None)?);
    }
    let state = tempfile::tempdir()?;
    let urls = subjects.iter().map(|subject| subject.patient.url.clone()).collect();
    let agent = grade::agent(programs, urls, state.path(), arguments)?;
    subjects.iter_mut().for_each(Subject::open);
    wait(BEFORE, interrupt)?;
    let cores = thread::available_parallelism().map_or(2, |cores| cores.get() as u32);
    for subject in &mut subjects {
        subject.clients.surge(CLIENTS_A_CORE * cores, 20);
    }
    wait(LASTS, interrupt)?;
    let end = boot_ns();
    let is_drowned = |subject: &&Subject| {
        let requests = subject.clients.requests();
        !truth::is_well(&requests, end.saturating_sub(truth::JUDGED_NS), end)
    };
    let drowned = subjects.iter().filter(is_drowned).count() as u32;
    ensure!(agent.is_ready(), "the agent does not answer");
    let mut seen = Overload { patients: TARGETS, drowned, ..Overload::default() };
    for line in agent.lines() {
        match line.message() {
            "healing" if line.text("remedy") == "soft" => seen.soft += 1,
            "healing" => seen.hard += 1,
            "not healed" => *seen.refused.entry(line.text("gate").to_owned()).or_default() += 1,
            _ => {}
        }
    }
    Ok(seen)
}
