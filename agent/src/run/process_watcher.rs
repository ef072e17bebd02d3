//! Follows a watched service through its instances: finds the process that listens on its port,
//! waits for its end, and finds its successor.
use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use paramedic_core::target::{Change, Kind, Target, TargetId, WatchedService};
use paramedic_host::{
    instances::ended,
    process::{self, DiscoverError, Listener},
    procfs::Tree,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{error, info, warn};

/// Delay between two searches for a missing process.
const SEARCH: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(MAX_SEARCH)
    .without_max_times();
const MAX_SEARCH: Duration = Duration::from_secs(2);
/// Maximum number of concurrent scans of the process table: each reads every process's files.
pub(super) const MAX_SCANS: usize = 2;

/// Tracks the process of a service until the receiver of the changes is dropped.
pub(super) async fn track_service(
    service: WatchedService,
    scans: Arc<Semaphore>,
    changes: mpsc::Sender<Change>,
) {
    let mut reported = false;
    let mut delays = SEARCH.build();
    while !changes.is_closed() {
        let (port, addresses) = (service.port, service.addresses.clone());
        let found = {
            let _scan = scans.acquire().await;
            spawn_blocking(move || process::discover(&Tree::default(), port, &addresses)).await
        };
        match found {
            Ok(Ok(listener)) => {
                let instance = listener.instance;
                let target = target_of(&service, listener);
                if changes.send(Change::Found(Box::new(target))).await.is_err() {
                    return;
                }
                (reported, delays) = (false, SEARCH.build());
                ended(instance).await;
                warn!(
                    target = service.url, %instance,
                    "the process ended; waiting for its supervisor to start it again"
                );
                let lost =
                    Change::Lost { uid: service.url.clone(), instance: instance.to_string() };
                if changes.send(lost).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => {
                report_once(&service, &error, &mut reported);
                sleep(delays.next().unwrap_or(MAX_SEARCH)).await;
            }
            Err(panicked) => {
                error!(error = %panicked, "the search for the process failed");
                sleep(MAX_SEARCH).await;
            }
        }
    }
}

fn report_once(service: &WatchedService, error: &DiscoverError, reported: &mut bool) {
    if !std::mem::replace(reported, true) {
        info!(target = service.url, %error, "waiting for the service");
    }
}

fn target_of(service: &WatchedService, listener: Listener) -> Target {
    Target {
        id: TargetId { uid: service.url.clone(), instance: listener.instance.to_string() },
        name: service.url.clone(),
        kind: Kind::Process,
        settings: service.settings.clone(),
        address: Some(listener.address),
        tls: service.tls,
        host: service.host.clone(),
        cgroups: listener.cgroups,
        port: Some(service.port),
        started: listener.started,
        main: Some(listener.instance),
        version: listener.version,
        no_restart: None,
        no_evict: None,
    }
}
