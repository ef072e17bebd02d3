//! Simulation of whole clusters of real agents, with their guard, remedies, journals and locks,
//! against a fake API server that is down, slow, throttled or lying. Agents die between any two
//! steps. The oracle checks that no target is healed that must not be: see [`judge`].
//!
//! Everything but SQLite's files runs on tokio's paused clock, so that a quarter of an hour takes a
//! fraction of a second. A seed determines the whole run.
mod absent;
mod aside;
mod fuse;
mod judge;
mod rbac;
mod steps;
mod ward;

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fake_apiserver::{FakeApi, Fault, Identity, Kind, PodTemplate, Rollout, Room, Timing};
use fastrand::Rng;
use paramedic_core::{decide::Classifier, engine::Pace, guard::Policy, target::Remedy};
use paramedic_host::clock::Clock;
use paramedic_kubernetes::{Cluster, Identity as Holder, Requests, events};
use paramedic_record::{Metrics, Recorder, SharedJournal, StateLock};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{Agent, Config, Node};
use fuse::Fuse;
use ward::{Illness, LIMIT, Ward};

const OWN: &str = "paramedic-system";
const LENGTH: Duration = Duration::from_secs(16 * 60);

/// A template whose memory limit may grow, as requested by some classes of service.
fn resizable(rng: &mut Rng, template: PodTemplate) -> PodTemplate {
    let memory = LIMIT.to_string();
    let requests =
        if rng.bool() { json!({ "memory": memory }) } else { json!({ "memory": "1Mi" }) };
    let mut resources = json!({ "limits": { "memory": memory }, "requests": requests });
    if rng.bool() {
        // With an equal request for memory this is a Guaranteed pod.
        resources["limits"]["cpu"] = json!("1");
        resources["requests"]["cpu"] = json!("1");
    }
    let factor = ["memory=2x", "cpu=2x,memory=1.3x", "cpu=3x"][rng.usize(0..3)];
    template.annotation("paramedic.dev/resize", factor).spec(&json!({ "containers": [{
        "name": "app", "image": "registry.test/app:1", "resources": resources,
        "ports": [{ "name": "http", "containerPort": 5000 }],
    }]}))
}

/// Metrics without a reader.
fn untold() -> Arc<Metrics> {
    Arc::new(Metrics::new("storm").unwrap())
}

/// One workload of a simulation.
struct Workload {
    name: String,
    kind: Kind,
}

/// A cluster, its agents and its sick pods.
struct Storm {
    rng: Rng,
    fake: FakeApi,
    ward: Arc<Ward>,
    clock: Clock,
    nodes: Vec<String>,
    workloads: Vec<Workload>,
    state: tempfile::TempDir,
    /// The nodes whose agents are alive.
    alive: Mutex<HashSet<String>>,
    /// Whether the API server is down.
    down: AtomicBool,
}

/// A preStop hook rules out a restart in place.
fn hooked() -> Value {
    json!({"containers": [{
        "name": "app", "lifecycle": {"preStop": {"exec": {"command": ["sync"]}}},
        "ports": [{"name": "http", "containerPort": 5000}],
    }]})
}

/// A Service in front of a workload, perhaps only of its pods that are to serve.
fn add_service(fake: &FakeApi, name: &str, serving: bool) {
    let mut selector = json!({ "app": name });
    if serving {
        selector["paramedic.dev/serving"] = json!("true");
    }
    let metadata = json!({ "name": name, "namespace": "default" });
    let service = json!({ "metadata": metadata, "spec": { "selector": selector } });
    fake.put(Kind::Service, service);
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let fake = FakeApi::new();
        fake.set_timing(Timing { ready: Duration::from_secs(rng.u64(1..8)), ..Timing::default() });
        fake.add_namespace(OWN, &[], &[]);
        fake.set_watch_lists(rng.bool());
        fake.fence(Some("system:serviceaccount:paramedic-system:paramedic-agent"));
        let nodes: Vec<String> = (1..=rng.usize(2..=4)).map(|n| format!("node{n}")).collect();
        for node in &nodes {
            fake.add_node(node);
        }
        let mut storm = Self::over(fake, nodes, rng);
        for number in 0..storm.rng.usize(2..=3) {
            storm.add_workload(number);
        }
        storm
    }

    /// Agents of these nodes, over what the fake has.
    fn over(fake: FakeApi, nodes: Vec<String>, rng: Rng) -> Self {
        let clock = Clock::Tokio(Instant::now());
        let ward = Arc::new(Ward::new(fake.clone(), clock));
        // In memory if possible: a thousand journals are synced to disk.
        let memory = Path::new("/dev/shm");
        let state =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let state = state.unwrap();
        let (alive, down) = (Mutex::default(), AtomicBool::new(false));
        let workloads = Vec::new();
        Self { rng, fake, ward, clock, nodes, workloads, state, alive, down }
    }

    fn add_workload(&mut self, number: usize) {
        let rng = &mut self.rng;
        let name = format!("app{number}");
        let remedy = Remedy::ALL[rng.usize(0..Remedy::ALL.len())];
        // A large one may have two hard remedies in ten minutes: only the lock keeps them apart.
        let large = number == 0 && rng.u8(0..5) == 0;
        let replicas = if large { rng.u32(20..=23) } else { rng.u32(1..=4) };
        let mut template = PodTemplate::new().label("paramedic.dev/heal", remedy.name());
        if rng.u8(0..3) == 0 {
            let before = [Remedy::Restart, Remedy::Evict][rng.usize(0..2)];
            template = template.annotation("paramedic.dev/ask", before.name());
            self.ward.asks(&name, before);
        }
        if rng.u8(0..4) == 0 {
            template = template.spec(&hooked());
        }
        let drains = rng.u8(0..3) == 0;
        if drains {
            template = template
                .label("paramedic.dev/serving", "true")
                .annotation("paramedic.dev/drain", &format!("{}s", rng.u32(1..20)));
            self.ward.drains(&name);
        }
        if rng.bool() {
            template = template
                .annotation("paramedic.dev/give-up", "quarantine")
                .annotation("paramedic.dev/quarantine-ttl", ["90s", "5m"][rng.usize(0..2)]);
        }
        add_service(&self.fake, &name, drains);
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        if rng.bool() {
            template = resizable(rng, template);
        }
        let kinds = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
        let kind = kinds[if large { 0 } else { rng.usize(0..3) }];
        match kind {
            Kind::Deployment => {
                self.fake.add_deployment("default", &name, replicas, &template, &nodes)
            }
            Kind::StatefulSet => {
                self.fake.add_statefulset("default", &name, replicas, &template, &nodes)
            }
            _ => self.fake.add_daemonset("default", &name, &template, &nodes),
        };
        if rng.bool() {
            let spec = match rng.u8(0..3) {
                0 => json!({"maxUnavailable": 1}),
                1 => json!({"minAvailable": rng.u32(1..=replicas)}),
                _ => json!({"maxUnavailable": "50%"}),
            };
            self.fake.add_pdb("default", &name, &name, &spec);
        }
        self.workloads.push(Workload { name, kind });
    }

    /// One process of a node's agent; ends when its fuse blows, or with the simulation.
    async fn live(&self, node: String, lock: &StateLock, fuse: Fuse, metrics: Arc<Metrics>) {
        let journal = SharedJournal::open(lock, self.clock);
        let Ok((journal, past)) = journal else { panic!("no journal: {journal:?}") };
        let token = format!("agent-{node}");
        let account = Identity::service_account(OWN, "paramedic-agent").on_node(&node);
        self.fake.identity(&token, account.may(rbac::granted()));
        let client = fuse.client(self.fake.caller(&token));
        let born = self.clock.now().as_nanos();
        let holder = Holder {
            node: node.clone(),
            namespace: OWN.to_owned(),
            holder: format!("{node}/{born}"),
        };
        let cluster = Arc::new(Cluster::new(client, holder, self.clock, Requests::uncounted()));
        let (notices, announced) = mpsc::channel(events::QUEUE);
        let classifier =
            Arc::new(Classifier::Rules { reason: "storms are decided by the rules".into() });
        let (journal, told) = (Some(journal), Some(notices.clone()));
        let recorder = Recorder::new(metrics, Arc::clone(&classifier), journal, told, self.clock);
        let config = Config {
            services: Vec::new(),
            containers: None,
            policy: Policy { rules_may_restart: true, ..Policy::default() },
            pace: Pace { tick: Duration::from_secs(5), verify_window: Duration::from_secs(15) },
            restart_command: None,
            grace: Duration::from_secs(30),
            pause_file: None,
            approved_file: None,
        };
        let (_queries, asked) = mpsc::channel(1);
        let announcing = tokio::spawn(events::announce(Arc::clone(&cluster), announced));
        let node_of = Some(Node { cluster, notices });
        let agent = Agent::new(config, classifier, None, recorder, past, asked, node_of);
        let effects = Arc::new(self.ward.effects(&node, fuse.clone()));
        let agent = Agent { clock: self.clock, effects, ..agent };
        let (_stop, stopped) = oneshot::channel::<()>();
        let agent = agent.run(async move {
            let _ = stopped.await;
        });
        tokio::select! {
            ended = agent => ended.unwrap(),
            () = fuse.burnt() => {}
        }
        announcing.abort();
    }

    /// The agent of one node, through its restarts.
    async fn agent(self: Arc<Self>, node: String, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let directory = self.state.path().join(&node);
        let lock = StateLock::acquire(&directory).unwrap();
        loop {
            // Most processes end early: at any step, or just when a remedy was applied, or was not.
            let (steps, remedies) = match rng.u8(0..3) {
                0 => (None, None),
                1 => (Some(rng.u32(1..400)), None),
                _ => (None, Some(rng.u32(1..4))),
            };
            let fuse = Fuse::new(steps, remedies, rng.bool());
            self.alive.lock().insert(node.clone());
            self.live(node.clone(), &lock, fuse, untold()).await;
            self.alive.lock().remove(&node);
            // Tasks of the dead process must not act on: its fuse has blown.
            let away = if rng.bool() { rng.u64(0..2) } else { rng.u64(2..90) };
            sleep(Duration::from_secs(away)).await;
        }
    }

    /// The events in the cluster, until the simulation ends.
    async fn rage(&self, mut rng: Rng) {
        let end = self.clock.now() + LENGTH;
        while self.clock.now() < end {
            sleep(Duration::from_millis(rng.u64(500..20_000))).await;
            self.happens(&mut rng).await;
        }
    }

    async fn happens(&self, rng: &mut Rng) {
        let fake = &self.fake;
        let Some(workload) = self.workloads.get(rng.usize(0..self.workloads.len())) else { return };
        let pods = self.ward.pods_of(&workload.name);
        let pod = pods.get(rng.usize(0..pods.len().max(1)));
        match rng.u8(0..33) {
            0..8 => {
                if let Some(pod) = pod {
                    self.ward.falls_ill(pod, Illness::any(rng));
                }
            }
            8 => pods.iter().for_each(|pod| self.ward.falls_ill(pod, Illness::any(rng))),
            9 => pods.iter().take(4).for_each(|pod| self.ward.falls_ill(pod, Illness::any(rng))),
            10 => {
                fake.down(true);
                self.down.store(true, Ordering::Relaxed);
                sleep(Duration::from_secs(rng.u64(1..90))).await;
                self.down.store(false, Ordering::Relaxed);
                fake.down(false);
            }
            11 => fake.set_latency(Duration::from_millis(rng.u64(0..2000))),
            12 => fake.set_watch_lag(Duration::from_millis(rng.u64(0..5000))),
            13 => fake.break_watches(),
            14 => {
                fake.expire_watches();
                fake.cut_watches();
            }
            15 => {
                let of = rng.u8(0..3);
                let fault = [
                    Fault::Dropped,
                    Fault::Lost,
                    Fault::Hang { applied: true },
                    Fault::Slow(Duration::from_secs(4)),
                    Fault::Garbage,
                    Fault::Status { code: 429, retry_after: Some(1) },
                    Fault::Status { code: 500, retry_after: None },
                    Fault::Status { code: 409, retry_after: None },
                ][rng.usize(0..8)];
                let when = move |request: &fake_apiserver::Logged| {
                    request.verb != "watch"
                        && match of {
                            0 => request.is_eviction(),
                            1 => request.is_resize(),
                            _ => true,
                        }
                };
                fake.fail_next(rng.usize(1..6), when, fault);
            }
            16 => {
                if let Some(pod) = pod {
                    let remedy = Remedy::ALL[rng.usize(0..4)].name();
                    let label = if rng.bool() { json!(remedy) } else { json!(null) };
                    self.ward.label_changes(pod);
                    let _ =
                        fake.set_labels("default", pod, &json!({ "paramedic.dev/heal": label }));
                }
            }
            17 => {
                let rollout =
                    [Rollout::Unobserved, Rollout::Updated(0), Rollout::Done][rng.usize(0..3)];
                let _ = fake.set_rolling(workload.kind, "default", &workload.name, rollout);
            }
            18 => {
                if let Some(pod) = pod {
                    let _ = fake.set_ready("default", pod, rng.bool());
                }
            }
            19 => {
                if let Some(pod) = pod {
                    let _ = fake.delete_pod("default", pod);
                }
            }
            20 if workload.kind != Kind::DaemonSet && pods.len() < 20 => {
                let _ = fake.scale(workload.kind, "default", &workload.name, rng.u32(0..5));
            }
            21 => self.pause(rng).await,
            22 => {
                if let Some(pod) = pod {
                    let _ = fake.restart_container("default", pod, "app", 1);
                }
            }
            24..27 => self.approve(rng),
            27..30 => pods.iter().for_each(|pod| self.ward.leaks(pod, rng)),
            30 => {
                let all = [
                    Room::Enough,
                    Room::Enough,
                    Room::NodeFull,
                    Room::QuotaFull,
                    Room::Deferred,
                    Room::Infeasible,
                    Room::Ignored,
                    Room::Unsupported,
                ];
                fake.set_room(all[rng.usize(0..all.len())]);
            }
            31 => {
                let caps = [None, None, Some("restart"), Some("soft"), Some("observe"), Some("?")];
                self.ward.caps(caps[rng.usize(0..caps.len())]);
            }
            _ => sleep(Duration::from_secs(rng.u64(1..60))).await,
        }
    }

    /// Owners approve what Events ask, or asked long ago, and seldom on the wrong pod.
    fn approve(&self, rng: &mut Rng) {
        let events = self.fake.list(Kind::Event);
        let asked: Vec<(&str, &str)> = events
            .iter()
            .filter_map(|event| {
                let note = event["note"].as_str()?.split_once("wants to be asked: ")?.1;
                Some((event["regarding"]["name"].as_str()?, note.split(' ').next()?))
            })
            .collect();
        for _ in 0..asked.len().min(4) {
            let (pod, request) = asked[rng.usize(0..asked.len())];
            let pod = if rng.u8(0..8) == 0 { asked[rng.usize(0..asked.len())].0 } else { pod };
            self.ward.approve(pod, request);
        }
    }

    async fn pause(&self, rng: &mut Rng) {
        let annotation =
            |value: Value| json!({"metadata": {"annotations": {"paramedic.dev/paused": value}}});
        let set = |value| self.fake.patch(Kind::Namespace, "", OWN, &annotation(value)).unwrap();
        // An agent that cannot read the pause cannot obey it.
        self.fake.set_latency(Duration::ZERO);
        self.fake.forget_faults();
        set(json!("true"));
        self.ward.paused(true);
        sleep(Duration::from_secs(rng.u64(10..60))).await;
        self.ward.paused(false);
        set(json!(null));
    }
}

async fn storm(seed: u64) -> judge::Tally {
    let mut storm = Storm::new(seed);
    let rng = storm.rng.fork();
    let seeds: Vec<(String, u64)> =
        storm.nodes.clone().into_iter().map(|node| (node, storm.rng.u64(..))).collect();
    let storm = Arc::new(storm);
    let agents: Vec<_> = seeds
        .into_iter()
        .map(|(node, seed)| tokio::spawn(Arc::clone(&storm).agent(node, seed)))
        .collect();
    let watching = tokio::spawn(aside::watch(Arc::clone(&storm)));
    storm.rage(rng).await;
    watching.abort();
    match watching.await {
        Ok(fault) => panic!("seed {seed}: {fault}"),
        Err(error) => assert!(!error.is_panic(), "seed {seed}: {error}"),
    }
    for agent in agents {
        assert!(!agent.is_finished(), "an agent of seed {seed} has panicked");
        agent.abort();
    }
    for asked in storm.fake.requests() {
        // The fence may know a newer label than the watch.
        let fenced = asked.is_eviction()
            || asked.is_resize()
            || (asked.verb == "patch" && asked.resource == "pods");
        let denied = asked.status == Some(403) && !fenced;
        assert!(!denied, "seed {seed}: RBAC does not grant {asked:?}");
    }
    judge::judge(&storm.ward, &storm.fake).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"))
}

/// Runs seeds, and requires that something happened in them.
fn storms(seeds: std::ops::Range<u64>) {
    let mut total = judge::Tally::default();
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        total.add(&runtime.block_on(storm(seed)));
        runtime.shutdown_background();
    }
    println!("{total:?}");
    let all = [
        total.soft,
        total.restarts,
        total.evictions,
        total.approved,
        total.drains,
        total.quarantines,
        total.resizes,
    ];
    assert!(all.iter().all(|count| *count > 0), "{total:?}");
}

/// More seeds, for a longer search: `PARAMEDIC_STORMS=100000 cargo test --release storms`.
fn wanted(default: u64) -> u64 {
    let text = std::env::var("PARAMEDIC_STORMS").ok();
    text.map_or(default, |text| text.parse().expect("a number of storms for each test"))
}

macro_rules! storms {
    ($($name:ident: $first:expr),* $(,)?) => {
        $(#[test]
        fn $name() {
            storms($first..$first + wanted(120));
        })*
    };
}

// In parts, so that they run in parallel.
storms! {
    storms_a: 0, storms_b: 1_000_000, storms_c: 2_000_000, storms_d: 3_000_000,
    storms_e: 4_000_000, storms_f: 5_000_000, storms_g: 6_000_000, storms_h: 7_000_000,
}
