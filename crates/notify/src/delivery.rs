//! The task of one channel: sends what waits, one after the other, until each is delivered or given
//! up.
use std::{future::pending, pin::Pin, sync::Arc};

use paramedic_host::clock::wall_time;
use paramedic_record::{Metrics, SharedJournal, metrics::NotificationResult};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tracing::{debug, error, info, warn};

use crate::{
    channel::Channel,
    notification::Notification,
    payload,
    post::{Tls, post},
    queue::{MOST, Queue, Ready, Waiting},
    retry::{Answer, Next, Pace, advice},
};

/// A notification for one channel, with its number in the journal if it is there.
pub(crate) type Queued = (Option<i64>, Arc<Notification>);

/// What the deliveries of all channels share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) journal: Option<SharedJournal>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tls: Tls,
    pub(crate) pace: Pace,
}

/// How the last attempts went, so that each change is logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    Retrying,
    /// The status with which the receiver refused.
    Refusing(u16),
}

/// The task of one channel.
pub(crate) struct Delivery {
    channel: Channel,
    shared: Shared,
    queue: Queue,
    health: Health,
    /// Consecutive attempts after which the receiver as a whole was left alone.
    failures: u32,
}

type Sending = Pin<Box<dyn Future<Output = (Waiting, Answer)> + Send>>;

impl Delivery {
    pub(crate) const fn new(channel: Channel, shared: Shared) -> Self {
        Self { channel, shared, queue: Queue::new(MOST), health: Health::Well, failures: 0 }
    }

    /// Sends what comes in. Ends when nothing more can come in and nothing is due.
    pub(crate) async fn run(mut self, mut incoming: mpsc::Receiver<Queued>) {
        let mut sending: Option<Sending> = None;
        let mut is_open = true;
        loop {
            let mut due = None;
            if sending.is_none() {
                match self.queue.next(Instant::now()) {
                    Ready::Now(waiting) => {
                        sending = self.send(waiting).await;
                        if sending.is_none() {
                            continue;
                        }
                    }
                    Ready::At(at) => due = Some(at),
                    Ready::Never => {}
                }
            }
            if !is_open && sending.is_none() {
                return;
            }
            tokio::select! {
                queued = incoming.recv(), if is_open => match queued {
                    Some((id, notification)) => self.take(id, notification).await,
                    None => is_open = false,
                },
                (waiting, answer) = end_of(&mut sending) => {
                    sending = None;
                    self.sent(&waiting, &answer).await;
                }
                () = until(due) => {}
            }
        }
    }

    async fn take(&mut self, id: Option<i64>, notification: Arc<Notification>) {
        self.shared.metrics.notifications_pending(self.channel.kind.name(), 1);
        if let Some(dropped) = self.queue.push(id, notification) {
            let channel = self.channel.to_string();
            warn!(channel, "too many notifications wait for this channel: dropped the oldest");
            self.settle(&dropped, NotificationResult::Dropped).await;
        }
    }

    /// Begins to send one; `None` if its receiver has no use for it.
    async fn send(&mut self, waiting: Waiting) -> Option<Sending> {
        let Some(payload) = payload::of(&self.channel, &waiting.notification) else {
            debug!(channel = %self.channel, "not for this kind of channel");
            self.settle(&waiting, NotificationResult::Dropped).await;
            return None;
        };
        let address = self.channel.address.clone();
        let (tls, limit) = (self.shared.tls.clone(), self.shared.pace.request);
        Some(Box::pin(async move {
            let answer = post(&address, payload, &tls, limit).await;
            (waiting, answer)
        }))
    }

    async fn sent(&mut self, waiting: &Waiting, answer: &Answer) {
        let now = Instant::now();
        let age = now.saturating_duration_since(waiting.since.unwrap_or(now));
        let tries = waiting.tries.max(self.failures.saturating_add(1));
        let next = self.shared.pace.next(answer, tries, age, fastrand::f32());
        self.tell(answer, next);
        self.failures = match next {
            Next::Again { all: true, .. } => self.failures.saturating_add(1),
            _ => 0,
        };
        match next {
            Next::Again { after, all } => self.queue.again(waiting.number, after, all, now),
            Next::Delivered => self.settle(waiting, NotificationResult::Delivered).await,
            Next::Refused => self.settle(waiting, NotificationResult::Refused).await,
            Next::Expired => self.settle(waiting, NotificationResult::Expired).await,
        }
    }

    /// Logs what has changed.
    fn tell(&mut self, answer: &Answer, next: Next) {
        let channel = self.channel.to_string();
        let reason = match answer {
            Answer::Status { code, .. } => format!("the receiver answered {code}"),
            Answer::Nothing(why) => why.clone(),
        };
        let before = self.health;
        match (next, answer) {
            (Next::Delivered, _) => {
                self.health = Health::Well;
                if before != Health::Well {
                    info!(channel, "notifications are delivered again");
                }
            }
            (Next::Refused, Answer::Status { code, .. }) => {
                self.health = Health::Refusing(*code);
                if before != self.health {
                    let advice = advice(*code);
                    error!(channel, reason, advice, "the receiver refuses notifications");
                }
            }
            (Next::Expired, _) => {
                error!(channel, reason, "a notification was not delivered in time: given up");
            }
            (Next::Again { .. } | Next::Refused, _) => {
                self.health = Health::Retrying;
                if before == Health::Well {
                    warn!(channel, reason, "cannot deliver notifications yet; trying again");
                }
            }
        }
    }

    /// It is delivered or given up, for good.
    async fn settle(&mut self, waiting: &Waiting, result: NotificationResult) {
        self.queue.remove(waiting.number);
        let kind = self.channel.kind.name();
        self.shared.metrics.notification(kind, result);
        self.shared.metrics.notifications_pending(kind, -1);
        settle(self.shared.journal.as_ref(), waiting.id, result).await;
    }
}

/// Marks a notification in the journal, if it is there. Without the mark it is sent once more after a
/// restart.
pub(crate) async fn settle(
    journal: Option<&SharedJournal>,
    id: Option<i64>,
    result: NotificationResult,
) {
    let (Some(journal), Some(id)) = (journal.cloned(), id) else { return };
    let at = wall_time();
    let settled = spawn_blocking(move || journal.settle_notification(id, result.name(), at)).await;
    match settled {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "cannot mark a notification in the journal"),
        Err(error) => warn!(%error, "the journal failed"),
    }
}

async fn end_of(sending: &mut Option<Sending>) -> (Waiting, Answer) {
    match sending {
        Some(sending) => sending.await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
