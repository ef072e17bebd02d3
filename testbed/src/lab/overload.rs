//! Overload: all patients of one agent are drowned in requests at the same time. Each alone hangs, and
//! would be restarted; together they lack room, and a restart would take away even what there is.
use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{
    grade,
    kind::Kind,
    plan::{Episode, Load},
    record::{BEFORE, wait},
    truth,
    ward::Bed,
};
use crate::stage::{Interrupt, Programs, boot_ns};

const PATIENTS: u32 = 4;
/// Clients of each, who ask again as soon as they are answered: with 20 ms of CPU for each answer it
/// takes far fewer to fill this machine's cores.
const CLIENTS_A_CORE: u32 = 30;
const LASTS: Duration = Duration::from_secs(40);

/// What the agent did about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Overload {
    pub(crate) patients: u32,
    /// Of these, whose clients were not served well.
    pub(crate) drowned: u32,
    /// Remedies.
    pub(crate) soft: u32,
    pub(crate) hard: u32,
    /// What held remedies back, each told once in a while, by gate.
    pub(crate) refused: BTreeMap<String, u32>,
}

pub(crate) fn play(
    programs: &Programs,
    seed: u64,
    arguments: &[String],
    interrupt: &Interrupt,
) -> Result<Overload> {
    let mut beds = Vec::new();
    for id in 0..PATIENTS {
        interrupt.check()?;
        let seed = seed.wrapping_add(id.into());
        let episode =
            Episode { id, kind: Kind::Quota, intensity: 0.5, load: Load::Idle, quota: None, seed };
        beds.push(Bed::prepare(programs, &episode, &format!("overload-{id}"), None)?);
    }
    let state = tempfile::tempdir()?;
    let urls = beds.iter().map(|bed| bed.patient.url.clone()).collect();
    let agent = grade::agent(programs, urls, state.path(), arguments)?;
    beds.iter_mut().for_each(Bed::open);
    wait(BEFORE, interrupt)?;
    let cores = thread::available_parallelism().map_or(2, |cores| cores.get() as u32);
    for bed in &mut beds {
        bed.clients.surge(CLIENTS_A_CORE * cores, 20);
    }
    wait(LASTS, interrupt)?;
    let end = boot_ns();
    let is_drowned = |bed: &&Bed| {
        let requests = bed.clients.requests();
        !truth::is_well(&requests, end.saturating_sub(truth::JUDGED_NS), end)
    };
    let drowned = beds.iter().filter(is_drowned).count() as u32;
    ensure!(agent.is_ready(), "the agent does not answer");
    let mut seen = Overload { patients: PATIENTS, drowned, ..Overload::default() };
    for line in agent.lines() {
        match line.message() {
            "healing" if line.text("rung") == "soft" => seen.soft += 1,
            "healing" => seen.hard += 1,
            "not healed" => *seen.refused.entry(line.text("gate").to_owned()).or_default() += 1,
            _ => {}
        }
    }
    Ok(seen)
}
