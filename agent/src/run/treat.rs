//! Gives one remedy: the intention on disk first, then the act, then word of it.
use std::sync::Arc;

use tokio::{sync::mpsc, task::spawn_blocking};
use tracing::{error, warn};

use super::{Config, Done, senses::Life};
use crate::{
    decide::Brain,
    engine::{Index, Intent},
    heal::{restart, soft},
    record::{SharedJournal, intent_of},
    signal::health::{Endpoint, Responses},
    target::{Rung, Target, process, procfs::Tree},
};

/// What is to be done, to whom, and why.
pub(super) struct Treatment {
    pub(super) index: Index,
    pub(super) life: Option<Life>,
    pub(super) target: Target,
    pub(super) intent: Intent,
    pub(super) brain: Arc<Brain>,
    pub(super) config: Arc<Config>,
    pub(super) journal: Option<SharedJournal>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Treated {
    pub(super) index: Index,
    /// The instance that was treated.
    pub(super) life: Option<Life>,
    pub(super) incident: Option<i64>,
    pub(super) failed: Option<String>,
    /// Responses that the remedy drew from the target.
    pub(super) responses: Responses,
}

/// Treats, and reports to the loop.
pub(super) async fn treat(treatment: Treatment, done: mpsc::Sender<Done>) {
    let treated = Box::pin(give(treatment)).await;
    // The loop is gone only when the agent stops; the journal holds what matters.
    let _ = done.send(Done::Treated(treated)).await;
}

async fn give(treatment: Treatment) -> Treated {
    let Treatment { index, life, target, intent, brain, config, journal } = treatment;
    let rung = intent.rung;
    let mut treated = Treated { index, life, incident: None, failed: None, responses: [0; 5] };
    match write_down(journal, brain, &target, intent).await {
        Ok(incident) => treated.incident = incident,
        Err(reason) if rung.is_hard() => {
            treated.failed = Some(reason);
            return treated;
        }
        Err(reason) => warn!(reason, "a soft heal goes on without its journal entry"),
    }
    match rung {
        Rung::Soft => {
            let (failed, responses) = reset(&target).await;
            treated.failed = failed;
            treated.responses = responses;
        }
        Rung::Restart => treated.failed = restart(&target, &config).await,
        Rung::Observe | Rung::Evict => {
            treated.failed = Some(format!("{} is no remedy for a process", rung.name()));
        }
    }
    treated
}

/// The intention, durable on disk before anything is done; its number in the journal.
async fn write_down(
    journal: Option<SharedJournal>,
    brain: Arc<Brain>,
    target: &Target,
    intent: Intent,
) -> Result<Option<i64>, String> {
    let Some(journal) = journal else { return Ok(None) };
    let target = target.clone();
    let written = spawn_blocking(move || journal.intend(&intent_of(&target, &intent, &brain)));
    match written.await {
        Ok(Ok(incident)) => Ok(Some(incident)),
        Ok(Err(error)) => {
            error!(%error, "the journal takes no intentions: no hard heals until it does");
            Err(format!("not done, since the intention could not be written down: {error}"))
        }
        Err(panicked) => Err(format!("not done, since the journal failed: {panicked}")),
    }
}

async fn reset(target: &Target) -> (Option<String>, Responses) {
    let Some(address) = target.address else {
        return (Some("it gets no HTTP from the agent".to_owned()), [0; 5]);
    };
    match Endpoint::new(address, &target.host, &target.heal_path) {
        Ok(endpoint) => {
            let reset = soft::reset_errors(&endpoint).await;
            (reset.result.err().map(|error| error.to_string()), reset.responses)
        }
        Err(error) => (Some(error.to_string()), [0; 5]),
    }
}

async fn restart(target: &Target, config: &Config) -> Option<String> {
    if let Err(error) = still_serves(target).await {
        return Some(error);
    }
    let restart = restart::Restart {
        command: config.restart_command.clone(),
        grace: config.grace,
        ..restart::Restart::default()
    };
    let restarted = restart.run(&Tree::default(), &target.id.instance, &target.cgroups).await;
    restarted.err().map(|error| error.to_string())
}

/// Whether the judged instance still owns the port. In a graceful handover the old process drains
/// while the new one serves, and what was seen is the new one's.
async fn still_serves(target: &Target) -> Result<(), String> {
    let Some(address) = target.address else { return Ok(()) };
    let found = spawn_blocking(move || {
        process::discover(&Tree::default(), address.port(), &[address.ip()])
    });
    let listener = match found.await {
        Ok(Ok(listener)) => listener,
        Ok(Err(error)) => return Err(format!("nothing was done: {error}")),
        Err(panicked) => return Err(format!("nothing was done: {panicked}")),
    };
    if listener.instance.to_string() == target.id.instance {
        return Ok(());
    }
    Err(format!("nothing was done: process {} serves there now", listener.instance))
}
