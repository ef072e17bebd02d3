//! One watch: the labelled pods of this node, and no others.
//!
//! kube's watcher keeps it alive through bookmarks, expiry, disconnects and refusals; here its
//! events become [`Change`]s. Only the uid of a pod is stored here: the loop knows the targets, and
//! a whole pod object is some 10 KiB.
//!
//! The first response ends an outage, because a quiet node may have no other event for hours.
use std::{collections::HashSet, pin::pin, sync::Arc};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use paramedic_api_server::{follow, is_renewal};
use paramedic_core::target::consent::HEAL_LABEL;
use paramedic_host::clock::Clock;
use tokio::{
    select,
    sync::{Notify, mpsc},
};
use tracing::{debug, info, warn};

use super::{Requests, ServerClock, middleware::metered};
use crate::pod::{NotWatchable, WatchedPod, watched_pod};

/// A change of the watched pods.
#[derive(Debug)]
pub enum Change {
    /// The pod's container runs and may be watched.
    WatchedPod(Box<WatchedPod>),
    /// The pod exists, but is not a target now.
    NotWatchable {
        /// The pod's uid.
        uid: String,
        /// `namespace/name`.
        name: String,
        /// Why.
        why: NotWatchable,
    },
    /// The pod was deleted, or no longer consents.
    Gone {
        /// The pod's uid.
        uid: String,
    },
    /// The list of the node's pods is complete; these exist, by uid.
    Synced(HashSet<String>),
    /// The API server is unreachable. The known pods stay.
    Disconnected(String),
    /// It is reachable again.
    Reconnected,
}

/// Watches the node's pods until the receiver is dropped.
pub async fn changes(client: Client, node: String, out: mpsc::Sender<Change>) {
    let answered = Arc::new(Notify::new());
    let api: Api<Pod> = Api::all(heard(client, Arc::clone(&answered)));
    let mut teller = Teller { out, known: HashSet::new(), listed: HashSet::new(), away: false };
    let config =
        watcher::Config::default().fields(&format!("spec.nodeName={node}")).labels(HEAL_LABEL);
    let mut events = pin!(follow(api, config));
    loop {
        let event = select! {
            event = events.next() => event,
            () = answered.notified(), if teller.away => {
                if teller.back().await.is_err() {
                    return;
                }
                continue;
            }
        };
        let told = match event {
            Some(Ok(event)) => teller.tell(event).await,
            Some(Err(error)) => teller.away(&error).await,
            None => return,
        };
        if told.is_err() {
            return;
        }
    }
}

/// The same client, which reports when a request has succeeded.
fn heard(client: Client, answered: Arc<Notify>) -> Client {
    let requests = Requests::new(move |_, status| {
        if status == 200 {
            answered.notify_waiters();
        }
    });
    metered(client, Clock::default(), ServerClock::default(), requests)
}

struct Teller {
    out: mpsc::Sender<Change>,
    /// The reported uids.
    known: HashSet<String>,
    /// Those of them that are in the present list.
    listed: HashSet<String>,
    away: bool,
}

/// Fails if the receiver was dropped.
type Told = Result<(), mpsc::error::SendError<Change>>;

impl Teller {
    async fn tell(&mut self, event: Event<Pod>) -> Told {
        if !matches!(event, Event::Init) {
            self.back().await?;
        }
        match event {
            Event::Init => {
                self.listed.clear();
                Ok(())
            }
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.seen(&pod).await
            }
            Event::InitDone => {
                let gone: Vec<_> = self.known.difference(&self.listed).cloned().collect();
                for uid in gone {
                    self.gone(uid).await?;
                }
                self.listed = HashSet::new();
                self.out.send(Change::Synced(self.known.clone())).await
            }
            Event::Apply(pod) => self.seen(&pod).await,
            // Deleted, or its label was removed: in both cases it no longer consents.
            Event::Delete(pod) => match pod.metadata.uid {
                Some(uid) => self.gone(uid).await,
                None => Ok(()),
            },
        }
    }

    async fn seen(&mut self, pod: &Pod) -> Told {
        let Some(uid) = pod.metadata.uid.clone() else { return Ok(()) };
        self.known.insert(uid.clone());
        let change = match watched_pod(pod) {
            Ok(watched) => Change::WatchedPod(Box::new(watched)),
            Err(why) => {
                let of = |text: &Option<String>| text.clone().unwrap_or_default();
                let name = format!("{}/{}", of(&pod.metadata.namespace), of(&pod.metadata.name));
                Change::NotWatchable { uid, name, why }
            }
        };
        self.out.send(change).await
    }

    async fn gone(&mut self, uid: String) -> Told {
        if self.known.remove(&uid) {
            self.out.send(Change::Gone { uid }).await?;
        }
        Ok(())
    }

    async fn back(&mut self) -> Told {
        if std::mem::take(&mut self.away) {
            info!("connected to the API server again");
            self.out.send(Change::Reconnected).await?;
        }
        Ok(())
    }

    /// Reported once, not for every attempt.
    async fn away(&mut self, error: &watcher::Error) -> Told {
        if is_renewal(error) {
            debug!(%error, "watch ended; restarting it");
            return Ok(());
        }
        if std::mem::replace(&mut self.away, true) {
            return Ok(());
        }
        let text = error.to_string();
        warn!(
            error = text,
            "lost the API server: watching and soft remedies continue, hard remedies wait"
        );
        self.out.send(Change::Disconnected(text)).await
    }
}
