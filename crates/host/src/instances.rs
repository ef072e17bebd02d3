//! The instances of targets on this machine: finds a container's, and reports the end of one.
//!
//! [`Instances`] is a trait so that the trackers of pods and containers also run against a
//! simulated machine.
use std::{io, pin::Pin, sync::Arc, time::Duration};

use paramedic_core::target::{Change, ProcessId};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, spawn_blocking},
    time::sleep,
};

use crate::{
    container::{Container, ContainerError, Containers},
    pidfd::PidFd,
    procfs::Tree,
};

/// A boxed future.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// If the kernel cannot report the end of a process: interval of the checks.
const ALIVE_CHECK: Duration = Duration::from_secs(1);

/// The instances on one machine.
pub trait Instances: Send + Sync {
    /// The container of this id, if it runs on this machine.
    fn container(&self, id: &str) -> Later<'_, Result<Container, ContainerError>>;
    /// Waits for the end of a process.
    fn ended(&self, instance: ProcessId) -> Later<'_, ()>;
}

/// The instances on this machine.
#[derive(Clone, Debug, Default)]
pub struct LocalInstances {
    containers: Arc<Mutex<Containers>>,
}

impl Instances for LocalInstances {
    fn container(&self, id: &str) -> Later<'_, Result<Container, ContainerError>> {
        let id = id.to_owned();
        let containers = Arc::clone(&self.containers);
        Box::pin(async move {
            let find = move || {
                let mut known = containers.lock();
                known.find(&Tree::default(), &id)
            };
            match spawn_blocking(find).await {
                Ok(found) => found,
                Err(panicked) => Err(io::Error::other(panicked).into()),
            }
        })
    }

    fn ended(&self, instance: ProcessId) -> Later<'_, ()> {
        Box::pin(ended(instance))
    }
}

/// Waits until the process has ended.
pub async fn ended(instance: ProcessId) {
    let tree = Tree::default();
    let pinned = PidFd::open(instance.pid);
    // In this order: the pinned process is the one that is alive now.
    while tree.still_alive(instance) {
        match &pinned {
            Ok(pinned) if pinned.ended().await.is_ok() => return,
            _ => sleep(ALIVE_CHECK).await,
        }
    }
}

/// Waits for the end of a container's first process, which the kernel reports before anything else;
/// cancelled when dropped.
#[derive(Debug)]
pub struct ExitWatch(AbortHandle);

impl Drop for ExitWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ExitWatch {
    /// Sends [`Change::Lost`] when `main`, the first process of this instance of the target, has
    /// ended.
    #[must_use]
    pub fn begin(
        instances: &Arc<dyn Instances>,
        changes: &mpsc::Sender<Change>,
        main: ProcessId,
        uid: String,
        instance: String,
    ) -> Self {
        let (instances, changes) = (Arc::clone(instances), changes.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = instances.ended(main) => {
                    // The receiver is gone only when the agent stops.
                    let _ = changes.send(Change::Lost { uid, instance }).await;
                }
                () = changes.closed() => {}
            }
        });
        Self(task.abort_handle())
    }
}

/// For tests: a machine on which every container runs forever; the function returns its first
/// process.
#[cfg(any(test, feature = "testing"))]
pub struct Unchanging<F>(pub F);

#[cfg(any(test, feature = "testing"))]
impl<F: Fn(&str) -> i32 + Send + Sync> Instances for Unchanging<F> {
    fn container(&self, id: &str) -> Later<'_, Result<Container, ContainerError>> {
        let found = Container {
            cgroups: paramedic_core::target::Cgroups::default(),
            main: ProcessId { pid: self.0(id), start_time: 1 },
            started: paramedic_core::boot_time::BootTime::default(),
        };
        Box::pin(async { Ok(found) })
    }

    fn ended(&self, _: ProcessId) -> Later<'_, ()> {
        Box::pin(std::future::pending())
    }
}
