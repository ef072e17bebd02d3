//! Resizes a container through the engine's update. The engine has no template: the owner's own
//! limit is the one that the container had when the agent first wanted to change it, which the
//! caller keeps.
use bollard::models::{ContainerInspectResponse, ContainerUpdateBody};
use paramedic_core::{
    resize::{NoResize, Reason, Resource, Step},
    target::ContainerRef,
};

use crate::{Engine, EngineError, container::running};

/// The engine's own period of a CPU quota, in microseconds.
const PERIOD_US: i64 = 100_000;
/// Nanoseconds of a CPU in one millicore, as the engine counts.
const NANO_CPUS: i64 = 1_000_000;

/// What became of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Updated {
    /// The engine has done it.
    Given,
    /// Nothing was done.
    Refused(NoResize),
    /// It may have been done.
    Unknown(String),
}

/// The present limit of the judged container.
///
/// # Errors
/// It has none, or is no longer the one that was judged.
pub async fn limit(
    engine: &Engine,
    judged: &ContainerRef,
    resource: Resource,
) -> Result<u64, NoResize> {
    limit_of(&look(engine, judged).await?, resource).ok_or_else(|| Reason::NoLimit.into())
}

/// Changes one limit, if it is still what the step begins with.
pub async fn resize(engine: &Engine, judged: &ContainerRef, step: &Step) -> Updated {
    let seen = match look(engine, judged).await {
        Ok(seen) => seen,
        Err(no) => return Updated::Refused(no),
    };
    if limit_of(&seen, step.resource) != Some(step.from) {
        return Updated::Refused(Reason::Conflict.into());
    }
    let Some(update) = update(&seen, step) else {
        return Updated::Refused(Reason::NoLimit.into());
    };
    match engine.update(&judged.id, update).await {
        Ok(()) => Updated::Given,
        Err(EngineError::Refused(why)) => Updated::Refused(NoResize::new(Reason::Invalid, why)),
        Err(
            error @ (EngineError::Absent(_) | EngineError::Denied(_) | EngineError::NoContainer(_)),
        ) => Updated::Refused(no_answer(&error)),
        Err(error) => Updated::Unknown(error.to_string()),
    }
}

async fn look(
    engine: &Engine,
    judged: &ContainerRef,
) -> Result<ContainerInspectResponse, NoResize> {
    let seen = engine.inspect(&judged.id).await.map_err(|error| no_answer(&error))?;
    match running(&seen) {
        Ok(now) if now == *judged => Ok(seen),
        Ok(_) => Err(NoResize::new(Reason::Identity, "it has changed since it was judged")),
        Err(why) => Err(NoResize::new(Reason::Identity, why.to_string())),
    }
}

fn no_answer(error: &EngineError) -> NoResize {
    NoResize::new(Reason::ApiServer, error.to_string())
}

/// Millicores by `--cpus` or `--cpu-quota`, or bytes by `--memory`.
fn limit_of(seen: &ContainerInspectResponse, resource: Resource) -> Option<u64> {
    let host = seen.host_config.as_ref()?;
    let set = |value: Option<i64>| value.filter(|value| *value > 0);
    let limit = match resource {
        Resource::Memory => set(host.memory)?,
        Resource::Cpu => match set(host.nano_cpus) {
            Some(nano_cpus) => nano_cpus / NANO_CPUS,
            None => {
                let period = set(host.cpu_period).unwrap_or(PERIOD_US);
                set(host.cpu_quota)?.checked_mul(1000)? / period
            }
        },
    };
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// The update in the terms in which the limit was set. Swap grows and shrinks with memory: the engine
/// counts both together, and refuses a memory limit beyond that sum.
fn update(seen: &ContainerInspectResponse, step: &Step) -> Option<ContainerUpdateBody> {
    let host = seen.host_config.as_ref()?;
    let set = |value: Option<i64>| value.filter(|value| *value > 0);
    let (from, to) = (i64::try_from(step.from).ok()?, i64::try_from(step.to).ok()?);
    Some(match step.resource {
        Resource::Memory => ContainerUpdateBody {
            memory: Some(to),
            memory_swap: set(host.memory_swap).map(|both| both.saturating_add(to - from)),
            ..ContainerUpdateBody::default()
        },
        Resource::Cpu if set(host.nano_cpus).is_some() => ContainerUpdateBody {
            nano_cpus: Some(to.checked_mul(NANO_CPUS)?),
            ..ContainerUpdateBody::default()
        },
        Resource::Cpu => {
            let period = set(host.cpu_period).unwrap_or(PERIOD_US);
            ContainerUpdateBody {
                cpu_period: Some(period),
                cpu_quota: Some(to.checked_mul(period)? / 1000),
                ..ContainerUpdateBody::default()
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::HostConfig;

    use super::*;

    fn container(host: HostConfig) -> ContainerInspectResponse {
        ContainerInspectResponse { host_config: Some(host), ..ContainerInspectResponse::default() }
    }

    fn step(resource: Resource, from: u64, to: u64) -> Step {
        Step { resource, from, to, base: from }
    }

    #[test]
    fn a_limit_of_cpu_is_changed_in_the_terms_in_which_it_was_set() {
        let by_cpus =
            container(HostConfig { nano_cpus: Some(500_000_000), ..HostConfig::default() });
        assert_eq!(limit_of(&by_cpus, Resource::Cpu), Some(500));
        let body = update(&by_cpus, &step(Resource::Cpu, 500, 750)).unwrap();
        assert_eq!((body.nano_cpus, body.cpu_quota), (Some(750_000_000), None));
        let by_quota = container(HostConfig {
            cpu_quota: Some(25_000),
            cpu_period: Some(50_000),
            ..HostConfig::default()
        });
        assert_eq!(limit_of(&by_quota, Resource::Cpu), Some(500));
        let body = update(&by_quota, &step(Resource::Cpu, 500, 750)).unwrap();
        assert_eq!(
            (body.nano_cpus, body.cpu_quota, body.cpu_period),
            (None, Some(37_500), Some(50_000))
        );
    }

    #[test]
    fn swap_moves_with_memory_unless_it_is_unlimited() {
        let memory = |swap| {
            let host = HostConfig { memory: Some(100), memory_swap: swap, ..HostConfig::default() };
            let seen = container(host);
            assert_eq!(limit_of(&seen, Resource::Memory), Some(100));
            let body = update(&seen, &step(Resource::Memory, 100, 125)).unwrap();
            (body.memory, body.memory_swap)
        };
        assert_eq!(memory(Some(200)), (Some(125), Some(225)));
        assert_eq!(memory(Some(-1)), (Some(125), None));
        assert_eq!(memory(Some(0)), (Some(125), None));
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_change() {
        for host in [
            HostConfig::default(),
            HostConfig {
                memory: Some(0),
                nano_cpus: Some(0),
                cpu_quota: Some(-1),
                ..HostConfig::default()
            },
        ] {
            let seen = container(host);
            assert_eq!(limit_of(&seen, Resource::Cpu), None);
            assert_eq!(limit_of(&seen, Resource::Memory), None);
        }
    }
}
