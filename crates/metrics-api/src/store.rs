//! The known pods, as the API server reports them, and their values, accepted only from the agent
//! of their own node.
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use kube::core::SelectorExt;
use paramedic_api_server::Workload;
use paramedic_pod_metrics::{Frame, Metric, PodMetrics};
use tokio::time::Instant;

use super::path::Pods;

/// An agent is silent if it sends nothing for this long. Its pods then have no values.
pub(super) const SILENT: Duration = Duration::from_secs(10);

/// A pod with the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) workload: Option<Workload>,
    pub(super) ready: bool,
}

/// Why the load of a workload is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unmeasured {
    #[error("it has no ready pod with the label paramedic.dev/heal")]
    NoReadyPod,
    #[error(
        "{without} of its {ready} ready pods have no http_requests_per_second: their agents do not \
         respond, or the kernel cannot measure them"
    )]
    Without { without: usize, ready: usize },
}

/// What the pods of a workload add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    rate: f32,
    ready: usize,
    /// Ready pods without a value.
    without: usize,
}

impl Sum {
    fn add(&mut self, pod: &Pod, rate: Option<f32>) {
        self.rate += rate.unwrap_or_default();
        self.ready += usize::from(pod.ready);
        self.without += usize::from(pod.ready && rate.is_none());
    }

    /// A tenth of the ready pods may have no value, as while their agents restart. They count like
    /// the others.
    fn measured(self) -> Result<f32, Unmeasured> {
        let Self { rate, ready, without } = self;
        if ready == 0 {
            return Err(Unmeasured::NoReadyPod);
        }
        if without * 10 > ready {
            return Err(Unmeasured::Without { without, ready });
        }
        Ok(rate * ready as f32 / (ready - without) as f32)
    }
}

/// A value and its age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Value<'a> {
    pub(super) pod: &'a str,
    pub(super) value: f32,
    /// How long ago its window ended.
    pub(super) age: Duration,
    pub(super) window: Duration,
}

/// The pods and their values.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// By namespace and name, as requests name them.
    pods: BTreeMap<String, BTreeMap<String, Pod>>,
    /// The last frame of each node's agent.
    nodes: HashMap<String, Heard>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    readings: HashMap<String, PodMetrics>,
}

impl Store {
    /// Adds or changes a pod.
    pub(super) fn put(&mut self, namespace: &str, name: &str, pod: Pod) {
        match self.pods.get_mut(namespace) {
            Some(pods) => drop(pods.insert(name.to_owned(), pod)),
            None => {
                let pods = BTreeMap::from([(name.to_owned(), pod)]);
                self.pods.insert(namespace.to_owned(), pods);
            }
        }
    }

    /// Removes the pod of this uid. Another pod may have its name by now.
    pub(super) fn remove(&mut self, namespace: &str, name: &str, uid: &str) {
        let Some(pods) = self.pods.get_mut(namespace) else { return };
        if pods.get(name).is_some_and(|pod| pod.uid == uid) {
            pods.remove(name);
        }
        if pods.is_empty() {
            self.pods.remove(namespace);
        }
    }

    /// Removes all pods but these.
    pub(super) fn retain(&mut self, mut there: impl FnMut(&str) -> bool) {
        for pods in self.pods.values_mut() {
            pods.retain(|_, pod| there(&pod.uid));
        }
        self.pods.retain(|_, pods| !pods.is_empty());
    }

    /// Takes a frame of a node's agent.
    pub(super) fn hear(&mut self, node: &str, frame: Frame, now: Instant) {
        let readings = frame.pods.into_iter().map(|reading| (reading.uid.clone(), reading));
        match self.nodes.get_mut(node) {
            Some(heard) => {
                heard.at = now;
                heard.readings.clear();
                heard.readings.extend(readings);
            }
            None => {
                let heard = Heard { at: now, readings: readings.collect() };
                self.nodes.insert(node.to_owned(), heard);
            }
        }
    }

    /// Drops the data of silent agents, including those of removed nodes.
    pub(super) fn forget_the_silent(&mut self, now: Instant) {
        self.nodes.retain(|_, heard| now.duration_since(heard.at) <= SILENT);
    }

    /// The values of a metric by pod name. Pods without a value are missing.
    pub(super) fn values<'a>(
        &'a self,
        namespace: &str,
        wanted: &'a Pods,
        metric: Metric,
        now: Instant,
    ) -> impl Iterator<Item = Value<'a>> {
        let (only, selector) = match wanted {
            Pods::Named(name) => (Some(name), None),
            Pods::Selected(selector) => (None, Some(selector)),
        };
        let pods = self.pods.get(namespace);
        let one = only.and_then(|name| pods?.get_key_value(name));
        let all = selector.and(pods).into_iter().flatten();
        one.into_iter()
            .chain(all)
            .filter(move |(_, pod)| selector.is_none_or(|s| s.matches(&pod.labels)))
            .filter_map(move |(name, pod)| self.value(name, pod, metric, now))
    }

    fn value<'a>(
        &'a self,
        name: &'a str,
        pod: &Pod,
        metric: Metric,
        now: Instant,
    ) -> Option<Value<'a>> {
        let heard = self.nodes.get(&pod.node)?;
        let silence = now.duration_since(heard.at);
        let reading = heard.readings.get(&pod.uid).filter(|_| silence <= SILENT)?;
        let (age, window) = (reading.age(metric).saturating_add(silence), reading.window(metric));
        // The age has grown since the agent sent it.
        let value = reading.value(metric).filter(|_| age <= reading.counts_for())?;
        Some(Value { pod: name, value, age, window })
    }

    /// The load of one workload: requests per second of all its pods.
    pub(super) fn load(
        &self,
        namespace: &str,
        workload: &Workload,
        now: Instant,
    ) -> Result<f32, Unmeasured> {
        let mut sum = Sum::default();
        for (name, pod) in self.pods.get(namespace).into_iter().flatten() {
            if pod.workload.as_ref() == Some(workload) {
                sum.add(pod, self.rate(name, pod, now));
            }
        }
        sum.measured()
    }

    /// The load of every workload for which it is known, by namespace and workload.
    pub(super) fn loads(&self, now: Instant) -> impl Iterator<Item = (&str, &Workload, f32)> {
        self.pods.iter().flat_map(move |(namespace, pods)| {
            let mut sums = BTreeMap::<&Workload, Sum>::new();
            for (name, pod) in pods {
                let Some(workload) = &pod.workload else { continue };
                sums.entry(workload).or_default().add(pod, self.rate(name, pod, now));
            }
            let measured = sums
                .into_iter()
                .filter_map(|(workload, sum)| Some((workload, sum.measured().ok()?)));
            measured.map(move |(workload, rate)| (namespace.as_str(), workload, rate))
        })
    }

    fn rate(&self, name: &str, pod: &Pod, now: Instant) -> Option<f32> {
        Some(self.value(name, pod, Metric::HttpRequestsPerSecond, now)?.value)
    }

    /// The number of known pods and agents.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.pods.values().map(BTreeMap::len).sum(), self.nodes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector;
    use paramedic_api_server::Kind;

    fn pod(uid: &str, node: &str) -> Pod {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let workload = Some(web());
        Pod { uid: uid.to_owned(), node: node.to_owned(), labels, workload, ready: true }
    }

    fn web() -> Workload {
        Workload { kind: Kind::Deployment, name: "web".to_owned() }
    }

    fn frame(pods: &[(&str, f32)]) -> Frame {
        let reading = |&(uid, rate): &(&str, f32)| PodMetrics {
            uid: uid.to_owned(),
            age_ms: 500,
            window_ms: 10_000,
            verdict_age_ms: 0,
            healing: false,
            values: [Some(rate), Some(0.0), None, Some(0.0), Some(0.0), Some(0.0)],
        };
        Frame { pods: pods.iter().map(reading).collect() }
    }

    fn rates(store: &Store, wanted: &Pods, now: Instant) -> Vec<(String, f32)> {
        let metric = Metric::HttpRequestsPerSecond;
        let values = store.values("default", wanted, metric, now);
        values.map(|value| (value.pod.to_owned(), value.value)).collect()
    }

    fn all() -> Pods {
        Pods::Selected(selector::parse("").unwrap())
    }

    fn two_pods() -> (Store, Instant) {
        let (mut store, now) = (Store::default(), Instant::now());
        store.put("default", "a", pod("uid-a", "node1"));
        store.put("default", "b", pod("uid-b", "node2"));
        store.put("other", "a", pod("uid-c", "node1"));
        store.hear("node1", frame(&[("uid-a", 1.0), ("uid-c", 3.0)]), now);
        store.hear("node2", frame(&[("uid-b", 2.0)]), now);
        (store, now)
    }

    #[test]
    fn pods_of_the_namespace_are_selected() {
        let (store, now) = two_pods();
        let both = [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)];
        assert_eq!(rates(&store, &all(), now), both);
        let selected = |text| Pods::Selected(selector::parse(text).unwrap());
        assert_eq!(rates(&store, &selected("app=web"), now), both);
        assert!(rates(&store, &selected("app=db"), now).is_empty());
        assert_eq!(rates(&store, &Pods::Named("b".to_owned()), now), both[1..]);
        assert!(rates(&store, &Pods::Named("c".to_owned()), now).is_empty());
    }

    #[test]
    fn values_of_pods_on_other_nodes_are_ignored() {
        let (mut store, now) = two_pods();
        store.hear("node1", frame(&[("uid-a", 1.0), ("uid-b", 1000.0)]), now);
        assert_eq!(rates(&store, &all(), now)[1], ("b".to_owned(), 2.0));
    }

    #[test]
    fn a_pod_missing_in_the_last_frame_has_no_value() {
        let (mut store, now) = two_pods();
        store.hear("node1", frame(&[]), now);
        assert_eq!(rates(&store, &all(), now), [("b".to_owned(), 2.0)]);
    }

    #[test]
    fn pods_of_a_silent_agent_have_no_values() {
        let (mut store, now) = two_pods();
        let later = now + SILENT + Duration::from_millis(1);
        for (node, uid, rate) in [("node1", "uid-a", 1.0), ("node2", "uid-b", 2.0)] {
            let mut frame = frame(&[(uid, rate)]);
            frame.pods[0].healing = true;
            store.hear(node, frame, now);
        }
        assert_eq!(rates(&store, &all(), now + SILENT).len(), 2);
        store.hear("node2", frame(&[("uid-b", 2.0)]), later);
        assert_eq!(rates(&store, &all(), later), [("b".to_owned(), 2.0)]);
        store.forget_the_silent(later);
        assert_eq!(store.count(), (3, 1));
    }

    #[test]
    fn the_age_grows_while_the_agent_is_silent() {
        let (mut store, now) = two_pods();
        for (healing, age_ms, seconds) in [(false, 4000, 6), (true, 52_000, 8)] {
            let mut frame = frame(&[("uid-b", 2.0)]);
            (frame.pods[0].healing, frame.pods[0].age_ms) = (healing, age_ms);
            store.hear("node2", frame, now);
            let count = |ms: u64| {
                let later = now + Duration::from_millis(seconds * 1000 + ms);
                rates(&store, &Pods::Named("b".to_owned()), later).len()
            };
            assert_eq!([count(0), count(1)], [1, 0], "healing: {healing}");
        }
    }

    #[test]
    fn an_unknown_value_is_missing_and_not_zero() {
        let (store, now) = two_pods();
        assert_eq!(store.values("default", &all(), Metric::CpuThrottledRatio, now).count(), 0);
    }

    /// The stream was written by the code of 0.1.0; `crates/pod-metrics/tests` has the other direction.
    #[test]
    fn an_agent_of_0_1_0_provides_the_metrics_that_it_knows() {
        let stream = include_str!("../../pod-metrics/tests/fixtures/stream-0.1.0.jsonl");
        let frame = Frame::parse(stream.lines().nth(1).unwrap().as_bytes()).unwrap();
        let (mut store, now) = (Store::default(), Instant::now());
        store.put("default", "a", pod("uid-1", "node1"));
        store.hear("node1", frame, now);
        let value = |metric| store.values("default", &all(), metric, now).next().map(|v| v.value);
        assert_eq!(value(Metric::HttpRequestsPerSecond), Some(12.5));
        assert_eq!(value(Metric::UnhealthyProbability), Some(0.01));
        assert_eq!(value(Metric::HttpRequestsInFlight), None);
    }

    #[test]
    fn the_age_counts_from_the_end_of_the_window() {
        let (store, now) = two_pods();
        let wanted = all();
        let later = now + Duration::from_secs(3);
        let metric = Metric::HttpRequestsPerSecond;
        let value = store.values("default", &wanted, metric, later).next().unwrap();
        assert_eq!(value.age, Duration::from_millis(3500));
        assert_eq!(value.window, Duration::from_secs(10));
    }

    #[test]
    fn the_load_of_a_workload_is_that_of_all_its_pods() {
        let (mut store, now) = two_pods();
        assert_eq!(store.load("default", &web(), now), Ok(3.0));
        let all: Vec<_> = store.loads(now).map(|(namespace, _, rate)| (namespace, rate)).collect();
        assert_eq!(all, [("default", 3.0), ("other", 3.0)]);
        let db = Workload { kind: Kind::StatefulSet, ..web() };
        assert_eq!(store.load("default", &db, now), Err(Unmeasured::NoReadyPod));
        store.put("default", "c", Pod { ready: false, ..pod("uid-d", "node1") });
        store.put("default", "d", Pod { workload: None, ..pod("uid-e", "node1") });
        assert_eq!(store.load("default", &web(), now), Ok(3.0));
        store.put("default", "e", pod("uid-f", "node1"));
        let why = Unmeasured::Without { without: 1, ready: 3 };
        assert_eq!(store.load("default", &web(), now), Err(why));
        assert_eq!(store.loads(now).count(), 1);
        assert!(why.to_string().starts_with("1 of its 3 ready pods have no"), "{why}");
    }

    #[test]
    fn one_in_ten_pods_may_have_no_value() {
        let (mut store, now) = two_pods();
        let names: Vec<String> = (0..8).map(|number| format!("uid-{number}")).collect();
        for name in &names {
            store.put("default", name, pod(name, "node3"));
        }
        let values: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
        store.hear("node3", frame(&values[1..]), now);
        // Nine pods have ten requests per second.
        let rate = store.load("default", &web(), now).unwrap();
        assert!((rate - 10.0 * 10.0 / 9.0).abs() < 1e-5, "{rate}");
        store.hear("node3", frame(&values[2..]), now);
        let why = Unmeasured::Without { without: 2, ready: 10 };
        assert_eq!(store.load("default", &web(), now), Err(why));
    }

    #[test]
    fn another_pod_of_the_same_name_is_another_pod() {
        let (mut store, now) = two_pods();
        store.put("default", "a", pod("uid-new", "node1"));
        assert_eq!(rates(&store, &all(), now), [("b".to_owned(), 2.0)]);
        // The deletion of the old pod arrives late.
        store.remove("default", "a", "uid-a");
        assert_eq!(store.count().0, 3);
        store.remove("default", "a", "uid-new");
        assert_eq!(store.count().0, 2);
        store.retain(|uid| uid == "uid-b");
        assert_eq!(store.count().0, 1);
    }
}
