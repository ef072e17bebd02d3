//! The simulated pods: their faults, what repairs them, and what was done to them.
use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use fake_apiserver::{FakeApi, Kind};
use fastrand::Rng;
use paramedic_core::{
    boot_time::BootTime,
    engine::Remedied,
    guard::Permit,
    health::{Health, HealthError, Poll, Responses, Says, Transport},
    resize::Resource,
    signal::{CgroupReading, ProcessState},
    target::{Cgroups, ProcessId, Remedy, Target, cap::HEAL_AT_MOST, consent::APPROVE},
};
use paramedic_host::{
    clock::Clock,
    container::{Container, ContainerError},
    instances::{Instances, Later},
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use super::super::effects::{Effects, Meter, Poller};
use super::fuse::{Fuse, Step};

/// The fault of a pod: errors at a rate, from a time on, until the remedy that repairs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Illness {
    /// Errors per second.
    rate: f64,
    /// `Observe`: only time repairs it.
    cure: Remedy,
    lasts: Duration,
}

impl Illness {
    /// A fault that calls for the hardest remedy, and lasts until it gets this one.
    pub(super) fn grave(cure: Remedy) -> Self {
        Self { rate: 20.0, cure, lasts: Duration::from_secs(3600) }
    }

    pub(super) fn any(rng: &mut Rng) -> Self {
        Self {
            rate: [0.5, 2.0, 5.0, 20.0][rng.usize(0..4)],
            cure: Remedy::ALL[rng.usize(0..4)],
            lasts: Duration::from_secs(rng.u64(2..900)),
        }
    }
}

/// Memory that grows from a third of the template's limit on, until the OOM killer acts.
#[derive(Clone, Copy, Debug)]
struct Leak {
    since: BootTime,
    /// Bytes per second, and how long it goes on.
    rate: u64,
    lasts: Duration,
}

/// A remedy that was really applied.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Time since the fake was created.
    pub(super) at: Duration,
    pub(super) remedy: Remedy,
    /// The node of the agent, and the node of the pod.
    pub(super) by: String,
    pub(super) node: String,
    pub(super) uid: String,
    pub(super) workload: String,
    /// The label at that moment or in the seconds before, if the pod had one.
    pub(super) label: Option<Remedy>,
    /// What the namespace permitted at that moment or in the seconds before.
    pub(super) cap: Remedy,
    pub(super) container_id: String,
    /// How long healing had been paused by then.
    pub(super) paused_for: Option<Duration>,
    /// Whether its Services selected the pod, though its owner wants it drained.
    pub(super) served: bool,
}

/// What a pod's owner has approved.
#[derive(Clone, Debug)]
pub(super) struct Approval {
    /// Time since the fake was created.
    pub(super) at: Duration,
    pub(super) uid: String,
    pub(super) request: String,
}

#[derive(Debug, Default)]
struct State {
    /// By pod uid: the fault, its start, its container, and when it was reset.
    ill: HashMap<String, (Illness, BootTime, String, BootTime)>,
    given: Vec<Given>,
    /// By workload: the mildest remedy before which its owner is asked.
    asks: HashMap<String, Remedy>,
    approvals: Vec<Approval>,
    /// The workloads whose pods are drained before a restart.
    drains: HashSet<String>,
    /// By container id.
    leaks: HashMap<String, Leak>,
    paused_since: Option<BootTime>,
    /// When each pause began and ended, since the fake was created.
    pauses: Vec<(Duration, Option<Duration>)>,
    /// By pod uid: the label before the last change, and the time of the change.
    labels: HashMap<String, (Option<Remedy>, BootTime)>,
    /// The cap of the namespace before its last change, and the time of the change.
    cap: Option<(Remedy, BootTime)>,
}

/// The memory limit in the templates of pods that permit resizes.
pub(super) const LIMIT: u64 = 96 << 20;

/// Maximum time until a revoked consent takes effect.
const CONSENT: Duration = Duration::from_secs(5);

/// All pods of the simulation.
#[derive(Debug)]
pub(super) struct Ward {
    fake: FakeApi,
    clock: Clock,
    state: Mutex<State>,
}

/// The used fields of a pod in its present state.
struct Pod {
    name: String,
    uid: String,
    node: String,
    container_id: String,
    runs: bool,
    label: Option<Remedy>,
    workload: String,
    is_served: bool,
}

fn text(value: &Value, place: &str) -> String {
    value.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Pod {
    fn of(pod: &Value) -> Self {
        let status = pod.pointer("/status/containerStatuses/0");
        let id = status.map(|status| text(status, "/containerID")).unwrap_or_default();
        let label = pod.pointer("/metadata/labels/paramedic.dev~1heal").and_then(Value::as_str);
        Self {
            name: text(pod, "/metadata/name"),
            uid: text(pod, "/metadata/uid"),
            node: text(pod, "/spec/nodeName"),
            container_id: id.trim_start_matches("containerd://").to_owned(),
            runs: status.is_some_and(|status| status.pointer("/state/running").is_some())
                && pod.pointer("/metadata/deletionTimestamp").is_none(),
            label: label.and_then(Remedy::from_name),
            workload: text(pod, "/metadata/labels/app"),
            is_served: text(pod, "/metadata/labels/paramedic.dev~1serving") == "true",
        }
    }
}

impl Ward {
    pub(super) fn new(fake: FakeApi, clock: Clock) -> Self {
        Self { fake, clock, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn pod(&self, name: &str) -> Option<Pod> {
        self.fake.get(Kind::Pod, "default", name).map(|pod| Pod::of(&pod))
    }

    pub(super) fn pods_of(&self, workload: &str) -> Vec<String> {
        let pods = self.fake.list(Kind::Pod);
        let pods = pods.iter().map(Pod::of).filter(|pod| pod.workload == workload);
        pods.map(|pod| pod.name).collect()
    }

    pub(super) fn falls_ill(&self, pod: &str, illness: Illness) {
        let Some(pod) = self.pod(pod) else { return };
        let now = self.clock.now();
        self.state().ill.insert(pod.uid, (illness, now, pod.container_id, now));
    }

    /// The pod's memory grows for a while.
    pub(super) fn leaks(&self, pod: &str, rng: &mut Rng) {
        let lasts = Duration::from_secs(rng.u64(20..400));
        self.leaks_for(pod, rng.u64(100_000..2_000_000), lasts);
    }

    /// The pod's memory grows by so many bytes per second.
    pub(super) fn leaks_for(&self, pod: &str, rate: u64, lasts: Duration) {
        let Some(pod) = self.pod(pod) else { return };
        let leak = Leak { since: self.clock.now(), rate, lasts };
        self.state().leaks.insert(pod.container_id, leak);
    }

    /// What the pod's container uses of its memory, and its limit; `None` without a limit. One that
    /// has used it up is killed.
    fn memory(&self, name: &str, container_id: &str) -> Option<(u64, u64)> {
        let object = self.fake.get(Kind::Pod, "default", name)?;
        let pod = Pod::of(&object);
        let limit = object.pointer("/status/containerStatuses/0/resources/limits/memory")?;
        let limit = Resource::Memory.read(limit.as_str()?)?;
        if !pod.runs || pod.container_id != container_id {
            return None;
        }
        let leak = self.state().leaks.get(container_id).copied();
        let grown = leak.map_or(0, |leak| {
            let lasted = self.clock.now().since(leak.since).min(leak.lasts);
            leak.rate * lasted.as_secs()
        });
        let used = LIMIT / 3 + grown;
        if used >= limit {
            self.state().leaks.remove(container_id);
            let _ = self.fake.restart_container("default", name, "app", 137);
        }
        Some((used.min(limit), limit))
    }

    /// How long healing has been paused at a moment, since the fake was created.
    pub(super) fn pauses(&self) -> Vec<(Duration, Option<Duration>)> {
        self.state().pauses.clone()
    }

    /// The pod's label is about to change.
    pub(super) fn label_changes(&self, pod: &str) {
        let Some(pod) = self.pod(pod) else { return };
        self.state().labels.insert(pod.uid, (pod.label, self.clock.now()));
    }

    /// What the namespace of the pods permits at most.
    fn cap(&self) -> Remedy {
        let namespace = self.fake.get(Kind::Namespace, "", "default").unwrap_or_default();
        let label = namespace.pointer("/metadata/labels/paramedic.dev~1heal-at-most");
        let named = |label: &Value| Remedy::from_name(label.as_str()?);
        label.map_or(Remedy::Evict, |label| named(label).unwrap_or(Remedy::Observe))
    }

    /// Caps the namespace of the pods, or ends that.
    pub(super) fn caps(&self, most: Option<&str>) {
        let before = self.cap();
        let labels = json!({ "metadata": { "labels": { HEAL_AT_MOST: most } } });
        if self.fake.patch(Kind::Namespace, "", "default", &labels).is_ok() {
            self.state().cap = Some((before, self.clock.now()));
        }
    }

    pub(super) fn paused(&self, paused: bool) {
        let now = self.fake.now();
        let mut state = self.state();
        match state.pauses.last_mut() {
            Some((_, end @ None)) if !paused => *end = Some(now),
            _ if paused => state.pauses.push((now, None)),
            _ => {}
        }
        state.paused_since = paused.then(|| self.clock.now());
    }

    /// How long healing had been paused at a time since the fake was created.
    pub(super) fn paused_for(&self, at: Duration) -> Option<Duration> {
        let state = self.state();
        let pause =
            state.pauses.iter().find(|(begin, end)| *begin <= at && end.is_none_or(|end| at < end));
        pause.map(|(begin, _)| at - *begin)
    }

    /// The owner of this workload wants its pods drained before a restart.
    pub(super) fn drains(&self, workload: &str) {
        self.state().drains.insert(workload.to_owned());
    }

    pub(super) fn given(&self) -> Vec<Given> {
        self.state().given.clone()
    }

    /// The owner of this workload wants to be asked.
    pub(super) fn asks(&self, workload: &str, before: Remedy) {
        self.state().asks.insert(workload.to_owned(), before);
    }

    /// The mildest remedy before which the owner of this workload is asked.
    pub(super) fn ask_before(&self, workload: &str) -> Option<Remedy> {
        self.state().asks.get(workload).copied()
    }

    /// The owner writes an approval on the pod.
    pub(super) fn approve(&self, pod: &str, request: &str) {
        let Some(Pod { uid, .. }) = self.pod(pod) else { return };
        let approval = Approval { at: self.fake.now(), uid, request: request.to_owned() };
        let annotations = json!({ "metadata": { "annotations": { APPROVE: request } } });
        if self.fake.patch(Kind::Pod, "default", pod, &annotations).is_ok() {
            self.state().approvals.push(approval);
        }
    }

    pub(super) fn approvals(&self) -> Vec<Approval> {
        self.state().approvals.clone()
    }

    /// What the pod's app reports, if this container still runs.
    fn asked(&self, name: &str, container_id: &str) -> Option<u32> {
        let pod = self.pod(name)?;
        if !pod.runs || pod.container_id != container_id {
            return None;
        }
        let now = self.clock.now();
        let mut state = self.state();
        let Some((illness, since, container, reset)) = state.ill.get(&pod.uid).cloned() else {
            return Some(0);
        };
        let cured = illness.cure == Remedy::Restart && container != pod.container_id;
        if cured || now.since(since) > illness.lasts {
            state.ill.remove(&pod.uid);
            return Some(0);
        }
        Some((illness.rate * now.since(since.max(reset)).as_secs_f64()) as u32)
    }

    fn give(&self, remedy: Remedy, by: &str, target: &Target) -> Result<(), String> {
        let name = target.pod().map(|pod| pod.name.clone()).unwrap_or_default();
        let pod = self.pod(&name).ok_or("it is gone")?;
        if !pod.runs || pod.container_id != target.id.instance {
            return Err("its process has ended".to_owned());
        }
        let now = self.clock.now();
        let cap = self.cap();
        let mut state = self.state();
        let capped = state.cap.filter(|(_, at)| now.since(*at) < CONSENT);
        let before = state.labels.get(&pod.uid).filter(|(_, at)| now.since(*at) < CONSENT);
        let before = before.and_then(|(label, _)| *label);
        let served = pod.is_served && state.drains.contains(&pod.workload);
        let given = Given {
            at: self.fake.now(),
            remedy,
            by: by.to_owned(),
            node: pod.node,
            uid: pod.uid.clone(),
            workload: pod.workload,
            label: pod.label.max(before),
            cap: capped.map_or(cap, |(before, _)| cap.max(before)),
            container_id: pod.container_id,
            paused_for: state.paused_since.map(|since| now.since(since)),
            served,
        };
        state.given.push(given);
        match (remedy, state.ill.get_mut(&pod.uid)) {
            (Remedy::Soft, Some((illness, .., reset))) if illness.cure != Remedy::Soft => {
                *reset = now;
            }
            (Remedy::Soft, _) => drop(state.ill.remove(&pod.uid)),
            _ => {}
        }
        drop(state);
        if remedy == Remedy::Restart {
            self.fake.restart_container("default", &name, "app", 0).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The effects of one process of one node's agent.
    pub(super) fn effects(self: &Arc<Self>, node: &str, fuse: Fuse) -> Touch {
        Touch { ward: Arc::clone(self), node: node.to_owned(), fuse }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Touch {
    ward: Arc<Ward>,
    node: String,
    fuse: Fuse,
}

#[derive(Debug)]
struct App {
    ward: Arc<Ward>,
    pod: String,
    container_id: String,
}

impl Poller for App {
    fn poll(&mut self, now: BootTime) -> Later<'_, Poll> {
        let errors = self.ward.asked(&self.pod, &self.container_id);
        let result = errors.map_or(Err(HealthError::Transport(Transport::Timeout)), |errors| {
            Ok(Health {
                says: Says::Well,
                cpu_usage: Some(10.0),
                memory_usage: Some(10.0),
                error_count: Some(errors),
                uptime: None,
                ..Health::default()
            })
        });
        let responses = [0, u32::from(result.is_ok()), 0, 0, 0];
        Box::pin(async move { Poll { responses, ..Poll::for_tests(now, result) } })
    }
}

#[derive(Debug)]
struct Gauge {
    ward: Arc<Ward>,
    pod: String,
    container_id: String,
}

impl Meter for Gauge {
    fn read(&self) -> Option<CgroupReading> {
        let (used, limit) = self.ward.memory(&self.pod, &self.container_id)?;
        Some(CgroupReading {
            memory_bytes: Some(used),
            memory_limit_bytes: Some(limit),
            ..CgroupReading::default()
        })
    }

    fn process_state(&self) -> Option<ProcessState> {
        None
    }
}

impl Instances for Touch {
    fn container(&self, id: &str) -> Later<'_, Result<Container, ContainerError>> {
        let pods = self.ward.fake.list(Kind::Pod);
        let here = pods
            .iter()
            .map(Pod::of)
            .any(|pod| pod.runs && pod.container_id == id && pod.node == self.node);
        let found = Container {
            cgroups: Cgroups::default(),
            main: ProcessId { pid: i32::MAX, start_time: 1 },
            started: self.ward.clock.now(),
        };
        let found = if here { Ok(found) } else { Err(ContainerError::NoCgroup(id.to_owned())) };
        Box::pin(async move { found })
    }

    fn ended(&self, _: ProcessId) -> Later<'_, ()> {
        // The API server's report must suffice.
        Box::pin(pending())
    }
}

impl Effects for Touch {
    fn poller(&self, target: &Target) -> Option<Box<dyn Poller>> {
        let pod = target.pod()?.name.clone();
        let container_id = target.id.instance.clone();
        Some(Box::new(App { ward: Arc::clone(&self.ward), pod, container_id }))
    }

    fn meter(&self, target: &Target) -> Option<Box<dyn Meter>> {
        let pod = target.pod()?.name.clone();
        let container_id = target.id.instance.clone();
        Some(Box::new(Gauge { ward: Arc::clone(&self.ward), pod, container_id }))
    }

    fn reset<'a>(&'a self, target: &'a Target, _: Permit) -> Later<'a, (Remedied, Responses)> {
        Box::pin(async move { (self.touch(Remedy::Soft, target).await, [0, 1, 0, 0, 0]) })
    }

    fn restart<'a>(&'a self, target: &'a Target, _: Permit) -> Later<'a, Remedied> {
        Box::pin(self.touch(Remedy::Restart, target))
    }
}

impl Touch {
    async fn touch(&self, remedy: Remedy, target: &Target) -> Remedied {
        let step = self.fuse.remedy();
        if step == Step::Dead {
            return pending().await;
        }
        let given = self.ward.give(remedy, &self.node, target);
        if step == Step::Last {
            return pending().await;
        }
        given.map_or_else(Remedied::NotPerformed, |()| Remedied::Given)
    }
}
