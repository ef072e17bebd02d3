//! Tracks the labelled pods of this node, and no others: what the API server reports, joined with
//! what the machine knows of their containers.
//!
//! kube's watcher keeps the watch alive through bookmarks, expiry, disconnects and refusals; here
//! its events become [`Change`]s. A tracked pod is some 1 KiB; its object, some 10 KiB, is dropped.
//!
//! The first response ends an outage, because a quiet node may have no other event for hours.
use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use paramedic_api_server::{follow, is_renewal};
use paramedic_core::{
    notice::Notice,
    target::{Change, Kind, MAX_TARGETS, Target, TargetId, consent::HEAL_LABEL},
};
use paramedic_host::{
    clock::Clock,
    container::Container,
    instances::{ExitWatch, Instances},
};
use tokio::{
    select,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{Cluster, Requests, ServerClock, caps::Changed, middleware::metered};
use crate::pod::{NotWatchable, WatchedPod, watched_pod};

/// Delay between the API server's report of a running container and the next search for its cgroup.
const RETRY: Duration = Duration::from_millis(500);
/// How long the first list of pods waits for the caps of their namespaces. Then they are only
/// observed until the caps are known.
const CAPS_WITHIN: Duration = Duration::from_secs(5);
/// After this many searches a missing container is given up, until the API server reports a change.
const MAX_RETRIES: u32 = 10;

/// Tracks the pods of the cluster's node until the receiver of the changes is dropped.
pub async fn track_pods(
    cluster: Arc<Cluster>,
    instances: Arc<dyn Instances>,
    changes: mpsc::Sender<Change>,
    notices: mpsc::Sender<Notice>,
) {
    let answered = Arc::new(Notify::new());
    let api: Api<Pod> = Api::all(notifying(cluster.client(), Arc::clone(&answered)));
    let node = &cluster.identity().node;
    let config =
        watcher::Config::default().fields(&format!("spec.nodeName={node}")).labels(HEAL_LABEL);
    let mut events = pin!(follow(api, config));
    let mut caps = cluster.follow_caps();
    let mut tracker = PodTracker::new(Arc::clone(&cluster), instances, changes, notices);
    let mut caps_are_due = pin!(sleep(CAPS_WITHIN));
    let mut is_due = false;
    loop {
        let begins = is_due || cluster.caps.lock().are_known();
        let sent = select! {
            Some(event) = caps.next() => tracker.caps(event).await,
            () = &mut caps_are_due, if !begins => {
                is_due = true;
                Ok(())
            }
            event = events.next(), if begins => match event {
                Some(Ok(event)) => {
                    cluster.sees(&event);
                    tracker.take(event).await
                }
                Some(Err(error)) => tracker.failed(&error).await,
                None => return,
            },
            () = answered.notified(), if tracker.disconnected => tracker.answered().await,
            Some(Ok(retry)) = tracker.retries.join_next() => tracker.retry(retry).await,
            () = tracker.changes.closed() => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The same client, which also reports when a request has succeeded.
fn notifying(client: Client, answered: Arc<Notify>) -> Client {
    let requests = Requests::new(move |_, status| {
        if status == 200 {
            answered.notify_waiters();
        }
    });
    metered(client, Clock::default(), ServerClock::default(), requests)
}

/// Fails if the receiver was dropped.
type Sent = Result<(), mpsc::error::SendError<Change>>;

/// The labelled pods of the node.
pub(crate) struct PodTracker {
    cluster: Arc<Cluster>,
    instances: Arc<dyn Instances>,
    changes: mpsc::Sender<Change>,
    notices: mpsc::Sender<Notice>,
    /// By uid.
    pods: HashMap<String, TrackedPod>,
    /// Number of the present list.
    list: u64,
    disconnected: bool,
    retries: JoinSet<Retry>,
}

struct TrackedPod {
    /// The last list that contained it.
    list: u64,
    state: State,
}

enum State {
    /// It exists, but is not a target now.
    NotWatchable,
    /// It is beyond the maximum.
    LeftOut(WatchedPod),
    /// It is a target whose container was not found yet, or has ended.
    Absent(WatchedPod),
    /// It is a target, and its container runs.
    Present(Box<Present>),
}

struct Present {
    watched: WatchedPod,
    container: Container,
    /// Reports the end of the container.
    _exit: ExitWatch,
}

impl State {
    /// The pod as it was last reported, if it is a target.
    fn target(&self) -> Option<&WatchedPod> {
        match self {
            Self::NotWatchable | Self::LeftOut(_) => None,
            Self::Absent(watched) => Some(watched),
            Self::Present(present) => Some(&present.watched),
        }
    }
}

/// A container to search for again.
struct Retry {
    uid: String,
    container_id: String,
    tries: u32,
}

impl PodTracker {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        instances: Arc<dyn Instances>,
        changes: mpsc::Sender<Change>,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        Self {
            cluster,
            instances,
            changes,
            notices,
            pods: HashMap::new(),
            list: 0,
            disconnected: false,
            retries: JoinSet::new(),
        }
    }

    pub(crate) async fn take(&mut self, event: Event<Pod>) -> Sent {
        if !matches!(event, Event::Init) {
            self.answered().await?;
        }
        match event {
            Event::Init => {
                self.list += 1;
                Ok(())
            }
            Event::InitApply(pod) | Event::Apply(pod) => self.applied(&pod).await,
            Event::InitDone => {
                let is_gone = |pod: &TrackedPod| pod.list < self.list;
                let pods = self.pods.iter().filter(|(_, pod)| is_gone(pod));
                let gone: Vec<_> = pods.map(|(uid, _)| uid.clone()).collect();
                for uid in gone {
                    self.removed(&uid).await?;
                }
                self.changes.send(Change::Listed(self.pods.keys().cloned().collect())).await
            }
            // Deleted, or its label was removed: in both cases it no longer consents.
            Event::Delete(pod) => match pod.metadata.uid {
                Some(uid) => self.removed(&uid).await,
                None => Ok(()),
            },
        }
    }

    async fn applied(&mut self, pod: &Pod) -> Sent {
        let Some(uid) = &pod.metadata.uid else { return Ok(()) };
        match self.pods.entry(uid.clone()) {
            Entry::Occupied(mut known) => known.get_mut().list = self.list,
            Entry::Vacant(new) => {
                new.insert(TrackedPod { list: self.list, state: State::NotWatchable });
            }
        }
        match watched_pod(pod) {
            Ok(watched) => self.running(uid, watched, 0).await,
            Err(NotWatchable::NotRunning) => self.stopped(uid).await,
            Err(_) => self.no_target(uid).await,
        }
    }

    /// Takes a change of the caps, and reports the pods whose ceiling it changes.
    async fn caps(&mut self, event: Event<PartialObjectMeta<Namespace>>) -> Sent {
        let changed = self.cluster.caps.lock().take(event);
        let concerns = |namespace: &String| match &changed {
            Changed::Nothing => false,
            Changed::One(one) => one == namespace,
            Changed::All => true,
        };
        let mut again = Vec::new();
        for (uid, pod) in &mut self.pods {
            match &mut pod.state {
                State::Absent(watched) if concerns(&watched.pod.namespace) => {
                    let cap = self.cluster.caps.lock().of(&watched.pod.namespace);
                    watched.settings = watched.settings.clone().under(cap);
                }
                State::Present(present) if concerns(&present.watched.pod.namespace) => {
                    again.push((uid.clone(), present.watched.clone()));
                }
                _ => {}
            }
        }
        for (uid, watched) in again {
            self.running(&uid, watched, 0).await?;
        }
        Ok(())
    }

    /// Uses the pod's present state: its owner may have changed it meanwhile.
    async fn retry(&mut self, retry: Retry) -> Sent {
        match self.pods.get(&retry.uid).map(|pod| &pod.state) {
            Some(State::Absent(watched)) if watched.pod.container_id == retry.container_id => {
                let watched = watched.clone();
                self.running(&retry.uid, watched, retry.tries).await
            }
            _ => Ok(()),
        }
    }

    /// The API server reports its container as running.
    async fn running(&mut self, uid: &str, mut watched: WatchedPod, tries: u32) -> Sent {
        let cap = self.cluster.caps.lock().of(&watched.pod.namespace);
        watched.settings = watched.settings.under(cap);
        let targets = self.pods.values().filter(|pod| pod.state.target().is_some()).count();
        let Some(tracked) = self.pods.get_mut(uid) else { return Ok(()) };
        if tracked.state.target().is_none() && targets >= MAX_TARGETS {
            self.leave_out(uid, watched);
            return Ok(());
        }
        let before = std::mem::replace(&mut tracked.state, State::NotWatchable);
        self.report_settings(&watched, before.target());
        if let Some(before) = before.target()
            && before.pod.container != watched.pod.container
        {
            // Another container is the target now: the pod's port was renamed.
            self.changes.send(Change::Gone(before.pod.target_uid())).await?;
        }
        let state = match before {
            State::Present(before) if before.watched.pod == watched.pod => {
                let same_settings =
                    WatchedPod { ready: watched.ready, ..before.watched.clone() } == watched;
                if !same_settings {
                    self.found(&watched, &before.container).await?;
                }
                State::Present(Box::new(Present { watched: watched.clone(), ..*before }))
            }
            _ => match self.search(&watched, tries).await {
                Some(container) => {
                    self.found(&watched, &container).await?;
                    let (instances, changes) = (&self.instances, &self.changes);
                    let (uid, instance) =
                        (watched.pod.target_uid(), watched.pod.container_id.clone());
                    let exit = ExitWatch::begin(instances, changes, container.main, uid, instance);
                    let watched = watched.clone();
                    State::Present(Box::new(Present { watched, container, _exit: exit }))
                }
                None => State::Absent(watched.clone()),
            },
        };
        if matches!(state, State::Present(_)) {
            let (uid, ready) = (watched.pod.target_uid(), watched.ready);
            self.changes.send(Change::Ready { uid, ready }).await?;
        }
        if let Some(tracked) = self.pods.get_mut(uid) {
            tracked.state = state;
        }
        Ok(())
    }

    async fn found(&self, watched: &WatchedPod, container: &Container) -> Sent {
        self.changes.send(Change::Found(Box::new(target_of(watched, container)))).await
    }

    /// Searches this machine for the container; if it is missing, later again.
    async fn search(&mut self, watched: &WatchedPod, tries: u32) -> Option<Container> {
        let pod = &watched.pod;
        match self.instances.container(&pod.container_id).await {
            Ok(container) => Some(container),
            Err(error) if tries < MAX_RETRIES => {
                if tries == 0 {
                    info!(pod = pod.full_name(), %error, "searching for the pod's container");
                }
                let (uid, container_id) = (pod.uid.clone(), pod.container_id.clone());
                self.retries.spawn(async move {
                    sleep(RETRY).await;
                    Retry { uid, container_id, tries: tries + 1 }
                });
                None
            }
            Err(error) => {
                warn!(pod = pod.full_name(), %error, "not watched");
                self.notify(watched, "NotWatched", format!("not watched: {error}"));
                None
            }
        }
    }

    /// Its container has not started, has ended, or waits to be started again.
    async fn stopped(&mut self, uid: &str) -> Sent {
        let Some(tracked) = self.pods.get_mut(uid) else { return Ok(()) };
        match std::mem::replace(&mut tracked.state, State::NotWatchable) {
            State::NotWatchable | State::LeftOut(_) => Ok(()),
            State::Absent(watched) => {
                tracked.state = State::Absent(watched);
                Ok(())
            }
            State::Present(present) => {
                let pod = &present.watched.pod;
                let (uid, instance) = (pod.target_uid(), pod.container_id.clone());
                tracked.state = State::Absent(present.watched);
                self.changes.send(Change::Lost { uid, instance }).await
            }
        }
    }

    async fn removed(&mut self, uid: &str) -> Sent {
        match self.pods.remove(uid) {
            Some(removed) => self.gone(&removed.state).await,
            None => Ok(()),
        }
    }

    /// It exists and is no target any more.
    async fn no_target(&mut self, uid: &str) -> Sent {
        let Some(tracked) = self.pods.get_mut(uid) else { return Ok(()) };
        let before = std::mem::replace(&mut tracked.state, State::NotWatchable);
        self.gone(&before).await
    }

    /// A target is gone: there is room for another pod.
    async fn gone(&mut self, before: &State) -> Sent {
        let Some(watched) = before.target() else { return Ok(()) };
        self.changes.send(Change::Gone(watched.pod.target_uid())).await?;
        let next = self.pods.iter().find_map(|(uid, pod)| match &pod.state {
            State::LeftOut(watched) => Some((uid.clone(), watched.clone())),
            _ => None,
        });
        match next {
            Some((uid, watched)) => self.running(&uid, watched, 0).await,
            None => Ok(()),
        }
    }

    /// The maximum is reached. Reports the first such pod, and not each.
    fn leave_out(&mut self, uid: &str, watched: WatchedPod) {
        if !self.pods.values().any(|pod| matches!(pod.state, State::LeftOut(_))) {
            let pod = watched.pod.full_name();
            warn!(pod, most = MAX_TARGETS, "too many labelled pods: this one is not watched");
            let note = format!("not watched: the agent watches at most {MAX_TARGETS} pods");
            self.notify(&watched, "NotWatched", note);
        }
        if let Some(tracked) = self.pods.get_mut(uid) {
            tracked.state = State::LeftOut(watched);
        }
    }

    /// Reports invalid settings once.
    fn report_settings(&self, watched: &WatchedPod, before: Option<&WatchedPod>) {
        if before.is_some_and(|before| before.invalid_settings == watched.invalid_settings) {
            return;
        }
        for invalid in &watched.invalid_settings {
            warn!(pod = watched.pod.full_name(), %invalid, "invalid setting; the pod is only observed");
            self.notify(watched, "BadSetting", invalid.to_string());
        }
    }

    fn notify(&self, watched: &WatchedPod, reason: &'static str, note: String) {
        let pod = Arc::new(watched.pod.clone());
        let notice = Notice { pod, warning: true, reason, note, series: Some(reason) };
        // If the queue is full the Event is dropped; it is in the log.
        let _ = self.notices.try_send(notice);
    }

    /// The API server has answered.
    async fn answered(&mut self) -> Sent {
        if std::mem::take(&mut self.disconnected) {
            info!("connected to the API server again");
            self.changes.send(Change::Connected(true)).await?;
        }
        Ok(())
    }

    /// The watch has failed: reported once, not for every attempt.
    async fn failed(&mut self, error: &watcher::Error) -> Sent {
        if is_renewal(error) {
            debug!(%error, "watch ended; restarting it");
            return Ok(());
        }
        if std::mem::replace(&mut self.disconnected, true) {
            return Ok(());
        }
        warn!(
            %error,
            "lost the API server: watching and soft remedies continue, hard remedies wait"
        );
        self.changes.send(Change::Connected(false)).await
    }
}

fn target_of(watched: &WatchedPod, container: &Container) -> Target {
    let WatchedPod { pod, .. } = watched;
    let address = watched.address.map(|(ip, port)| SocketAddr::new(ip, port));
    Target {
        id: TargetId { uid: pod.target_uid(), instance: pod.container_id.clone() },
        name: pod.full_name(),
        kind: Kind::Pod(Arc::new(pod.clone())),
        settings: watched.settings.clone(),
        address,
        tls: false,
        host: address.map(|address| address.to_string()).unwrap_or_default(),
        cgroups: container.cgroups.clone(),
        // The remedy is for the container, whichever of its ports is sick.
        port: None,
        started: container.started,
        main: Some(container.main),
        version: watched.version.clone(),
        no_restart: watched.no_restart,
        no_evict: watched.no_evict,
    }
}
