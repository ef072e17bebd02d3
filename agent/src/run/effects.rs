//! The loop's effects besides the kernel and the API server: on apps and their processes.
//!
//! The trait allows the whole loop, with guard and remedies, to run against a simulated cluster
//! thousands of times. [`HostEffects`] is the real implementation.
use std::{fmt, time::Duration};

use paramedic_app::{App, Endpoint, soft, soft::SoftError};
use paramedic_core::{
    boot_time::BootTime,
    engine::Remedied,
    guard::Permit,
    health::{Poll, Responses},
    signal::{CgroupReading, HostFacts, ProcessState},
    target::{HealthAsk, Kind, ProcessId, Remedy, Soft, SoftSignal, Target},
};
use paramedic_docker::{Engine, RestartError};
use paramedic_host::{
    container::{Container, ContainerError},
    instances::{Instances, Later, LocalInstances},
    process,
    procfs::Tree,
    usage::Usage,
    witnesses,
};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::evidence::{Collected, Collector};
use crate::heal::{
    restart,
    signal::{self, SignalError},
};

/// A client of one target's app.
pub(crate) trait Poller: Send + fmt::Debug {
    /// Polls its health.
    fn poll(&mut self, now: BootTime) -> Later<'_, Poll>;
}

impl Poller for App {
    fn poll(&mut self, now: BootTime) -> Later<'_, Poll> {
        Box::pin(Self::poll(self, now))
    }
}

/// Reads the CPU and memory of one target.
pub(crate) trait Meter: Send + fmt::Debug {
    /// What is used, and its limits; `None` if it has ended.
    fn read(&self) -> Option<CgroupReading>;
    /// The state of its main process.
    fn process_state(&self) -> Option<ProcessState>;
}

impl Meter for Usage {
    fn read(&self) -> Option<CgroupReading> {
        Self::read(self).ok()
    }

    fn process_state(&self) -> Option<ProcessState> {
        Self::process_state(self)
    }
}

/// The effects on targets and their processes.
pub(crate) trait Effects: Instances {
    /// A client of the target's app; `None` for a target that gets no HTTP.
    fn poller(&self, target: &Target) -> Option<Box<dyn Poller>>;
    /// What reads the target's CPU and memory; `None` if they cannot be read.
    fn meter(&self, target: &Target) -> Option<Box<dyn Meter>>;
    /// Examines the host before a remedy; `well_at` is when the target was last seen well. A
    /// simulated host shows nothing.
    fn examine<'a>(
        &'a self,
        _: &'a Target,
        _well_at: Option<BootTime>,
    ) -> Later<'a, Option<Box<HostFacts>>> {
        Box::pin(async { None })
    }
    /// Collects what a hard remedy of the target destroys, within `limit`. A simulated host shows
    /// nothing.
    fn collect<'a>(&'a self, _: &'a Target, _limit: Duration) -> Later<'a, Option<Box<Collected>>> {
        Box::pin(async { None })
    }
    /// Asks the app to reset itself; also returns its responses.
    fn reset<'a>(&'a self, target: &'a Target, permit: Permit) -> Later<'a, (Remedied, Responses)>;
    /// Restarts the target.
    fn restart<'a>(&'a self, target: &'a Target, permit: Permit) -> Later<'a, Remedied>;
}

/// The permit is for another remedy.
const NOT_PERMITTED: &str = "another remedy was permitted";

/// A server that is asked by gRPC takes no request in HTTP/1.
const NO_HEAL: &str = "a gRPC server offers no soft remedy: permit restarts";

/// The real machine.
#[derive(Debug, Default)]
pub(crate) struct HostEffects {
    /// Restarts a process-mode target; without it SIGTERM does, and a supervisor.
    pub(crate) restart_command: Option<String>,
    /// Time from SIGTERM to SIGKILL, unless a pod sets its own.
    pub(crate) grace: Duration,
    /// Restarts containers.
    pub(crate) engine: Option<Engine>,
    instances: LocalInstances,
    collector: Collector,
}

impl HostEffects {
    pub(crate) fn new(
        restart_command: Option<String>,
        grace: Duration,
        engine: Option<Engine>,
    ) -> Self {
        Self {
            restart_command,
            grace,
            engine,
            instances: LocalInstances::default(),
            collector: Collector::default(),
        }
    }

    /// Signals the target's main process.
    async fn reload(&self, target: &Target, signal: SoftSignal) -> Remedied {
        let Some(main) = target.main else {
            return Remedied::NotPerformed("its process is unknown".to_owned());
        };
        let sent = match &target.kind {
            Kind::Container(container) => {
                if let Err(error) = signal::is_caught(&Tree::default(), main, signal).await {
                    return refused(&error);
                }
                let Some(engine) = &self.engine else {
                    return Remedied::NotPerformed("the agent has no Docker engine".to_owned());
                };
                return by_engine(paramedic_docker::signal(engine, container, signal).await);
            }
            Kind::Process => match still_serves(target).await {
                Ok(()) => signal::send(&Tree::default(), main, &target.cgroups, signal).await,
                Err(error) => return Remedied::NotPerformed(error),
            },
            Kind::Pod(_) => signal::send(&Tree::default(), main, &target.cgroups, signal).await,
        };
        sent.map_or_else(|error| refused(&error), |()| Remedied::Given)
    }
}

fn by_engine(result: Result<(), RestartError>) -> Remedied {
    match result {
        Ok(()) => Remedied::Given,
        Err(RestartError::NotPerformed(why)) => Remedied::NotPerformed(why),
        Err(RestartError::Failed(why)) => Remedied::Failed(why),
    }
}

fn refused(error: &SignalError) -> Remedied {
    match error {
        SignalError::NotCaught(..) => Remedied::NotOffered(error.to_string()),
        SignalError::Process(_) => Remedied::NotPerformed(error.to_string()),
    }
}

impl Instances for HostEffects {
    fn container(&self, id: &str) -> Later<'_, Result<Container, ContainerError>> {
        self.instances.container(id)
    }

    fn ended(&self, instance: ProcessId) -> Later<'_, ()> {
        self.instances.ended(instance)
    }
}

impl Effects for HostEffects {
    fn poller(&self, target: &Target) -> Option<Box<dyn Poller>> {
        let address = target.address?;
        match App::new(address, target.tls, &target.host, target.settings.health.as_ref()) {
            Ok(app) => Some(Box::new(app)),
            Err(error) => {
                warn!(target = target.name, %error, "no health checks: the endpoint is unusable");
                None
            }
        }
    }

    fn meter(&self, target: &Target) -> Option<Box<dyn Meter>> {
        match Usage::open(&Tree::default(), &target.cgroups, target.main) {
            Ok(usage) => Some(Box::new(usage)),
            Err(error) => {
                warn!(target = target.name, %error, "cannot read its CPU and memory usage");
                None
            }
        }
    }

    fn examine<'a>(
        &'a self,
        target: &'a Target,
        well_at: Option<BootTime>,
    ) -> Later<'a, Option<Box<HostFacts>>> {
        let target = target.clone();
        Box::pin(async move {
            let shown = spawn_blocking(move || {
                let tree = Tree::default();
                let port = target.port.filter(|_| matches!(target.kind, Kind::Process));
                let futile = target
                    .main
                    .and_then(|main| restart::would_not_help(&tree, main, port, well_at));
                let witnesses = witnesses::read(&tree, &target);
                Box::new(HostFacts::of(futile, witnesses))
            });
            // A panic there counts as no objection.
            shown.await.ok()
        })
    }

    fn collect<'a>(
        &'a self,
        target: &'a Target,
        limit: Duration,
    ) -> Later<'a, Option<Box<Collected>>> {
        Box::pin(async move {
            let collected = self.collector.collect(target, self.engine.as_ref(), limit).await;
            Some(Box::new(collected))
        })
    }

    fn reset<'a>(&'a self, target: &'a Target, permit: Permit) -> Later<'a, (Remedied, Responses)> {
        Box::pin(async move {
            if permit.remedy() != Remedy::Soft {
                return (Remedied::NotPerformed(NOT_PERMITTED.to_owned()), [0; 5]);
            }
            let not_performed = |why: String| (Remedied::NotPerformed(why), [0; 5]);
            let request = match &target.settings.soft {
                Soft::Http(request) => request,
                Soft::Signal(signal) => return (self.reload(target, *signal).await, [0; 5]),
                Soft::None => return not_performed("its owner offers no soft remedy".to_owned()),
            };
            let Some(address) = target.address else {
                return not_performed("the agent has no address for its HTTP requests".to_owned());
            };
            let probe = target.settings.health.as_ref();
            if probe.is_some_and(|probe| matches!(probe.asks, HealthAsk::Grpc(_))) {
                return (Remedied::NotOffered(NO_HEAL.to_owned()), [0; 5]);
            }
            match Endpoint::new(address, target.tls, &target.host, &request.path) {
                Ok(endpoint) => {
                    let reset = soft::reset(&endpoint, request).await;
                    let result = match reset.result {
                        Ok(()) => Remedied::Given,
                        Err(error @ SoftError::Unsupported(_)) => {
                            Remedied::NotOffered(error.to_string())
                        }
                        Err(error) => Remedied::Failed(error.to_string()),
                    };
                    (result, reset.responses)
                }
                Err(error) => not_performed(error.to_string()),
            }
        })
    }

    fn restart<'a>(&'a self, target: &'a Target, permit: Permit) -> Later<'a, Remedied> {
        Box::pin(async move {
            if permit.remedy() != Remedy::Restart {
                return Remedied::NotPerformed(NOT_PERMITTED.to_owned());
            }
            let grace = match &target.kind {
                Kind::Container(container) => {
                    let Some(engine) = &self.engine else {
                        return Remedied::NotPerformed("the agent has no Docker engine".to_owned());
                    };
                    return by_engine(paramedic_docker::restart(engine, container).await);
                }
                Kind::Pod(pod) => pod.grace,
                Kind::Process => match still_serves(target).await {
                    Ok(()) => self.grace,
                    Err(error) => return Remedied::NotPerformed(error),
                },
            };
            let Some(main) = target.main else {
                return Remedied::NotPerformed("its process is unknown".to_owned());
            };
            let restart = restart::Restart {
                command: self.restart_command.clone(),
                grace,
                ..restart::Restart::default()
            };
            // A container's port is in its own network, and only its first process is signalled.
            let port = target.port.filter(|_| matches!(target.kind, Kind::Process));
            match restart.run(&Tree::default(), main, &target.cgroups, port).await {
                Ok(_) => Remedied::Given,
                Err(error) if error.is_not_performed() => Remedied::NotPerformed(error.to_string()),
                Err(error) => Remedied::Failed(error.to_string()),
            }
        })
    }
}

/// Whether the judged instance still owns the port. In a graceful handover the old process drains
/// while the new one serves, and the samples are the new one's.
async fn still_serves(target: &Target) -> Result<(), String> {
    let Some(address) = target.address else { return Ok(()) };
    let found = spawn_blocking(move || {
        process::discover(&Tree::default(), address.port(), &[address.ip()])
    });
    let listener = match found.await {
        Ok(Ok(listener)) => listener,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(panicked) => return Err(panicked.to_string()),
    };
    if listener.instance.to_string() == target.id.instance {
        return Ok(());
    }
    Err(format!("process {} has its port now", listener.instance))
}
