//! Takes notifications from the loop, writes them to the journal and hands them to the deliveries.
use std::{sync::Arc, time::Duration};

use paramedic_core::decide::Classifier;
use paramedic_host::clock::{Clock, wall_time};
use paramedic_record::{
    Metrics, SharedJournal,
    journal::{MAX_CONTENT, Unsent},
    metrics::NotificationResult,
};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tracing::{error, warn};

use crate::{
    channel::Channel,
    delivery::{Delivery, Queued, Shared, settle},
    notification::Notification,
    notifier::Notifier,
    payload,
    post::Tls,
    retry::Pace,
    roots,
    teller::{Teller, Telling},
};

/// Maximum number of notifications between the loop and the journal, and between the journal and
/// each delivery.
const QUEUE: usize = 64;

/// How long the end of the agent may wait for the journal and for the receivers.
const FAREWELL: Duration = Duration::from_secs(2);

/// A notification of an earlier agent process is not sent if it is older, in seconds.
const TOO_OLD_S: i64 = 24 * 3600;

/// The task that takes what the loop has queued, until the loop has ended.
#[derive(Debug)]
pub struct Sender {
    incoming: mpsc::Receiver<Telling>,
    channels: Vec<Channel>,
    shared: Shared,
}

/// The handle for the loop, and the task that sends. Reads the open problems from the journal and, if
/// a receiver uses https, the machine's certificates; so it blocks for some milliseconds. Without a
/// journal, what is not delivered is lost with the process.
#[must_use]
pub fn start(
    channels: Vec<Channel>,
    node: &str,
    journal: Option<SharedJournal>,
    metrics: Arc<Metrics>,
    classifier: Arc<Classifier>,
    clock: Clock,
) -> (Notifier, Sender) {
    let tls = tls_for(&channels);
    let shared = Shared { journal, metrics, tls, pace: Pace::default() };
    with(channels, node, shared, classifier, clock)
}

pub(crate) fn with(
    channels: Vec<Channel>,
    node: &str,
    shared: Shared,
    classifier: Arc<Classifier>,
    clock: Clock,
) -> (Notifier, Sender) {
    let problems = shared.journal.as_ref().map(SharedJournal::problems).transpose();
    let problems = problems.unwrap_or_else(|error| {
        warn!(%error, "cannot read which problems people were told of; their end will not be told");
        None
    });
    let (outgoing, incoming) = mpsc::channel(QUEUE);
    let kinds = channels.iter().map(|channel| channel.kind).collect();
    let named = channels.iter().filter_map(|channel| channel.name.as_deref()).collect();
    let teller = Teller::new(node, named, problems.unwrap_or_default());
    let metrics = Arc::clone(&shared.metrics);
    let notifier = Notifier::new(teller, outgoing, metrics, classifier, kinds, clock);
    (notifier, Sender { incoming, channels, shared })
}

fn tls_for(channels: &[Channel]) -> Tls {
    if !channels.iter().any(|channel| channel.address.tls) {
        return Err(Arc::from("no receiver uses https"));
    }
    roots::of_this_machine().map_err(|error| {
        error!(%error, "notifications to https receivers cannot be delivered");
        Arc::from(error.to_string())
    })
}

impl Sender {
    /// Sends until the loop has ended and what is due was sent once, or until shortly after `stopped`
    /// resolves.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let too_long = async {
            stopped.await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = too_long => {}
        }
    }

    async fn work(mut self) {
        // They end with this task.
        let mut deliveries = JoinSet::new();
        let mut queues = Vec::new();
        for channel in &self.channels {
            let (queue, queued) = mpsc::channel(QUEUE);
            deliveries.spawn(Delivery::new(channel.clone(), self.shared.clone()).run(queued));
            queues.push(queue);
        }
        self.resume(&queues).await;
        while let Some(telling) = self.incoming.recv().await {
            let is_told = |channel: &Channel| {
                channel.name.as_ref().is_none_or(|name| telling.to.contains(name))
            };
            let wants = |channel: &Channel| {
                is_told(channel) && payload::of(channel, &telling.notification).is_some()
            };
            let takers: Vec<usize> =
                (0..queues.len()).filter(|number| wants(&self.channels[*number])).collect();
            let ids = self.keep(&telling, &takers).await;
            let notification = Arc::new(telling.notification);
            for (place, number) in takers.into_iter().enumerate() {
                let id = ids.get(place).copied();
                // A delivery takes it at once, whatever it is sending.
                let _ = queues[number].send((id, Arc::clone(&notification))).await;
            }
        }
        drop(queues);
        while deliveries.join_next().await.is_some() {}
    }

    /// Writes it to the journal, once for each channel that takes it; returns the numbers. Without
    /// them it is sent nevertheless, but not after a restart.
    async fn keep(&self, telling: &Telling, takers: &[usize]) -> Vec<i64> {
        let Some(journal) = self.shared.journal.clone() else { return Vec::new() };
        let content = serde_json::to_string(&telling.notification).unwrap_or_default();
        if content.is_empty() || content.len() > MAX_CONTENT {
            warn!(bytes = content.len(), "a notification is too large for the journal");
            return Vec::new();
        }
        let ids: Vec<String> =
            takers.iter().map(|number| self.channels[*number].id.clone()).collect();
        let (made, change) = (telling.notification.at, telling.change.clone());
        let kept = spawn_blocking(move || {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            journal.keep_notification(&ids, made, &content, &change)
        });
        match kept.await {
            Ok(Ok(ids)) => ids,
            Ok(Err(error)) => {
                warn!(%error, "cannot write a notification to the journal; it is sent without it");
                Vec::new()
            }
            Err(error) => {
                warn!(%error, "the journal failed; a notification is sent without it");
                Vec::new()
            }
        }
    }

    /// Hands over what an earlier agent process did not deliver.
    async fn resume(&self, queues: &[mpsc::Sender<Queued>]) {
        let Some(journal) = self.shared.journal.clone() else { return };
        let unsent = spawn_blocking(move || journal.unsent_notifications()).await;
        let unsent = match unsent {
            Ok(Ok(unsent)) => unsent,
            Ok(Err(error)) => {
                warn!(%error, "cannot read the notifications that were not delivered");
                return;
            }
            Err(error) => {
                warn!(%error, "the journal failed");
                return;
            }
        };
        for Unsent { id, channel, made, content } in unsent {
            let number = self.channels.iter().position(|known| known.id == channel);
            let notification: Option<Notification> = serde_json::from_str(&content).ok();
            let now = wall_time();
            let is_old = now.saturating_sub(made) > TOO_OLD_S;
            match (number, notification) {
                (Some(number), Some(notification)) if !is_old => {
                    let _ = queues[number].send((Some(id), Arc::new(notification))).await;
                }
                (number, _) => {
                    let result = match number {
                        Some(_) if is_old => NotificationResult::Expired,
                        _ => NotificationResult::Dropped,
                    };
                    if let Some(number) = number {
                        self.shared.metrics.notification(self.channels[number].kind.name(), result);
                    }
                    settle(self.shared.journal.as_ref(), Some(id), result).await;
                }
            }
        }
    }
}
