//! Tests of the server over real sockets, with a loop that gives recorded answers.
use paramedic_core::{
    boot_time::BootTime,
    decide::{Action, Source},
    engine::Case,
    guard::Gate,
    target::{Remedy, Target, TargetId},
    verify::Outcome,
};
use paramedic_record::{BootId, Intent, Journal, StateLock};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::*;

/// Generous: only a hanging request takes this long.
const LIMIT: Duration = Duration::from_secs(20);

struct Page {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    /// Number of queries for the targets.
    asked: Arc<std::sync::atomic::AtomicUsize>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn page() -> Page {
    page_of(None).await
}

async fn page_of(state_dir: Option<PathBuf>) -> Page {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = server.address().unwrap();
    let metrics = Arc::new(Metrics::new("0").unwrap());
    let (queries, mut asked) = mpsc::channel(8);
    let about = BuildInfo {
        node: "node1".to_owned(),
        version: "0",
        max_remedy: Remedy::Evict,
        dry_run: false,
        journal: state_dir.is_some(),
    };
    let sources = Sources { metrics: Arc::clone(&metrics), queries, state_dir, about };
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.run(sources, async { stopped.await.unwrap_or(()) }));
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Some(query) = asked.recv().await {
            match query {
                Query::Targets(reply) => {
                    counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let name = "shop/<img src=x>\n\ndata: {}";
                    let case = Case::new(Target::for_tests(name, 1), false);
                    let _ = reply.send(vec![TargetView::of(&case)]);
                }
                Query::Pending(reply) => {
                    let _ = reply.send(vec!["the first list of pods".to_owned()]);
                }
                Query::Readings(_) => {}
            }
        }
    });
    Page { address, metrics, asked: count, stop, served }
}

impl Page {
    /// Sends a request, and returns the connection.
    async fn send(&self, method: &str, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// The complete response.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let mut stream = self.send(method, path, &format!("{headers}Connection: close\r\n")).await;
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    async fn listen(&self) -> Events {
        Events { stream: self.send("GET", "/events", "").await, heard: String::new() }
    }

    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits until there are no queries for a while: the server notices a closed listener at its
    /// next write.
    async fn quiet(&self) {
        let quiet = async {
            let mut before = self.asked();
            loop {
                sleep(Duration::from_secs(2)).await;
                if self.asked() == before {
                    return;
                }
                before = self.asked();
            }
        };
        timeout(LIMIT, quiet).await.unwrap();
    }
}

/// A listener.
struct Events {
    stream: TcpStream,
    heard: String,
}

impl Events {
    /// The next event, without HTTP's chunk framing.
    async fn next(&mut self) -> Value {
        let mut part = [0; 4096];
        loop {
            if let Some(start) = self.heard.find("data: ")
                && let Some(end) = self.heard[start..].find("\n\n")
            {
                let event = serde_json::from_str(&self.heard[start + 6..start + end]).unwrap();
                self.heard.drain(..start + end);
                return event;
            }
            let n = timeout(LIMIT, self.stream.read(&mut part)).await.unwrap().unwrap();
            assert_ne!(n, 0, "the answer ended: {}", self.heard);
            self.heard.push_str(std::str::from_utf8(&part[..n]).unwrap());
        }
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_browser_gets_html_and_other_clients_get_text() {
    let page = page().await;
    let html = page.ask("GET", "/", "Accept: text/html,*/*;q=0.8\r\n").await;
    assert!(html.starts_with("HTTP/1.1 200") && body(&html).starts_with("<!doctype html>"));
    let text = page.ask("GET", "/", "Accept: */*\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200") && body(&text).starts_with("Paramedic:"), "{text}");
}

#[tokio::test]
async fn the_page_refers_only_to_files_that_are_served() {
    let page = page().await;
    let mut wanted = vec!["/".to_owned(), "/fleet".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = wanted.pop() {
        let answer = page.ask("GET", &path, "Accept: text/html\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        let folder = path.rsplit_once('/').unwrap().0;
        for quoted in body(&answer).split('"') {
            let file = quoted.strip_prefix("./").map(|file| format!("{folder}/{file}"));
            let file = file.or_else(|| quoted.starts_with("page/").then(|| format!("/{quoted}")));
            if let Some(file) = file.filter(|file| !seen.contains(file)) {
                seen.push(file.clone());
                wanted.push(file);
            }
        }
        // Only the scheme is searched for in names.
        let elsewhere = |text: &&str| {
            text.contains("://") && !text.contains("www.w3.org/2000/svg") && text.len() > 8
        };
        assert_eq!(body(&answer).split('"').find(elsewhere), None, "{path}");
        // What the policy would refuse in any case.
        for inline in ["<style", " style=", "onclick=", "innerHTML", "eval("] {
            assert!(!body(&answer).contains(inline), "{path} has {inline}");
        }
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let page = page().await;
    for path in ["/", "/metrics", "/page/main.js", "/no/such/page", "/api/v1/targets"] {
        let answer = page.ask("GET", path, "Accept: text/html\r\n").await.to_ascii_lowercase();
        let policy = answer.lines().find_map(|line| line.strip_prefix("content-security-policy: "));
        let policy = policy.unwrap_or_else(|| panic!("{path} has no policy: {answer}"));
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"), "{path}");
        assert!(answer.contains("\r\nreferrer-policy: no-referrer\r\n"), "{path}");
    }
}

#[tokio::test]
async fn methods_other_than_get_and_head_are_refused() {
    let page = page().await;
    for path in ["/", "/events", "/api/v1/targets", "/page/main.js"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = page.ask(method, path, "Content-Length: 0\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 405"), "{method} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn events_tell_everything_first_and_then_what_changed() {
    let page = page().await;
    let mut events = page.listen().await;
    let first = events.next().await;
    assert_eq!(first["about"]["node"], "node1");
    assert_eq!(first["roster"].as_array().unwrap().len(), 1);
    assert_eq!(first["targets"][0]["name"], "shop/<img src=x>\n\ndata: {}");
    assert_eq!(first["refusals"]["cooldown"], 0);
    page.metrics.refusal(Gate::Cooldown);
    let mut second = events.next().await;
    while second.get("refusals").is_none() {
        second = events.next().await;
    }
    assert_eq!(second["refusals"]["cooldown"], 1);
    assert!(second.get("about").is_none() && second["targets"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_loop_is_queried_only_while_there_are_listeners() {
    let page = page().await;
    page.ask("GET", "/", "").await;
    assert_eq!(page.asked(), 0);
    let mut events = page.listen().await;
    events.next().await;
    events.next().await;
    drop(events);
    page.quiet().await;
}

fn intent() -> Intent {
    Intent {
        target: TargetId { uid: "web".to_owned(), instance: "1".to_owned() },
        name: "web".to_owned(),
        remedy: Remedy::Soft,
        action: Action::ResetErrors,
        confidence: 0.9,
        source: Source::Model,
        reasons: Vec::new(),
        intended: BootTime::from_nanos(1),
        wall_time: 1,
        climbed_from: None,
        workload: "web".to_owned(),
        means: None,
        symptom: paramedic_core::guard::Symptom::Errors,
        health: None,
    }
}

#[tokio::test]
async fn a_new_listener_gets_incidents_from_before_it_connected() {
    let folder = tempfile::tempdir().unwrap();
    let lock = StateLock::acquire(folder.path()).unwrap();
    let mut journal = Journal::open(&lock, BootId::current().unwrap()).unwrap();
    let mut heal = || {
        let id = journal.intend(&intent()).unwrap();
        journal.conclude(id, Outcome::Healed, None, BootTime::from_nanos(2)).unwrap();
    };
    let page = page_of(Some(folder.path().to_path_buf())).await;
    for healed in 0..2 {
        let mut events = page.listen().await;
        let first = events.next().await;
        assert_eq!(first["incidents"].as_array().unwrap().len(), healed, "{first}");
        drop(events);
        page.quiet().await;
        heal();
    }
}

#[tokio::test]
async fn an_incident_shows_what_its_evidence_shows_and_no_more_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let boot = BootId::current().unwrap();
    let lock = StateLock::acquire(folder.path()).unwrap();
    let mut journal = Journal::open(&lock, boot.clone()).unwrap();
    let numbers = [journal.intend(&intent()).unwrap(), journal.intend(&intent()).unwrap()];
    let file = serde_json::json!({
        "version": 1, "incident": numbers[0], "boot": boot.as_str(),
        "target": { "uid": "web", "instance": "1" }, "name": "web", "remedy": "restart",
        "wall_time": 1, "took_ms": 5, "summary": "3 threads: 3 S in futex_wait", "missing": [],
        "samples": [], "found": { "log": { "from": "x", "cut": false, "text": "of its log" } },
    });
    std::fs::create_dir(folder.path().join("evidence")).unwrap();
    let path = folder.path().join(format!("evidence/{}.json", numbers[0]));
    std::fs::write(path, file.to_string()).unwrap();
    let page = page_of(Some(folder.path().to_path_buf())).await;
    let answer = page.ask("GET", "/api/v1/incidents", "").await;
    let incidents: Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(incidents[1]["evidence"], "3 threads: 3 S in futex_wait");
    assert_eq!(incidents[0]["evidence"], Value::Null);
    assert!(!answer.contains("of its log"), "{answer}");
    let mut events = page.listen().await;
    let first = events.next().await;
    assert_eq!(first["incidents"][1]["evidence"], "3 threads: 3 S in futex_wait", "{first}");
}

#[tokio::test]
async fn too_many_listeners_are_refused() {
    let page = page().await;
    let mut listeners = Vec::new();
    for _ in 0..16 {
        let mut events = page.listen().await;
        events.next().await;
        listeners.push(events);
    }
    let refused = page.ask("GET", "/events", "").await.to_ascii_lowercase();
    assert!(refused.starts_with("http/1.1 503"), "{refused}");
    assert!(refused.contains("\r\nretry-after: 10\r\n"), "{refused}");
    drop(listeners);
    let free = async {
        loop {
            let mut stream = page.send("GET", "/events", "").await;
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.unwrap();
            if &head == b"HTTP/1.1 200" {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LIMIT, free).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_event_streams_at_once() {
    let page = page().await;
    let mut events = page.listen().await;
    events.next().await;
    let begun = Instant::now();
    page.stop.send(()).unwrap();
    timeout(LIMIT, page.served).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "before the grace period ends");
    let mut rest = Vec::new();
    timeout(LIMIT, events.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the last chunk: the response is complete");
}

#[tokio::test]
async fn an_agent_tells_what_it_is_and_what_it_waits_for() {
    let page = page().await;
    let about = page.ask("GET", "/api/v1/about", "").await;
    let about: Value = serde_json::from_str(about.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&about["node"], &about["version"]), (&"node1".into(), &"0".into()));
    assert_eq!(about["pending"], serde_json::json!(["the first list of pods"]));
}
