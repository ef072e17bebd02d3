//! Follows a watched service through its instances: finds the process that listens on its port,
//! waits for its end, and finds its successor.
use std::{net::IpAddr, sync::Arc, time::Duration};

use paramedic_core::target::{Kind, ProcessId, Settings, Target, TargetId};
use paramedic_host::{
    pidfd::PidFd,
    process::{self, DiscoverError, Listener},
    procfs::Tree,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{error, info, warn};

use super::TaskResult;

/// A service on this machine to watch.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The URL as the user gave it: the target's name and uid.
    pub url: String,
    /// The port that it listens on.
    pub port: u16,
    /// The addresses of this machine at which it may listen, in the order of preference.
    pub addresses: Vec<IpAddr>,
    /// The `Host` header.
    pub host: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its settings.
    pub settings: Settings,
}

/// Delay between two searches for a missing process; doubles up to [`SEARCH_MAX`].
const SEARCH_MIN: Duration = Duration::from_millis(100);
const SEARCH_MAX: Duration = Duration::from_secs(2);
/// If the kernel cannot report the end of a process: interval of the checks.
const ALIVE_CHECK: Duration = Duration::from_secs(1);
/// Maximum number of concurrent scans of the process table: each reads every process's files.
pub(super) const SCANS: usize = 2;

/// Runs until the loop ends.
pub(super) async fn follow(
    watched: Watched,
    scans: Arc<Semaphore>,
    done: mpsc::Sender<TaskResult>,
) {
    let mut told = false;
    let mut pause = SEARCH_MIN;
    while !done.is_closed() {
        let (port, addresses) = (watched.port, watched.addresses.clone());
        let found = {
            let _scan = scans.acquire().await;
            spawn_blocking(move || process::discover(&Tree::default(), port, &addresses)).await
        };
        match found {
            Ok(Ok(listener)) => {
                let instance = listener.instance;
                let target = target_of(&watched, listener);
                if done.send(TaskResult::Found(Box::new(target))).await.is_err() {
                    return;
                }
                (told, pause) = (false, SEARCH_MIN);
                ended(instance).await;
                warn!(
                    target = watched.url, %instance,
                    "the process ended; waiting for its supervisor to start it again"
                );
                let lost =
                    TaskResult::Lost { uid: watched.url.clone(), instance: instance.to_string() };
                if done.send(lost).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => {
                tell_once(&watched, &error, &mut told);
                sleep(pause).await;
                pause = (pause * 2).min(SEARCH_MAX);
            }
            Err(panicked) => {
                error!(error = %panicked, "the search for the process failed");
                sleep(SEARCH_MAX).await;
            }
        }
    }
}

/// Waits until the process has ended.
pub(super) async fn ended(instance: ProcessId) {
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

fn tell_once(watched: &Watched, error: &DiscoverError, told: &mut bool) {
    if !std::mem::replace(told, true) {
        info!(target = watched.url, %error, "waiting for the service");
    }
}

fn target_of(watched: &Watched, listener: Listener) -> Target {
    Target {
        id: TargetId { uid: watched.url.clone(), instance: listener.instance.to_string() },
        name: watched.url.clone(),
        kind: Kind::Process,
        settings: watched.settings.clone(),
        address: Some(listener.address),
        tls: watched.tls,
        host: watched.host.clone(),
        cgroups: listener.cgroups,
        port: Some(watched.port),
        started: listener.started,
        main: Some(listener.instance),
        no_restart: None,
        no_evict: None,
    }
}
