//! Starts the real `paramedic` and checks what a user sees: its log, its pages, its exit code.
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) const PARAMEDIC: &str = env!("CARGO_BIN_EXE_paramedic");

/// Generous: only what hangs takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Repeats until there is a value.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An empty directory, removed with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("paramedic-live-{}-{next}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One line of the agent's log.
#[derive(Clone, Debug)]
pub(crate) struct Line(Value);

impl Line {
    /// Whether it has this message and these fields.
    pub(crate) fn is(&self, message: &str, fields: &[(&str, &str)]) -> bool {
        self.text("message") == message
            && fields.iter().all(|(field, text)| self.text(field) == *text)
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }
}

type Log = Arc<(Mutex<Vec<Line>>, Condvar)>;

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
    /// The address of its pages.
    pub(crate) address: SocketAddr,
}

impl Agent {
    /// Watches `urls` at a quick pace, and returns when each was sampled.
    pub(crate) fn watch(urls: &[&str], state: &Directory, arguments: &[&str]) -> Self {
        let mut command = Command::new(PARAMEDIC);
        command.args(["--log", "json", "watch", urls[0]]);
        for url in &urls[1..] {
            command.args(["--also", url]);
        }
        command
            .args(["--listen", "127.0.0.1:0", "--interval", "0.5", "--verify-window", "1"])
            .arg("--state-dir")
            .arg(state.path())
            .args(arguments);
        let agent = Self::start(command);
        until("every service was found and looked at", || {
            (agent.get("/readyz").0 == 200).then_some(())
        });
        agent
    }

    /// Runs the command; returns when it has logged the address of its pages.
    pub(crate) fn start(mut command: Command) -> Self {
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Log::default();
        let reader = thread::spawn({
            let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(&log));
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    log.0.lock().unwrap().push(Line(value));
                    log.1.notify_all();
                }
            }
        });
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut agent = Self { child, log, reader: Some(reader), address: nowhere };
        agent.address =
            agent.hears("serving metrics and status", &[]).text("address").parse().unwrap();
        agent
    }

    /// The first log line, past or future, with this message and these fields.
    pub(crate) fn hears(&self, message: &str, fields: &[(&str, &str)]) -> Line {
        let deadline = Instant::now() + DEADLINE;
        let mut lines = self.log.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.is(message, fields)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never said: {message} {fields:?}, but {lines:#?}");
            lines = self.log.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Number of lines so far with this message and these fields.
    pub(crate) fn said(&self, message: &str, fields: &[(&str, &str)]) -> usize {
        self.log.0.lock().unwrap().iter().filter(|line| line.is(message, fields)).count()
    }

    /// It applied no remedy, and did not try to.
    #[track_caller]
    pub(crate) fn healed_nothing(&self) {
        assert_eq!(self.said("healing", &[]), 0, "{:#?}", self.log.0.lock().unwrap());
    }

    /// Status and body of one of its pages.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).unwrap()
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// All targets at `/api/v1/targets`.
    pub(crate) fn targets(&self) -> Vec<Value> {
        self.json("/api/v1/targets").as_array().unwrap().clone()
    }

    /// The first of them.
    pub(crate) fn target(&self) -> Value {
        self.targets().remove(0)
    }

    /// A column of the first target's last row.
    pub(crate) fn feature(&self, name: &str) -> f64 {
        self.target()["features"][name].as_f64().unwrap()
    }

    /// The incidents, newest first.
    pub(crate) fn incidents(&self) -> Vec<Value> {
        self.json("/api/v1/incidents").as_array().unwrap().clone()
    }

    /// A series of `/metrics`, by its text; 0 if it does not exist (yet).
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.get("/metrics").1;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a series has reached a value.
    pub(crate) fn reaches(&self, series: &str, least: f64) {
        until(series, || (self.metric(series) >= least).then_some(()));
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The agent sees everything that `happens` at once: on a busy machine it could otherwise see a
    /// fault that has only begun, and rightly treat it more mildly.
    pub(crate) fn sees_at_once(&self, happens: impl FnOnce()) {
        self.signal(Signal::SIGSTOP);
        happens();
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Stops it as systemd and Kubernetes do.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        until("the agent ends after SIGTERM", || self.child.try_wait().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(PARAMEDIC).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// `GET`, on its own connection: status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer without an end of its head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.expect("an answer without a status"), body.to_owned()))
}
