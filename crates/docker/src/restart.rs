//! Restarts a container, or signals its first process, if it is still the instance that was judged.
use std::time::Duration;

use paramedic_core::target::{ContainerRef, SoftSignal};
use tokio::time::timeout;
use tracing::error;

use crate::{
    Engine, EngineError,
    container::{NotWatchable, running},
};

/// Timeout of all checks with the engine before the act, so that the verdict does not become
/// outdated.
const CHECKS: Duration = Duration::from_secs(3);

/// Why a container was not restarted.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// Nothing was done.
    #[error("{0}")]
    NotPerformed(String),
    /// Something may have been done.
    #[error("{0}")]
    Failed(String),
}

/// Restarts through the engine: if a signal ended a container's process, the engine would count
/// that as a failure, or as a stop for good.
///
/// # Errors
/// See [`RestartError`].
pub async fn restart(engine: &Engine, judged: &ContainerRef) -> Result<(), RestartError> {
    in_time(may_restart(engine, judged)).await?;
    let Err(error) = engine.restart(&judged.id, judged.grace).await else { return Ok(()) };
    let error = RestartError::of(&error);
    if matches!(error, RestartError::NotPerformed(_)) {
        return Err(error);
    }
    // A container that was stopped and not started again is worse off than a sick one.
    let is_down = async || match engine.inspect(&judged.id).await {
        Ok(seen) => running(&seen) == Err(NotWatchable::NotRunning),
        Err(_) => false,
    };
    if is_down().await && engine.start(&judged.id).await.is_err() {
        error!(container = judged.name, %error, "Docker stopped the container and cannot start it again");
    }
    Err(error)
}

/// Signals the first process of a container through the engine, which needs no right of the agent.
///
/// # Errors
/// See [`RestartError`]. The caller has made sure that the process catches the signal.
pub async fn signal(
    engine: &Engine,
    judged: &ContainerRef,
    signal: SoftSignal,
) -> Result<(), RestartError> {
    in_time(is_judged(engine, judged)).await?;
    engine.signal(&judged.id, signal).await.map_err(|error| RestartError::of(&error))
}

impl RestartError {
    /// What an error of the engine says of the act.
    fn of(error: &EngineError) -> Self {
        match error {
            EngineError::Absent(_) | EngineError::Denied(_) => {
                Self::NotPerformed(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The checks before an act, within [`CHECKS`].
async fn in_time(checks: impl Future<Output = Result<(), String>>) -> Result<(), RestartError> {
    let slow = |_| Err("the Docker engine is too slow".to_owned());
    timeout(CHECKS, checks).await.unwrap_or_else(slow).map_err(RestartError::NotPerformed)
}

/// Checks that it is still the judged instance, at the judged address.
async fn is_judged(engine: &Engine, judged: &ContainerRef) -> Result<(), String> {
    let seen = engine.inspect(&judged.id).await.map_err(|error| error.to_string())?;
    let name = &judged.name;
    match running(&seen) {
        Ok(now) if now == *judged => Ok(()),
        Ok(_) => Err(format!("container {name} has changed since it was judged")),
        Err(why) => Err(format!("container {name}: {why}")),
    }
}

/// Checks that it is still the judged instance, and that no other container uses its network.
async fn may_restart(engine: &Engine, judged: &ContainerRef) -> Result<(), String> {
    is_judged(engine, judged).await?;
    let name = &judged.name;
    match engine.guest_of(&judged.id).await {
        Ok(None) => Ok(()),
        Ok(Some(guest)) => Err(format!(
            "container {guest} uses the network of {name}, which ends with it: restart both"
        )),
        Err(error) => Err(error.to_string()),
    }
}
