//! Tracks the node's pods: what the API server reports, joined with what the node knows of their
//! containers.
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use paramedic_core::{
    notice::Notice,
    target::{Kind, PodRef, Target, TargetId},
};
use paramedic_host::container::Container;
use paramedic_kubernetes::{
    Change, Cluster, changes,
    pod::{NotWatchable, WatchedPod},
};
use tokio::{sync::mpsc, time::sleep};
use tracing::{info, warn};

use super::{TaskResult, effects::Effects, end::Wait};

/// Maximum number of pods watched on one node; Kubernetes' own limit is 110 unless raised.
pub const MOST: usize = 500;

/// Delay between the API server's report of a running container and the next search for its cgroup.
const RETRY: Duration = Duration::from_millis(500);
/// After this many tries a missing container is given up, until the API server reports a change.
const TRIES: u32 = 10;
/// Maximum number of queued changes.
const QUEUE: usize = 64;

/// A pod that was reported to the loop.
struct Known {
    watched: WatchedPod,
    container: Option<Container>,
    end: Option<Wait>,
}

/// A container to search again: the pod's uid, the container's id, and the number of tries.
struct Again {
    uid: String,
    container_id: String,
    tries: u32,
}

/// Joins both sides and reports to the loop.
struct PodTracker {
    effects: Arc<dyn Effects>,
    done: mpsc::Sender<TaskResult>,
    notices: mpsc::Sender<Notice>,
    /// By the pod's uid.
    known: HashMap<String, Known>,
    /// Pods beyond the maximum, by uid, in their last state.
    left_out: HashMap<String, WatchedPod>,
    again: mpsc::Sender<Again>,
}

/// Fails if the loop has ended.
type Told = Result<(), mpsc::error::SendError<TaskResult>>;

/// Runs until the loop ends.
pub(super) async fn follow(
    cluster: Arc<Cluster>,
    effects: Arc<dyn Effects>,
    done: mpsc::Sender<TaskResult>,
    notices: mpsc::Sender<Notice>,
) {
    let (told, mut heard) = mpsc::channel(QUEUE);
    let (again, mut retries) = mpsc::channel(MOST);
    let watch = tokio::spawn(changes(cluster.client(), cluster.identity().node.clone(), told));
    let mut ward = PodTracker::new(effects, done, notices, again);
    loop {
        let told = tokio::select! {
            Some(change) = heard.recv() => ward.take(change).await,
            Some(again) = retries.recv() => ward.retry(again).await,
            () = ward.done.closed() => break,
        };
        if told.is_err() {
            break;
        }
    }
    watch.abort();
}

impl PodTracker {
    fn new(
        effects: Arc<dyn Effects>,
        done: mpsc::Sender<TaskResult>,
        notices: mpsc::Sender<Notice>,
        again: mpsc::Sender<Again>,
    ) -> Self {
        Self { effects, done, notices, known: HashMap::new(), left_out: HashMap::new(), again }
    }

    async fn take(&mut self, change: Change) -> Told {
        match change {
            Change::WatchedPod(watched) => self.watched_pod(*watched, 0).await,
            Change::NotWatchable { uid, why: NotWatchable::NotRunning, .. } => {
                self.stopped(&uid).await
            }
            Change::NotWatchable { uid, .. } | Change::Gone { uid } => self.gone(&uid).await,
            Change::Synced(pods) => self.done.send(TaskResult::Synced(pods)).await,
            Change::Disconnected(error) => {
                self.done.send(TaskResult::Disconnected(Some(error))).await
            }
            Change::Reconnected => self.done.send(TaskResult::Disconnected(None)).await,
        }
    }

    /// Uses the pod's present state: its owner may have changed it meanwhile.
    async fn retry(&mut self, again: Again) -> Told {
        let Some(known) = self.known.get(&again.uid) else { return Ok(()) };
        let waits =
            known.container.is_none() && known.watched.pod.container_id == again.container_id;
        let watched = known.watched.clone();
        if waits { self.watched_pod(watched, again.tries).await } else { Ok(()) }
    }

    async fn watched_pod(&mut self, watched: WatchedPod, tries: u32) -> Told {
        let uid = watched.pod.uid.clone();
        if !self.known.contains_key(&uid) && self.known.len() >= MOST {
            self.leave_out(watched);
            return Ok(());
        }
        let before = self.known.remove(&uid);
        self.complain(&watched, before.as_ref());
        let same_life = before
            .as_ref()
            .is_some_and(|before| before.container.is_some() && before.watched.pod == watched.pod);
        if let Some(before) = &before
            && before.watched.pod.container != watched.pod.container
        {
            // Another container is the target now: the pod's port was renamed.
            self.done.send(TaskResult::Gone(before.watched.pod.target_uid())).await?;
        }
        let (container, mut end) = match before.filter(|_| same_life) {
            Some(Known { watched: old, container, end }) => {
                let settings_are_same = WatchedPod { ready: watched.ready, ..old } == watched;
                if settings_are_same {
                    let uid = watched.pod.target_uid();
                    self.done.send(TaskResult::Ready(uid, watched.ready)).await?;
                    self.known.insert(watched.pod.uid.clone(), Known { watched, container, end });
                    return Ok(());
                }
                (container, end)
            }
            None => (self.find(&watched, tries).await, None),
        };
        if let Some(container) = &container {
            let target = target_of(&watched, container);
            let (target_uid, instance) = (target.id.uid.clone(), target.id.instance.clone());
            self.done.send(TaskResult::Found(Box::new(target))).await?;
            self.done.send(TaskResult::Ready(target_uid.clone(), watched.ready)).await?;
            if !same_life {
                let (effects, done) = (&self.effects, &self.done);
                end = Some(Wait::begin(effects, done, container.main, target_uid, instance));
            }
        }
        self.known.insert(uid, Known { watched, container, end });
        Ok(())
    }

    async fn find(&self, watched: &WatchedPod, tries: u32) -> Option<Container> {
        match self.effects.container(&watched.pod.container_id).await {
            Ok(container) => Some(container),
            Err(error) if tries < TRIES => {
                if tries == 0 {
                    info!(pod = watched.pod.full_name(), %error, "searching for the pod's container");
                }
                let pod = &watched.pod;
                let (uid, container_id) = (pod.uid.clone(), pod.container_id.clone());
                let again = self.again.clone();
                tokio::spawn(async move {
                    sleep(RETRY).await;
                    // If the queue is full, the pod's next change tries again.
                    let _ = again.try_send(Again { uid, container_id, tries: tries + 1 });
                });
                None
            }
            Err(error) => {
                warn!(pod = watched.pod.full_name(), %error, "not watched");
                self.tell(watched, "NotWatched", format!("not watched: {error}"));
                None
            }
        }
    }

    async fn stopped(&mut self, uid: &str) -> Told {
        self.left_out.remove(uid);
        let Some(known) = self.known.get_mut(uid) else { return Ok(()) };
        if known.container.take().is_none() {
            return Ok(());
        }
        let pod = &known.watched.pod;
        let (uid, instance) = (pod.target_uid(), pod.container_id.clone());
        self.done.send(TaskResult::Lost { uid, instance }).await
    }

    async fn gone(&mut self, uid: &str) -> Told {
        self.left_out.remove(uid);
        let Some(known) = self.known.remove(uid) else { return Ok(()) };
        self.done.send(TaskResult::Gone(known.watched.pod.target_uid())).await?;
        let Some(next) = self.left_out.keys().next().cloned() else { return Ok(()) };
        match self.left_out.remove(&next) {
            Some(watched) => self.watched_pod(watched, 0).await,
            None => Ok(()),
        }
    }

    fn complain(&self, watched: &WatchedPod, before: Option<&Known>) {
        if before.is_some_and(|before| before.watched.invalid_settings == watched.invalid_settings)
        {
            return;
        }
        for invalid in &watched.invalid_settings {
            warn!(pod = watched.pod.full_name(), %invalid, "invalid setting; the pod is only observed");
            self.tell(watched, "BadSetting", invalid.to_string());
        }
    }

    /// The maximum is reached. Reports the first such pod, and not each.
    fn leave_out(&mut self, watched: WatchedPod) {
        if self.left_out.is_empty() {
            let pod = watched.pod.full_name();
            warn!(pod, most = MOST, "too many labelled pods: this one is not watched");
            self.tell(
                &watched,
                "NotWatched",
                format!("not watched: the agent watches at most {MOST} pods"),
            );
        }
        self.left_out.insert(watched.pod.uid.clone(), watched);
    }

    fn tell(&self, watched: &WatchedPod, reason: &'static str, note: String) {
        let pod = Arc::new(watched.pod.clone());
        let notice = Notice { pod, warning: true, reason, note, series: Some(reason) };
        // If the queue is full the Event is dropped; it is in the log.
        let _ = self.notices.try_send(notice);
    }
}

fn target_of(watched: &WatchedPod, container: &Container) -> Target {
    let WatchedPod { pod, .. } = watched;
    let address = watched.address.map(|(ip, port)| SocketAddr::new(ip, port));
    Target {
        id: TargetId { uid: PodRef::target_uid(pod), instance: pod.container_id.clone() },
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
        no_restart: watched.no_restart,
        no_evict: watched.no_evict,
    }
}

#[cfg(test)]
mod tests {
    use fake_apiserver::{FakeApi, Kind, PodTemplate};
    use serde_json::from_value;

    use super::*;
    use crate::run::effects::Still;
    use paramedic_kubernetes::pod;

    #[tokio::test]
    async fn a_pod_beyond_the_maximum_is_watched_when_there_is_room() {
        let fake = FakeApi::new();
        fake.add_node("node1");
        let template = PodTemplate::new().label("paramedic.dev/heal", "soft");
        let names = fake.add_deployment("default", "web", 502, &template, &["node1"]);
        let watched = |name: &String| {
            let pod = fake.get(Kind::Pod, "default", name).unwrap();
            pod::watched_pod(&from_value(pod).unwrap()).unwrap()
        };
        let patients: Vec<WatchedPod> = names.iter().map(watched).collect();
        let uid = |at: usize| patients[at].pod.uid.clone();

        let (done, mut told) = mpsc::channel(4 * MOST);
        let (notices, mut noted) = mpsc::channel(8);
        let mut ward =
            PodTracker::new(Arc::new(Still(|_: &str| 1)), done, notices, mpsc::channel(1).0);
        let mut found = || {
            let told = std::iter::from_fn(|| told.try_recv().ok());
            let found = told.filter_map(|done| match done {
                TaskResult::Found(target) => Some(target.name.clone()),
                _ => None,
            });
            found.collect::<Vec<_>>()
        };
        for watched in &patients {
            ward.take(Change::WatchedPod(Box::new(watched.clone()))).await.unwrap();
        }
        assert_eq!(found().len(), MOST);
        assert_eq!(noted.try_recv().unwrap().reason, "NotWatched");
        assert!(noted.try_recv().is_err(), "each of them is told");

        // A waiting pod ends meanwhile: no other is taken in its place.
        ward.take(Change::Gone { uid: uid(500) }).await.unwrap();
        assert_eq!(found(), [""; 0]);
        ward.take(Change::Gone { uid: uid(7) }).await.unwrap();
        assert_eq!(found(), [patients[501].pod.full_name()]);
        ward.take(Change::Gone { uid: uid(8) }).await.unwrap();
        assert_eq!(found(), [""; 0]);
        assert_eq!(ward.known.len(), MOST - 1);
    }
}
