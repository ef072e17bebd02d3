//! The requests about single containers: one at a time for each, repeated while they fail.
use std::{collections::hash_map::Entry, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bollard::models::ContainerInspectResponse;
use paramedic_host::{
    container::{Container, ContainerError},
    instances::Instances,
};
use tokio::{task::AbortHandle, time::sleep};

use super::{ContainerTracker, Selection};
use crate::{
    EngineError,
    container::{NotWatchable, WatchedContainer, by_labels, by_name, plain},
};

/// Delay before asking again about a container that the engine could not report on, or that is not
/// ready to be watched.
const RETRY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(25))
    .without_max_times();

/// A request about a container.
pub(super) enum Request {
    /// It is in flight.
    InFlight {
        /// The container has changed meanwhile.
        again: bool,
        retry: Retry,
    },
    /// It will be made after a delay.
    Delayed(AbortHandle),
}

/// How often a request was retried, and the delays before the next retries.
pub(super) struct Retry {
    pub(super) retries: u32,
    delays: ExponentialBackoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self { retries: 0, delays: RETRY.with_jitter().build() }
    }
}

/// The engine's and the machine's facts about one container.
pub(super) struct Answer {
    /// The id or name of the request.
    pub(super) asked: String,
    pub(super) result: Result<Report, EngineError>,
}

pub(super) struct Report {
    /// Its name in this tracker.
    pub(super) name: String,
    pub(super) found: Result<(WatchedContainer, Result<Container, ContainerError>), NotWatchable>,
}

impl ContainerTracker {
    /// Asks the engine about a container. If a request is in flight, another one follows it.
    pub(super) fn ask(&mut self, asked: String, retry: Retry) {
        match self.requests.entry(asked.clone()) {
            Entry::Occupied(mut request) => {
                if let Request::InFlight { again, .. } = request.get_mut() {
                    *again = true;
                    return;
                }
                let delayed = request.insert(Request::InFlight { again: false, retry });
                if let Request::Delayed(timer) = delayed {
                    timer.abort();
                }
            }
            Entry::Vacant(none) => drop(none.insert(Request::InFlight { again: false, retry })),
        }
        let (config, instances) = (Arc::clone(&self.config), Arc::clone(&self.instances));
        let permits = Arc::clone(&self.permits);
        self.answers.spawn(async move {
            let _permit = permits.acquire().await;
            let result = match config.engine.inspect(&asked).await {
                Ok(seen) => Ok(report(&config.selection, &*instances, &seen).await),
                Err(error) => Err(error),
            };
            Answer { asked, result }
        });
    }

    /// Asks again after a delay, unless another request is under way.
    pub(super) fn ask_later(&mut self, asked: String, mut retry: Retry) {
        let Entry::Vacant(request) = self.requests.entry(asked.clone()) else { return };
        retry.retries = retry.retries.saturating_add(1);
        let delay = retry.delays.next().unwrap_or_default();
        let timer = self.delayed.spawn(async move {
            sleep(delay).await;
            (asked, retry)
        });
        request.insert(Request::Delayed(timer));
    }
}

/// Interprets the engine's report on a container, and finds it on this machine.
async fn report(
    selection: &Selection,
    instances: &dyn Instances,
    seen: &ContainerInspectResponse,
) -> Report {
    let (name, watched) = match selection {
        Selection::Labelled => (plain(seen.name.as_deref().unwrap_or_default()), by_labels(seen)),
        // The name may be its id, or the beginning of it.
        Selection::Named(name, service) => {
            let found = by_name(seen, service.port, &service.addresses);
            let watched = found.map(|(container, address, no_restart)| WatchedContainer {
                container,
                settings: service.settings.clone(),
                no_restart,
                address: Some(address),
                invalid_settings: Vec::new(),
            });
            (name.as_str(), watched)
        }
    };
    let found = match watched {
        Ok(watched) => {
            let container = instances.container(&watched.container.id).await;
            Ok((watched, container))
        }
        Err(why) => Err(why),
    };
    Report { name: name.to_owned(), found }
}
