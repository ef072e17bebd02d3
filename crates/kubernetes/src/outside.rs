//! The pods of this node that are out of their Services or their workloads, and when that ends.
//!
//! A drained pod goes back when its container is ready again or when the time in its annotation has
//! passed, whichever is first; a quarantined one is evicted when its time has passed. Both are
//! written on the pod, and any agent process that sees the pod takes over: one that died leaves
//! nobody out of service for longer.
use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use paramedic_core::{boot_time::BootTime, target::PodRef};
use parking_lot::Mutex;
use tokio::{select, sync::Notify, time::sleep};
use tracing::{debug, info, warn};

use crate::{
    Cluster,
    labels::{self, Quarantined},
    pod::watched_pod,
};

/// No drain lasts longer, whatever the annotation says.
pub(super) const LONGEST: Duration = Duration::from_secs(300);
/// Delay after a request that failed.
const RETRY: Duration = Duration::from_secs(5);
/// The same after a refused eviction.
const RETRY_EVICTION: Duration = Duration::from_secs(60);

/// The name of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Name {
    pub(super) fn of(pod: &PodRef) -> Self {
        let PodRef { namespace, name, uid, .. } = pod.clone();
        Self { namespace, name, uid }
    }
}

/// Why a pod is out, and until when, in seconds since 1970 by the API server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    Drained(i64),
    Quarantined(i64),
}

/// Whether a drained pod may go back as soon as it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// It may.
    Free,
    /// A treatment is in progress: only the deadline ends it.
    Treatment,
    /// It was restarted: it may when another container than this one is ready.
    Successor(String),
}

#[derive(Clone, Debug)]
struct Stay {
    pod: Name,
    out: Out,
    hold: Hold,
    /// The container that the kubelet calls ready.
    ready: Option<String>,
    /// When this process learnt of it.
    since: BootTime,
    /// Not tried before.
    next: BootTime,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    Back(Name),
    Evict(Name),
}

/// When something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Now,
    In(Duration),
    /// Not before the pod changes.
    Open,
}

/// The pods that are out, by uid.
#[derive(Debug, Default)]
pub(super) struct Outside {
    pods: Mutex<HashMap<String, Stay>>,
    changed: Notify,
}

impl Outside {
    /// A treatment is about to drain a pod.
    fn begins(&self, pod: &PodRef, until: i64, now: BootTime) {
        let stay = Stay {
            pod: Name::of(pod),
            out: Out::Drained(until),
            hold: Hold::Treatment,
            ready: Some(pod.container_id.clone()),
            since: now,
            next: now,
        };
        self.pods.lock().insert(pod.uid.clone(), stay);
        self.changed.notify_one();
    }

    fn hold(&self, uid: &str, hold: Hold) {
        if let Some(stay) = self.pods.lock().get_mut(uid) {
            stay.hold = hold;
        }
        self.changed.notify_one();
    }

    /// The watch reports a pod. A pod that a treatment drains may be reported as it was before.
    fn sees(&self, pod: &Pod, now: BootTime) {
        let Some(name) = name_of(pod) else { return };
        let ready = watched_pod(pod).ok().filter(|pod| pod.ready).map(|pod| pod.pod.container_id);
        let out = out_of(pod);
        let mut pods = self.pods.lock();
        match (pods.get_mut(&name.uid), out) {
            (Some(stay), None) if stay.hold == Hold::Free => {
                pods.remove(&name.uid);
            }
            (Some(stay), out) => {
                stay.ready = ready;
                if let (Some(out), Hold::Free) = (out, &stay.hold) {
                    stay.out = out;
                }
            }
            (None, Some(out)) => {
                let (hold, since, next) = (Hold::Free, now, now);
                debug!(pod = name.full(), ?out, "found a pod that is out of its Services");
                let stay = Stay { pod: name.clone(), out, hold, ready, since, next };
                pods.insert(name.uid, stay);
            }
            (None, None) => return,
        }
        drop(pods);
        self.changed.notify_one();
    }

    /// What is due, and the time until the next thing is.
    fn due(&self, now: BootTime, server: Option<i64>) -> (Vec<Due>, Option<Duration>) {
        let mut due = Vec::new();
        let mut wait: Option<Duration> = None;
        for stay in self.pods.lock().values() {
            match stay.when(now, server) {
                When::Open => {}
                When::In(left) => wait = Some(wait.map_or(left, |wait| wait.min(left))),
                When::Now => due.push(match stay.out {
                    Out::Drained(_) => Due::Back(stay.pod.clone()),
                    Out::Quarantined(_) => Due::Evict(stay.pod.clone()),
                }),
            }
        }
        (due, wait)
    }

    fn drained(&self) -> Vec<Name> {
        let pods = self.pods.lock();
        let drained = pods.values().filter(|stay| matches!(stay.out, Out::Drained(_)));
        drained.map(|stay| stay.pod.clone()).collect()
    }

    fn later(&self, uid: &str, at: BootTime) {
        if let Some(stay) = self.pods.lock().get_mut(uid) {
            stay.next = at;
        }
    }

    fn ended(&self, uid: &str) {
        self.pods.lock().remove(uid);
    }
}

impl Name {
    fn full(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Stay {
    fn when(&self, now: BootTime, server: Option<i64>) -> When {
        if self.next > now {
            return When::In(self.next.since(now));
        }
        let left = |until: i64| {
            let left = until.saturating_sub(server?);
            Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
        };
        match self.out {
            Out::Drained(until) => {
                let is_back = match (&self.hold, &self.ready) {
                    (Hold::Free, Some(_)) => true,
                    (Hold::Successor(old), Some(ready)) => ready != old,
                    _ => false,
                };
                let longest = (self.since + LONGEST).since(now);
                let left = left(until).map_or(longest, |left| left.min(longest));
                if is_back || left.is_zero() { When::Now } else { When::In(left) }
            }
            Out::Quarantined(until) => match left(until) {
                Some(left) if left.is_zero() => When::Now,
                Some(left) => When::In(left),
                None => When::Open,
            },
        }
    }
}

fn name_of(pod: &Pod) -> Option<Name> {
    Some(Name {
        namespace: pod.metadata.namespace.clone()?,
        name: pod.metadata.name.clone()?,
        uid: pod.metadata.uid.clone()?,
    })
}

fn out_of(pod: &Pod) -> Option<Out> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if let Some(until) = labels::drained_until(pod) {
        return Some(Out::Drained(until.as_second()));
    }
    let record = Quarantined::of(pod)?.ok()?;
    Some(Out::Quarantined(record.until.as_second()))
}

/// A pod that a treatment has drained, or is about to. Dropped, the pod goes back at once.
#[derive(Debug)]
pub struct Drained {
    cluster: Arc<Cluster>,
    uid: String,
    container_id: String,
    /// Whether it was restarted.
    restarted: bool,
}

impl Drained {
    pub(super) fn begins(cluster: &Arc<Cluster>, pod: &PodRef, until: i64) -> Self {
        cluster.outside.begins(pod, until, cluster.clock.now());
        let (uid, container_id) = (pod.uid.clone(), pod.container_id.clone());
        Self { cluster: Arc::clone(cluster), uid, container_id, restarted: false }
    }

    /// Its container was restarted, or may have been: the pod goes back when the next one is ready.
    pub fn restarted(mut self) {
        self.restarted = true;
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let hold = match self.restarted {
            true => Hold::Successor(std::mem::take(&mut self.container_id)),
            false => Hold::Free,
        };
        self.cluster.outside.hold(&self.uid, hold);
    }
}

impl Cluster {
    /// The watch of the node's pods reports an event.
    pub(super) fn sees(&self, event: &Event<Pod>) {
        if let Event::Apply(pod) | Event::InitApply(pod) = event {
            self.outside.sees(pod, self.clock.now());
        }
    }

    /// Puts drained pods back, and, if `may_evict`, evicts quarantined ones whose time has passed;
    /// never ends.
    pub async fn bring_back(self: Arc<Self>, may_evict: bool) {
        loop {
            let now = self.clock.now();
            let (due, wait) = self.outside.due(now, self.server_clock.now(now));
            if due.is_empty() {
                select! {
                    () = self.outside.changed.notified() => {}
                    () = sleep(wait.unwrap_or(LONGEST).max(Duration::from_millis(100))) => {}
                }
                continue;
            }
            for due in due {
                match due {
                    Due::Back(pod) => self.goes_back(&pod).await,
                    Due::Evict(pod) if may_evict => self.leaves_quarantine(&pod).await,
                    Due::Evict(pod) => {
                        warn!(
                            pod = pod.full(),
                            "its quarantine has ended, and this agent may not evict: delete it"
                        );
                        self.outside.ended(&pod.uid);
                    }
                }
            }
        }
    }

    /// Puts all drained pods back, once: the agent stops, and nobody would do it until it returns.
    pub async fn all_back(&self) {
        for pod in self.outside.drained() {
            self.goes_back(&pod).await;
        }
    }

    async fn goes_back(&self, pod: &Name) {
        match self.put_back(pod).await {
            Ok(was_out) => {
                self.outside.ended(&pod.uid);
                if was_out {
                    info!(pod = pod.full(), "drained pod is back in its Services");
                }
            }
            Err(error) => {
                warn!(pod = pod.full(), %error, "cannot put a drained pod back; trying again");
                self.outside.later(&pod.uid, self.clock.now() + RETRY);
            }
        }
    }

    async fn leaves_quarantine(&self, pod: &Name) {
        match self.end_quarantine(pod).await {
            Ok(()) => {
                self.outside.ended(&pod.uid);
                info!(pod = pod.full(), "its quarantine has ended: evicted");
            }
            Err(Some(error)) => {
                warn!(pod = pod.full(), error, "cannot evict a quarantined pod; trying again");
                self.outside.later(&pod.uid, self.clock.now() + RETRY_EVICTION);
            }
            Err(None) => self.outside.ended(&pod.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::default() + Duration::from_secs(seconds)
    }

    fn stay(out: Out, hold: Hold, ready: Option<&str>) -> Stay {
        let name = || "x".to_owned();
        let pod = Name { namespace: name(), name: name(), uid: name() };
        Stay { pod, out, hold, ready: ready.map(str::to_owned), since: at(100), next: at(100) }
    }

    #[test]
    fn a_drained_pod_goes_back_when_ready_or_in_time() {
        let when =
            |hold, ready, now, server| stay(Out::Drained(1000), hold, ready).when(at(now), server);
        let seconds = |seconds| When::In(Duration::from_secs(seconds));
        assert_eq!(when(Hold::Free, Some("a"), 101, Some(900)), When::Now);
        assert_eq!(when(Hold::Free, None, 101, Some(900)), seconds(100));
        assert_eq!(when(Hold::Treatment, Some("a"), 101, Some(900)), seconds(100));
        assert_eq!(when(Hold::Treatment, Some("a"), 201, Some(1000)), When::Now);
        let successor = || Hold::Successor("a".to_owned());
        assert_eq!(when(successor(), Some("a"), 101, Some(900)), seconds(100));
        assert_eq!(when(successor(), Some("b"), 101, Some(900)), When::Now);
        // Without the server's clock, and with a time that no agent writes.
        assert_eq!(when(Hold::Free, None, 101, None), seconds(299));
        assert_eq!(when(Hold::Free, None, 400, Some(-9_000_000)), When::Now);
        let late = Stay { next: at(105), ..stay(Out::Drained(0), Hold::Free, Some("a")) };
        assert_eq!(late.when(at(101), Some(900)), seconds(4), "the last attempt failed");
    }

    #[test]
    fn a_quarantine_ends_by_the_servers_clock_alone() {
        let when = |server| stay(Out::Quarantined(1000), Hold::Free, None).when(at(9999), server);
        assert_eq!(when(None), When::Open);
        assert_eq!(when(Some(999)), When::In(Duration::from_secs(1)));
        assert_eq!(when(Some(1000)), When::Now);
    }
}
