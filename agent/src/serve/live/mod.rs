//! Server-sent events: `GET /events`, for the status page and `paramedic top`.
//!
//! While there are listeners, one task takes a [`Snapshot`] of the node twice a second: it queries
//! the loop as `/api/v1/targets` does, and serialises the answer on a separate thread. Each
//! listener receives what changed since its last event. So nothing is queued: a slow reader
//! receives fewer events, and the write timeout of the connection cuts off a reader that stops.
mod reader;
mod snapshot;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use paramedic_listen::Stopping;
use paramedic_record::evidence::Summaries;
use parking_lot::Mutex;
use reader::Reader;
use snapshot::{News, Snapshot};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{Query, Sources, routes};

/// Maximum number of listeners.
const LISTENERS: usize = 16;
/// Interval between two snapshots.
const PERIOD: Duration = Duration::from_millis(500);
/// An idle listener receives a keep-alive comment, so that both sides notice a lost connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Maximum number of incidents, newest first.
const INCIDENTS: u32 = 50;

/// Shared by the listeners and the task that takes snapshots.
#[derive(Debug)]
pub(super) struct Live {
    snapshot: watch::Sender<Arc<Snapshot>>,
    joined: Notify,
    places: Arc<Semaphore>,
    about: String,
    summaries: Arc<Mutex<Summaries>>,
}

impl Live {
    pub(super) fn new(sources: &Sources) -> Arc<Self> {
        Arc::new(Self {
            snapshot: watch::Sender::default(),
            joined: Notify::new(),
            places: Arc::new(Semaphore::new(LISTENERS)),
            about: serde_json::to_string(&sources.about).unwrap_or_default(),
            // Without a journal there are no incidents to tell.
            summaries: Arc::new(Mutex::new(Summaries::of(
                sources.state_dir.clone().unwrap_or_default(),
            ))),
        })
    }

    /// What the evidence of incidents shows; reading it blocks.
    pub(super) fn summaries(&self) -> Arc<Mutex<Summaries>> {
        Arc::clone(&self.summaries)
    }

    /// The body of another response to `GET /events`; `None` if there are too many listeners.
    pub(super) fn listen(&self, stopping: &Stopping) -> Option<UnsyncBoxBody<Bytes, Infallible>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let news = self.snapshot.subscribe();
        self.joined.notify_one();
        let listener = Listener {
            news,
            told: None,
            about: self.about.clone(),
            stopping: stopping.clone(),
            _place: place,
        };
        let events = stream::unfold(listener, |mut listener| async {
            let event = listener.next().await?;
            Some((Ok(Frame::data(event)), listener))
        });
        Some(StreamBody::new(events).boxed_unsync())
    }

    /// Takes snapshots while the agent runs.
    pub(super) async fn publish(self: Arc<Self>, sources: Sources) {
        loop {
            self.joined.notified().await;
            // Open only while there are listeners.
            let mut reader = None;
            while self.snapshot.receiver_count() > 0 {
                if let Some(targets) = routes::ask(&sources, Query::Targets).await {
                    let refusals = sources.metrics.refusals();
                    let before = Arc::clone(&self.snapshot.borrow());
                    let (dir, summaries) = (sources.state_dir.clone(), self.summaries());
                    let made = spawn_blocking(move || {
                        let mut reader = reader.or_else(|| Reader::open(&dir?));
                        let incidents = reader.as_mut().and_then(|reader| reader.newer(INCIDENTS));
                        let incidents = incidents.map(|all| summaries.lock().tell(all));
                        let news = News { targets, refusals, incidents };
                        (Snapshot::after(&before, news), reader)
                    });
                    match made.await {
                        Ok((snapshot, kept)) => {
                            reader = kept;
                            self.snapshot.send_replace(Arc::new(snapshot));
                        }
                        Err(error) => {
                            debug!(%error, "cannot make a snapshot");
                            reader = None;
                        }
                    }
                }
                sleep(PERIOD).await;
            }
        }
    }
}

/// A listener.
struct Listener {
    news: watch::Receiver<Arc<Snapshot>>,
    /// The version that it has.
    told: Option<u64>,
    about: String,
    stopping: Stopping,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next event; `None` when the agent ends.
    async fn next(&mut self) -> Option<Bytes> {
        let changed = tokio::select! {
            changed = timeout(SIGN_OF_LIFE, self.news.changed()) => changed,
            () = self.stopping.requested() => return None,
        };
        let Ok(changed) = changed else {
            return Some(Bytes::from_static(b": nothing new\n\n"));
        };
        changed.ok()?;
        let snapshot = Arc::clone(&self.news.borrow_and_update());
        let about = self.told.is_none().then_some(self.about.as_str());
        let event = snapshot.event(self.told.unwrap_or_default(), about);
        self.told = Some(snapshot.version());
        Some(event)
    }
}
