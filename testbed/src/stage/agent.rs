//! The agent as a process, observed through its own log.
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Interrupt, Programs, free_port};

/// One line of the agent's log.
#[derive(Clone, Debug)]
pub(crate) struct Line(pub(crate) Value);

impl Line {
    pub(crate) fn message(&self) -> &str {
        self.text("message")
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    pub(crate) fn number(&self, field: &str) -> Option<f64> {
        self.0[field].as_f64()
    }
}

type Log = Arc<(Mutex<Vec<Line>>, Condvar)>;

/// How an agent is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) urls: Vec<String>,
    pub(crate) state_dir: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    log: Log,
    listener: Option<JoinHandle<()>>,
    /// `http://127.0.0.1:PORT` of its metrics and status.
    pub(crate) url: String,
}

/// From its start to its first look at every target.
const READY_LIMIT: Duration = Duration::from_secs(60);

impl Agent {
    /// Starts one and waits until it has looked at every target. `on_line` gets each line of its
    /// log.
    pub(crate) fn start(
        programs: &Programs,
        setup: &Setup,
        on_line: impl Fn(&Line) + Send + 'static,
    ) -> Result<Self> {
        let (first, rest) = setup.urls.split_first().context("an agent without a target")?;
        let mut command = Command::new(&programs.agent);
        command.args(["--log", "json", "watch", first]);
        for url in rest {
            command.args(["--also", url]);
        }
        command.arg("--state-dir").arg(&setup.state_dir).args(&setup.arguments);
        Self::run(command, on_line)
    }

    /// Starts one for the pods of `node1` and waits until it knows all of them.
    pub(crate) fn start_on_node(
        programs: &Programs,
        kubeconfig: &Path,
        state_dir: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(&programs.agent);
        command.args(["--log", "json", "agent", "--node-name", "node1"]);
        command.arg("--state-dir").arg(state_dir).env("KUBECONFIG", kubeconfig);
        Self::run(command, |_| ())
    }

    /// Starts what the command says, on a port of its own, and waits until it is ready.
    pub(crate) fn run(command: Command, on_line: impl Fn(&Line) + Send + 'static) -> Result<Self> {
        let mut agent = Self::spawn(command, on_line)?;
        agent.wait_until_ready()?;
        Ok(agent)
    }

    /// The same, and does not wait.
    pub(crate) fn spawn(
        mut command: Command,
        on_line: impl Fn(&Line) + Send + 'static,
    ) -> Result<Self> {
        let port = free_port()?;
        command
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the agent")?;
        let log = Log::default();
        let stderr = child.stderr.take().context("the agent has no standard error")?;
        let listener = thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let value = serde_json::from_str(&line)
                        .unwrap_or_else(|_| serde_json::json!({ "message": line }));
                    let line = Line(value);
                    on_line(&line);
                    log.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                    log.1.notify_all();
                }
                log.1.notify_all();
            }
        });
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self { child, log, listener: Some(listener), url })
    }

    /// A series of its metrics; 0 if it is not there.
    pub(crate) fn metric(&self, series: &str) -> Result<f64> {
        let page = minreq::get(format!("{}/metrics", self.url)).with_timeout(5).send()?;
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        Ok(page.as_str()?.lines().find_map(value).unwrap_or_default())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        while Instant::now() < deadline {
            if self.is_ready() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let said = self.lines().last().map(|l| l.message().to_owned()).unwrap_or_default();
                bail!("the agent ended with {status}: {said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the agent is not ready after {} s", READY_LIMIT.as_secs())
    }

    /// Whether it is alive, and sees all that it is to watch.
    pub(crate) fn is_ready(&self) -> bool {
        let answer = minreq::get(format!("{}/readyz", self.url)).with_timeout(5).send();
        answer.is_ok_and(|answer| answer.status_code == 200)
    }

    /// Everything it has logged so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line that fits, within `limit`; `None` if there is none by then.
    pub(crate) fn wait_for(
        &self,
        limit: Duration,
        interrupt: &Interrupt,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Option<Line>> {
        let deadline = Instant::now() + limit;
        let mut seen = 0;
        let mut lines = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines[seen..].iter().find(|line| fits(line)) {
                return Ok(Some(line.clone()));
            }
            seen = lines.len();
            interrupt.check()?;
            if Instant::now() >= deadline {
                return Ok(None);
            }
            lines = self
                .log
                .1
                .wait_timeout(lines, Duration::from_millis(50))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What happens while it is stopped it sees all at once, however slowly this machine lets it
    /// happen; and to others it hangs meanwhile.
    pub(crate) fn while_stopped<T>(&self, happens: impl FnOnce() -> Result<T>) -> Result<T> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, Signal::SIGSTOP)?;
        let came_to = happens();
        kill(pid, Signal::SIGCONT)?;
        came_to
    }

    /// Kills it, as a node that runs out of memory would.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
