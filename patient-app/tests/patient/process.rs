//! The real binary: its output, its signals, the cost of illnesses.
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{self, SIGINT, SIGTERM};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{Client, DEADLINE, within};

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    client: Client,
}

impl Process {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_patient-app"))
            .args(["--port", "0"])
            .args(arguments)
            .env_remove("PORT")
            .env_remove("ADDRESS")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = next(&mut lines).await;
        assert_eq!(listening["event"], "listening");
        let port = u16::try_from(listening["port"].as_u64().unwrap()).unwrap();
        Self { child, lines, client: Client::of(port) }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    async fn line(&mut self) -> Value {
        next(&mut self.lines).await
    }

    async fn ended(mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id().unwrap())).unwrap()
    }

    fn resident_mib(&self) -> u64 {
        let status = self.proc_file("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    fn threads(&self) -> usize {
        let status = self.proc_file("status");
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        threads.trim().parse().unwrap()
    }

    /// Waits until its response at `path` meets the condition.
    async fn until_reported(&self, what: &str, path: &str, condition: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(&self.client.get(path).await.json()) {
            assert!(Instant::now() < deadline, "never reported at {path}: {what}");
        }
    }

    /// Waits until the condition holds.
    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "never came to be: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = within(lines.next_line()).await.unwrap().expect("the output ended");
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn boot_nanos() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    u64::try_from(Duration::from(now).as_nanos()).unwrap()
}

#[tokio::test]
async fn every_request_is_one_line_of_json() {
    let mut process = Process::start(&["--data-failure-ratio", "1"]).await;
    let answer = process.client.get("/data?x=1").await;
    let line = process.line().await;
    assert_eq!(line["method"], "GET");
    assert_eq!(line["path"], "/data");
    assert_eq!(line["status"], 500);
    assert_eq!(line["bytes"].as_u64().unwrap(), answer.body.len() as u64);
    assert!(line["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(line["duration_ms"].as_f64().unwrap() >= 0.0);
    assert!(line["time"].as_u64().unwrap() > 1_700_000_000_000);

    process.client.post("/illness/resets", "").await;
    process.line().await;
    assert!(process.client.try_send("GET", "/data", "").await.is_err());
    let line = process.line().await;
    assert_eq!((&line["path"], line.get("status")), (&"/data".into(), None));
}

#[tokio::test]
async fn check_polls_the_service_on_the_port() {
    let process = Process::start(&["--log", "off"]).await;
    let check = async |port: u16| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_patient-app"));
        check.arg("--check").env("PORT", port.to_string()).env_remove("ADDRESS");
        within(check.status()).await.unwrap().code()
    };
    let port = process.client.port();
    assert_eq!(check(port).await, Some(0));
    process.client.post("/illness/stuck", r#"{"healthz":true}"#).await;
    assert_eq!(check(port).await, Some(1), "it is stuck");
    // There may be no listener.
    assert_eq!(check(1).await, Some(1), "no listener");
}

#[tokio::test]
async fn a_request_under_way_is_finished_after_sigterm() {
    let slow = r#"slow={"milliseconds":3000}"#;
    let mut process =
        Process::start(&["--log", "off", "--data-failure-ratio", "0", "--illness", slow]).await;
    let mut stream = process.client.connect().await;
    stream.write_all(b"GET /data HTTP/1.1\r\nHost: p\r\n\r\n").await.unwrap();
    // A silent connection and an idle one delay nothing.
    let silent = process.client.connect().await;
    assert_eq!(process.client.get("/healthz").await.status, 200);

    let before = boot_nanos();
    process.signal(SIGTERM);
    let line = process.line().await;
    assert_eq!(line["event"], "sigterm");
    let at = line["at_boot_ns"].as_u64().unwrap();
    assert!(before <= at && at <= boot_nanos());

    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"));
    let line = process.line().await;
    assert_eq!((&line["event"], &line["drained"]), (&"exit".into(), &true.into()));
    assert_eq!(process.ended().await.code(), Some(0));
    drop(silent);
}

#[tokio::test]
async fn stuck_requests_do_not_keep_it_alive() {
    let mut process =
        Process::start(&["--log", "off", "--grace-seconds", "1", "--illness", "stuck"]).await;
    let mut stream = process.client.connect().await;
    stream.write_all(b"GET /data HTTP/1.1\r\nHost: p\r\n\r\n").await.unwrap();
    assert_eq!(process.client.get("/healthz").await.status, 200);
    process.signal(SIGINT);
    assert_eq!(process.line().await["event"], "sigint");
    let line = process.line().await;
    assert_eq!((&line["event"], &line["drained"]), (&"exit".into(), &false.into()));
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut process =
        Process::start(&["--log", "off", "--grace-seconds", "3600", "--illness", "stuck"]).await;
    let mut stream = process.client.connect().await;
    stream.write_all(b"GET /data HTTP/1.1\r\nHost: p\r\n\r\n").await.unwrap();
    assert_eq!(process.client.get("/healthz").await.status, 200);
    process.signal(SIGTERM);
    assert_eq!(process.line().await["event"], "sigterm");
    process.signal(SIGTERM);
    assert_eq!(process.ended().await.code(), Some(128 + 15));
}

#[tokio::test]
async fn under_the_name_kill_it_sends_signals() {
    let kill = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patient-app"));
        within(command.arg0("/bin/kill").args(arguments).output()).await.unwrap()
    };
    let mut process = Process::start(&["--log", "off"]).await;
    let pid = process.child.id().unwrap().to_string();
    let killed = kill(&[&pid]).await;
    assert_eq!((killed.status.code(), killed.stderr), (Some(0), Vec::new()));
    assert_eq!(process.line().await["event"], "sigterm");
    assert_eq!(process.ended().await.code(), Some(0));
    let refused = kill(&["-s", "PATIENT", &pid]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.starts_with("kill: unknown signal: PATIENT\nusage: "), "{said}");
}

#[tokio::test]
async fn the_port_is_closed_while_it_drains() {
    let mut process = Process::start(&["--log", "off", "--illness", "stuck"]).await;
    let mut stream = process.client.connect().await;
    stream.write_all(b"GET /data HTTP/1.1\r\nHost: p\r\n\r\n").await.unwrap();
    assert_eq!(process.client.get("/healthz").await.status, 200);
    process.signal(SIGTERM);
    assert_eq!(process.line().await["event"], "sigterm");
    let deadline = Instant::now() + DEADLINE;
    while process.client.try_send("GET", "/healthz", "").await.is_ok() {
        assert!(Instant::now() < deadline, "it still takes requests");
    }
}

#[tokio::test]
async fn a_leak_takes_memory_and_gives_it_back() {
    let process = Process::start(&["--log", "off"]).await;
    let before = process.resident_mib();
    for round in 1..=2 {
        let body = r#"{"mib_per_second":4096,"max_mib":48}"#;
        assert_eq!(process.client.post("/illness/leak", body).await.status, 200);
        process.until_reported("all of it", "/illness/leak", |leak| leak["held_mib"] == 48).await;
        assert!(process.resident_mib() >= before + 48);
        let used = |metrics: &Value| metrics["memory"]["used_bytes"].as_u64() > Some(48 << 20);
        process.until_reported("48 MiB in use", "/metrics", used).await;
        assert_eq!(process.client.delete("/illness/leak").await.json()["held_mib"], 0);
        let after = process.resident_mib();
        assert!(after < before + 8, "round {round}: {before} MiB before, {after} MiB after");
    }
    process.until("the end of its thread", |p| p.threads() == 1).await;
}

#[tokio::test]
async fn a_leak_grows_at_its_pace() {
    let process = Process::start(&["--log", "off"]).await;
    let asked = Instant::now();
    process.client.post("/illness/leak", r#"{"mib_per_second":2}"#).await;
    process.until_reported("the first MiB", "/illness/leak", |leak| leak["held_mib"] != 0).await;
    assert!(asked.elapsed() >= Duration::from_millis(500), "1 MiB at 2 MiB/s takes half a second");
}

#[tokio::test]
async fn a_leak_beyond_the_address_space_is_refused() {
    let process = Process::start(&["--log", "off"]).await;
    let limit = limit_address_space(&process, 1 << 30);
    assert!(limit, "the address space of the child could not be limited");
    let answer = process.client.post("/illness/leak", r#"{"max_mib":1048576}"#).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(process.client.get("/illness/leak").await.json()["active"], false);
}

/// Limits from outside what the process may map, with util-linux's prlimit.
fn limit_address_space(process: &Process, bytes: u64) -> bool {
    let pid = process.child.id().unwrap();
    let limit = std::process::Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--as={bytes}")])
        .status();
    limit.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_burn_spins_and_stops() {
    let process = Process::start(&["--log", "off"]).await;
    let idle = process.client.get("/metrics").await.json()["cpu"]["used_seconds"].as_f64().unwrap();
    process.client.post("/illness/burn", r#"{"threads":2}"#).await;
    assert_eq!(process.threads(), 3);
    let burning = |metrics: &Value| {
        metrics["cpu"]["used_seconds"].as_f64() > Some(idle + 0.5)
            && metrics["cpu_usage"].as_u64() > Some(0)
    };
    process.until_reported("half a second of CPU", "/metrics", burning).await;
    process.client.delete("/illness/burn").await;
    process.until("the end of its threads", |p| p.threads() == 1).await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_says_so() {
    let process = Process::start(&["--log", "off"]).await;
    let port = process.client.port().to_string();
    let second = Command::new(env!("CARGO_BIN_EXE_patient-app"))
        .env("PORT", &port)
        .env_remove("ADDRESS")
        .output();
    let second = within(second).await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains(&port) && error.contains("--port"), "{error}");
}

#[tokio::test]
async fn it_listens_on_the_given_address_and_port() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_patient-app"))
        .env("PORT", "0")
        .env("ADDRESS", "127.0.0.1")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(next(&mut lines).await["address"], "127.0.0.1");
}

#[tokio::test]
async fn work_is_cpu_time() {
    let work = ["--log", "off", "--data-failure-ratio", "0", "--work-microseconds", "60000"];
    let process = Process::start(&work).await;
    let used = |metrics: &Value| metrics["cpu"]["used_seconds"].as_f64().unwrap();
    let before = used(&process.client.get("/metrics").await.json());
    assert_eq!(process.client.data(5).await, [200; 5]);
    // Its vital signs are measured at intervals.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let after = used(&process.client.get("/metrics").await.json());
        if after - before >= 0.3 {
            return;
        }
        assert!(Instant::now() < deadline, "{before} to {after}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
