//! Collects the evidence of an incident between the intention and the act, for at most a second.
//!
//! Each part has a task of its own, because each may hang by itself: a file of a process whose
//! memory is locked, an app that does not answer. At the deadline, what has come is kept, and the rest
//! is listed as missing. Whatever goes wrong here, the remedy follows.
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use paramedic_app::{
    Endpoint,
    dump::{self, MAX_DUMP},
};
use paramedic_core::{
    health::Responses,
    target::{ContainerRef, Kind, PodRef, Remedy, Target},
};
use paramedic_docker::Engine;
use paramedic_host::{
    clock::wall_time,
    evidence::{
        Missing, Reading, cgroup, descriptors,
        log::{self, MAX_LOG, POD_LOGS, Text},
        processes, sockets, threads,
    },
    procfs::Tree,
};
use paramedic_record::{
    BootId, Evidence, EvidenceStore,
    evidence::{Found, Look, VERSION},
};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{self, timeout_at},
};
use tracing::{info, warn};

use super::effects::Effects;

/// Maximum delay of a remedy by its evidence.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// Maximum number of readers at the same time, with those that hang: each holds a thread.
const READERS: usize = 32;

/// What was collected.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// What was found.
    pub(crate) found: Found,
    /// What is missing, and why.
    pub(crate) missing: Vec<Missing>,
    /// The target's responses to the request for its dump.
    pub(crate) responses: Responses,
}

impl Collected {
    fn without(part: &str, why: impl Into<String>) -> Self {
        Self { missing: vec![Missing::new(part, why)], ..Self::default() }
    }

    fn text(part: &str, text: Result<Text, String>, put: fn(&mut Found, Option<Text>)) -> Self {
        match text {
            Ok(text) => {
                let mut collected = Self::default();
                put(&mut collected.found, Some(text));
                collected
            }
            Err(why) => Self::without(part, why),
        }
    }

    /// Adds the parts of another.
    fn add(&mut self, other: Self) {
        self.found.add(other.found);
        self.missing.extend(other.missing);
        for (sum, more) in self.responses.iter_mut().zip(other.responses) {
            *sum += more;
        }
    }
}

/// Where evidence is kept, and the rows that belong to it.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) store: EvidenceStore,
    /// The rows of the last minute.
    pub(super) samples: Vec<Look>,
}

impl Keeping {
    /// Collects the evidence of an incident and writes it, all within `limit`. A disk that is slower
    /// goes on writing meanwhile. Returns the target's responses to the request for its dump.
    pub(super) async fn keep(
        self,
        effects: &dyn Effects,
        target: &Target,
        (incident, remedy): (i64, Remedy),
        limit: Duration,
    ) -> Responses {
        let (begun, deadline) = (Instant::now(), time::Instant::now() + limit);
        // The rest is for the disk.
        let collecting = effects.collect(target, limit / 5 * 4);
        let Ok(Some(collected)) = timeout_at(deadline, collecting).await else { return [0; 5] };
        let collected = *collected;
        let responses = collected.responses;
        let evidence = Evidence {
            version: VERSION,
            incident,
            boot: String::new(),
            target: target.id.clone(),
            name: target.name.clone(),
            remedy,
            wall_time: wall_time(),
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            summary: String::new(),
            missing: collected.missing,
            samples: self.samples,
            found: collected.found,
        };
        let writing = spawn_blocking(move || write(&self.store, evidence));
        if timeout_at(deadline, writing).await.is_err() {
            warn!(incident, "the disk is slow: the evidence is written during the remedy");
        }
        responses
    }
}

fn write(store: &EvidenceStore, mut evidence: Evidence) {
    if let Ok(boot) = BootId::current() {
        boot.as_str().clone_into(&mut evidence.boot);
    }
    let (incident, took_ms) = (evidence.incident, evidence.took_ms);
    let missing = evidence.missing.len();
    match store.keep(evidence) {
        Ok(bytes) => info!(incident, bytes, took_ms, missing, "evidence kept"),
        Err(error) => warn!(incident, %error, "cannot keep the evidence"),
    }
}

/// Collects on the real machine.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    tree: Tree,
    pod_logs: PathBuf,
    /// Held by each reader until it ends.
    readers: Arc<Semaphore>,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            tree: Tree::default(),
            pod_logs: PathBuf::from(POD_LOGS),
            readers: Arc::new(Semaphore::new(READERS)),
        }
    }
}

impl Collector {
    /// Collects what a hard remedy of this target destroys, within `limit`.
    pub(crate) async fn collect(
        &self,
        target: &Target,
        engine: Option<&Engine>,
        limit: Duration,
    ) -> Collected {
        let deadline = time::Instant::now() + limit;
        let mut tasks = Tasks::new(self, target, limit);
        tasks.read("processes", processes::read, |found, part| found.processes = part);
        tasks.read("threads", threads::read, |found, part| found.threads = part);
        tasks.read("sockets", sockets::read, |found, part| found.sockets = part);
        tasks.read("descriptors", descriptors::read, |found, part| found.descriptors = part);
        let limits = |tree: &Tree, target: &Target, _| descriptors::limits(tree, target);
        tasks.read("limits", limits, |found, part| found.limits = part);
        let cgroup = |_: &Tree, target: &Target, until| cgroup::read(&target.cgroups, until);
        tasks.read("cgroup", cgroup, |found, part| found.cgroup = part);
        match &target.kind {
            Kind::Pod(pod) => tasks.pod_log(self.pod_logs.clone(), Arc::clone(pod)),
            Kind::Container(container) => tasks.engine_log(engine.cloned(), Arc::clone(container)),
            Kind::Process => tasks.collected.add(Collected::without("log", NO_LOG)),
        }
        if let Some(path) = target.settings.dump.clone() {
            tasks.dump(path);
        }
        tasks.end(deadline).await
    }
}

/// Why a plain process has no log here.
const NO_LOG: &str = "a plain process: the agent does not know where it logs; `journalctl` does, if \
                      systemd runs it";

/// The parts in progress.
struct Tasks {
    tree: Tree,
    target: Arc<Target>,
    readers: Arc<Semaphore>,
    limit: Duration,
    /// When a reader stops and returns what it has.
    until: Instant,
    tasks: JoinSet<(&'static str, Collected)>,
    pending: BTreeSet<&'static str>,
    collected: Collected,
}

impl Tasks {
    fn new(of: &Collector, target: &Target, limit: Duration) -> Self {
        Self {
            tree: of.tree.clone(),
            target: Arc::new(target.clone()),
            readers: Arc::clone(&of.readers),
            limit,
            until: Instant::now() + limit / 10 * 8,
            tasks: JoinSet::new(),
            pending: BTreeSet::new(),
            collected: Collected::default(),
        }
    }

    /// Time for a request: it returns what it has before the deadline.
    fn for_requests(&self) -> Duration {
        self.limit / 10 * 9
    }

    /// Starts a reader of files on a thread of its own.
    fn read<T: 'static>(
        &mut self,
        part: &'static str,
        read: impl FnOnce(&Tree, &Target, Instant) -> Reading<T> + Send + 'static,
        put: fn(&mut Found, Option<T>),
    ) {
        let Ok(place) = Arc::clone(&self.readers).try_acquire_owned() else {
            let why = "too many earlier readers of /proc still hang";
            self.collected.add(Collected::without(part, why));
            return;
        };
        let (tree, target, until) = (self.tree.clone(), Arc::clone(&self.target), self.until);
        self.pending.insert(part);
        self.tasks.spawn_blocking(move || {
            let Reading { found, missing } = read(&tree, &target, until);
            drop(place);
            let mut collected = Collected { missing, ..Collected::default() };
            put(&mut collected.found, found);
            (part, collected)
        });
    }

    fn pod_log(&mut self, root: PathBuf, pod: Arc<PodRef>) {
        let read = move |_: &Tree, _: &Target, _| log::read(&root, &pod);
        self.read("log", read, |found, part| found.log = part);
    }

    fn engine_log(&mut self, engine: Option<Engine>, container: Arc<ContainerRef>) {
        let limit = self.for_requests();
        self.pending.insert("log");
        self.tasks.spawn(async move {
            let read = async {
                let engine = engine.ok_or("the agent has no Docker engine")?;
                let end = engine.log_end(&container.id, MAX_LOG, limit).await;
                let end = end.map_err(|error| error.to_string())?;
                let from = format!("the Docker engine's log of {}", container.name);
                Ok(Text::end_of_log(from, &end.bytes, end.cut))
            };
            ("log", Collected::text("log", read.await, |found, text| found.log = text))
        });
    }

    /// Starts the request for the app's own dump.
    fn dump(&mut self, path: String) {
        let (limit, target) = (self.for_requests(), Arc::clone(&self.target));
        self.pending.insert("dump");
        self.tasks.spawn(async move {
            let (text, responses) = dump_of(&target, &path, limit).await;
            let collected = Collected::text("dump", text, |found, text| found.dump = text);
            ("dump", Collected { responses, ..collected })
        });
    }

    /// Waits for the parts until the deadline, and lists those that have not come.
    async fn end(mut self, deadline: time::Instant) -> Collected {
        let in_time = loop {
            match timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(Ok((part, collected)))) => {
                    self.pending.remove(part);
                    self.collected.add(collected);
                }
                // It stays pending.
                Ok(Some(Err(_))) => {}
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        let why = match in_time {
            true => "its reader failed: this is a bug, please report it with the log".to_owned(),
            false => format!("not read within {} ms", self.limit.as_millis()),
        };
        for part in self.pending {
            self.collected.missing.push(Missing::new(part, &why));
        }
        self.collected
    }
}

/// The app's own dump at `path`, and its responses.
async fn dump_of(
    target: &Target,
    path: &str,
    limit: Duration,
) -> (Result<Text, String>, Responses) {
    let Some(address) = target.address else {
        return (Err("the agent has no address for its HTTP requests".to_owned()), [0; 5]);
    };
    let endpoint = match Endpoint::new(address, target.tls, &target.host, path) {
        Ok(endpoint) => endpoint,
        Err(error) => return (Err(error.to_string()), [0; 5]),
    };
    let dump = dump::read(&endpoint, limit).await;
    let text = dump.result.map_err(|error| format!("GET {path}: {error}"));
    let text =
        text.map(|body| Text::beginning(format!("GET {path}"), &body.bytes, MAX_DUMP, body.cut));
    (text, dump.responses)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use paramedic_app::hostile::Server;
    use paramedic_core::{
        engine::Remedied,
        guard::Permit,
        target::{Cgroups, ProcessId},
    };
    use paramedic_host::{
        container::{Container, ContainerError},
        instances::{Instances, Later},
    };
    use paramedic_record::StateLock;

    use super::{
        super::effects::{Meter, Poller},
        *,
    };

    const PID: i32 = 4242;
    const STAT: &str = "4242 (patient) S 1 4242 4242 0 -1 4194304 103 0 0 0 250 50 0 0 20 0 1 0 \
                        987654 9000000 512 18446744073709551615 1 1 0 0 0 0 0 4096 0\n";

    fn own() -> Target {
        let stat = Tree::default().stat(std::process::id().cast_signed()).unwrap();
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        Target { main: Some(stat.instance()), cgroups, ..Target::for_tests("own", 1) }
    }

    fn missing<'a>(collected: &'a Collected, part: &str) -> Option<&'a str> {
        let found = collected.missing.iter().find(|one| one.part == part);
        found.map(|one| one.why.as_str())
    }

    /// A process whose second thread cannot be read: opening its file hangs.
    fn tree_that_hangs(root: &Path) -> (Collector, Target, PathBuf) {
        let process = root.join(PID.to_string());
        for thread in ["1", "2"] {
            fs::create_dir_all(process.join("task").join(thread)).unwrap();
        }
        fs::write(process.join("stat"), STAT).unwrap();
        fs::write(process.join("limits"), "heading\n").unwrap();
        fs::write(process.join("task/1/stat"), STAT).unwrap();
        let pipe = process.join("task/2/stat");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let tree = Tree { proc: root.to_owned(), ..Tree::default() };
        let main = Some(ProcessId { pid: PID, start_time: 987_654 });
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        let target = Target { main, cgroups, ..Target::for_tests("hangs", 1) };
        (Collector { tree, ..Collector::default() }, target, pipe)
    }

    /// A machine on which collecting never ends, or ends at once with one part.
    struct Machine {
        hangs: bool,
    }

    impl Instances for Machine {
        fn container(&self, _: &str) -> Later<'_, Result<Container, ContainerError>> {
            Box::pin(std::future::pending())
        }

        fn ended(&self, _: ProcessId) -> Later<'_, ()> {
            Box::pin(std::future::pending())
        }
    }

    impl Effects for Machine {
        fn meter(&self, _: &Target) -> Option<Box<dyn Meter>> {
            None
        }

        fn poller(&self, _: &Target) -> Option<Box<dyn Poller>> {
            None
        }

        fn collect<'a>(
            &'a self,
            _: &'a Target,
            limit: Duration,
        ) -> Later<'a, Option<Box<Collected>>> {
            let collected = Collected {
                responses: [0, 1, 0, 0, 0],
                ..Collected::without("log", format!("{} ms", limit.as_millis()))
            };
            let hangs = self.hangs;
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Some(Box::new(collected))
            })
        }

        fn reset<'a>(&'a self, _: &'a Target, _: Permit) -> Later<'a, (Remedied, Responses)> {
            Box::pin(std::future::pending())
        }

        fn restart<'a>(&'a self, _: &'a Target, _: Permit) -> Later<'a, Remedied> {
            Box::pin(std::future::pending())
        }
    }

    async fn keep(state: &Path, hangs: bool) -> Responses {
        let store = EvidenceStore::open(&StateLock::acquire(state).unwrap()).unwrap();
        let keeping = Keeping { store, samples: Vec::new() };
        let target = Target::for_tests("web", 1);
        keeping.keep(&Machine { hangs }, &target, (7, Remedy::Restart), LIMIT).await
    }

    #[tokio::test(start_paused = true)]
    async fn collecting_that_never_ends_delays_the_remedy_by_the_limit_and_no_more() {
        let state = tempfile::tempdir().unwrap();
        let begun = time::Instant::now();
        assert_eq!(keep(state.path(), true).await, [0; 5]);
        assert_eq!(begun.elapsed(), LIMIT);
    }

    #[tokio::test]
    async fn what_was_collected_is_kept_under_the_incidents_number() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(keep(state.path(), false).await, [0, 1, 0, 0, 0]);
        let evidence = paramedic_record::evidence::read(state.path(), 7).unwrap();
        assert_eq!((evidence.name.as_str(), evidence.remedy), ("web", Remedy::Restart));
        assert_eq!(evidence.missing, [Missing::new("log", "800 ms")], "the rest is for the disk");
        assert_eq!(evidence.boot, BootId::current().unwrap().as_str());
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_no_reason_to_fail() {
        let state = tempfile::tempdir().unwrap();
        let store = EvidenceStore::open(&StateLock::acquire(state.path()).unwrap()).unwrap();
        fs::remove_dir(state.path().join("evidence")).unwrap();
        let keeping = Keeping { store, samples: Vec::new() };
        let target = Target::for_tests("web", 1);
        let of = (7, Remedy::Restart);
        let responses = keeping.keep(&Machine { hangs: false }, &target, of, LIMIT).await;
        assert_eq!(responses, [0, 1, 0, 0, 0]);
    }

    #[tokio::test]
    async fn a_file_that_hangs_costs_its_own_part_and_no_more_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let (collector, target, pipe) = tree_that_hangs(folder.path());
        let (begun, limit) = (Instant::now(), Duration::from_millis(400));
        let collected = collector.collect(&target, None, limit).await;
        let took = begun.elapsed();
        // Lets the reader end.
        fs::write(&pipe, STAT).unwrap();
        assert!(took < limit + Duration::from_millis(400), "{took:?}");
        assert_eq!(missing(&collected, "threads"), Some("not read within 400 ms"));
        assert_eq!(collected.found.threads, None);
        let processes = collected.found.processes.unwrap();
        assert_eq!(processes.list[0].name, "patient");
        assert!(collected.found.limits.is_some());
    }

    #[tokio::test]
    async fn of_this_process_every_part_is_found_but_the_log() {
        let collected = Collector::default().collect(&own(), None, Duration::from_secs(30)).await;
        let found = &collected.found;
        let names = |list: &processes::Processes| list.list.iter().any(|one| one.threads > 0);
        assert!(found.processes.as_ref().is_some_and(names), "{collected:?}");
        assert!(found.threads.as_ref().is_some_and(|threads| threads.read > 0), "{collected:?}");
        assert!(found.descriptors.as_ref().is_some_and(|all| all.open > 0), "{collected:?}");
        assert!(found.sockets.is_some() && found.limits.is_some(), "{collected:?}");
        assert_eq!(missing(&collected, "log"), Some(NO_LOG));
        assert_eq!(missing(&collected, "dump"), None, "nobody asked for one");
    }

    #[tokio::test]
    async fn while_too_many_readers_hang_no_further_one_is_started() {
        let readers = Arc::new(Semaphore::new(0));
        let collector = Collector { readers, ..Collector::default() };
        let collected = collector.collect(&own(), None, Duration::from_secs(5)).await;
        assert_eq!(collected.found, Found::default());
        assert!(missing(&collected, "threads").is_some_and(|why| why.contains("hang")));
    }

    #[tokio::test]
    async fn a_dump_is_asked_for_at_the_targets_address_and_its_response_is_counted() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nmain waits\n";
        let mut server = Server::answering(answer).await;
        let mut target = own();
        target.address = Some(server.address);
        target.settings.dump = Some("/threaddump".to_owned());
        let collected = Collector::default().collect(&target, None, Duration::from_secs(5)).await;
        assert_eq!(collected.found.dump.unwrap().text, "main waits\n");
        assert_eq!(collected.responses, [0, 1, 0, 0, 0]);
        assert!(server.request().await.starts_with("GET /threaddump HTTP/1.1\r\n"));
        target.address = None;
        let silent = Collector::default().collect(&target, None, Duration::from_secs(5)).await;
        assert!(missing(&silent, "dump").is_some_and(|why| why.contains("no address")));
    }

    #[tokio::test]
    async fn an_app_that_hangs_costs_its_dump_alone() {
        let server = Server::silent().await;
        let mut target = own();
        target.address = Some(server.address);
        target.settings.dump = Some("/threaddump".to_owned());
        let begun = Instant::now();
        let collected = Collector::default().collect(&target, None, Duration::from_secs(1)).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(missing(&collected, "dump").is_some_and(|why| why.contains("/threaddump")));
        assert!(collected.found.threads.is_some());
    }

    #[tokio::test]
    async fn a_pods_log_is_read_where_the_kubelet_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = own();
        let target =
            Target { main: own.main, cgroups: own.cgroups, ..Target::pod_for_tests("web", 1) };
        let pod_logs = folder.path().to_owned();
        let collector = Collector { pod_logs, ..Collector::default() };
        let limit = Duration::from_secs(5);
        let without = collector.collect(&target, None, limit).await;
        assert!(missing(&without, "log").is_some(), "{:?}", without.missing);
        let logs = folder.path().join("default_web_uid-web/app");
        fs::create_dir_all(&logs).unwrap();
        fs::write(logs.join("0.log"), "the last line\n").unwrap();
        let with = collector.collect(&target, None, limit).await;
        assert_eq!(with.found.log.unwrap().text, "the last line\n");
    }
}
