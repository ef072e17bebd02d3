//! patient-app and its supervisor, which starts it again when it ends, as a kubelet or systemd
//! would.
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Programs, cgroup::Cgroup, free_port, http};

/// From the end of one process to the start of the next.
const RESTART_DELAY: Duration = Duration::from_millis(200);
/// Generous: only what hangs takes this long.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What the supervisor shares with its [`Patient`].
#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    starts: AtomicU32,
    pid: Mutex<Option<u32>>,
    /// When each SIGTERM reached the patient, in nanoseconds since boot.
    sigterms: Mutex<Vec<u64>>,
}

/// A supervised process of patient-app in its own cgroup.
#[derive(Debug)]
pub(crate) struct Patient {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    pub(crate) cgroup: Cgroup,
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<()>>,
}

impl Patient {
    /// Starts one and waits until it answers.
    pub(crate) fn start(programs: &Programs, name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_in(programs, &format!("paramedic-{name}-{}", std::process::id()), arguments)
    }

    /// The same, with the name of its cgroup.
    pub(crate) fn start_in(programs: &Programs, cgroup: &str, arguments: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let of_port = port.to_string();
        let address = ["--address", "127.0.0.1", "--port", &of_port, "--log", "off"];
        let words: Vec<&str> = address.into_iter().chain(arguments.iter().copied()).collect();
        Self::supervised(&programs.patient, &words, port, cgroup)
    }

    /// Starts a program in a cgroup, and again whenever it ends.
    pub(crate) fn supervised(
        program: &Path,
        arguments: &[&str],
        port: u16,
        cgroup: &str,
    ) -> Result<Self> {
        let cgroup = Cgroup::create(cgroup)?;
        let shared = Arc::new(Shared::default());
        let mut command = enter(&cgroup);
        command
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let supervisor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || supervise(command, &shared)
        });
        let url = format!("http://127.0.0.1:{port}");
        let patient = Self { url, cgroup, shared, supervisor: Some(supervisor) };
        patient.wait_until_up()?;
        Ok(patient)
    }

    fn wait_until_up(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if self.get("/healthz").is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the patient does not answer at {}", self.url)
    }

    /// Sends it a GET.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        http::get(&format!("{}{path}", self.url))
    }

    /// Makes it ill.
    pub(crate) fn fall_ill(&self, illness: &str, parameters: &Value) -> Result<()> {
        let answer = http::post(&format!("{}/illness/{illness}", self.url), parameters)
            .with_context(|| format!("the patient takes no illness {illness}"))?;
        if answer.get("error").is_some() {
            bail!("the patient refuses the illness {illness}: {answer}");
        }
        Ok(())
    }

    /// Ends an illness.
    pub(crate) fn get_well(&self, illness: &str) -> Result<()> {
        http::delete(&format!("{}/illness/{illness}", self.url)).map(|_| ())
    }

    /// Sends `n` requests that fail, one after the other.
    pub(crate) fn errors(&self, n: usize) -> Result<()> {
        for _ in 0..n {
            self.get("/simulate-error")?;
        }
        Ok(())
    }

    /// Its present process.
    pub(crate) fn pid(&self) -> Option<i32> {
        let pid = *self.shared.pid.lock().unwrap_or_else(PoisonError::into_inner);
        pid.and_then(|pid| i32::try_from(pid).ok())
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::Relaxed)
    }

    /// When each SIGTERM reached it, in nanoseconds since boot.
    pub(crate) fn sigterms(&self) -> Vec<u64> {
        self.shared.sigterms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let pid = *self.shared.pid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

/// A shell that enters the cgroup and becomes the command whose words are still to be appended.
fn enter(cgroup: &Cgroup) -> Command {
    let mut script = String::from("set -e; ");
    for entrance in cgroup.entrances() {
        script += &format!("echo $$ > '{}'; ", entrance.display());
    }
    script += "exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]);
    command
}

fn supervise(mut command: Command, shared: &Shared) {
    while !shared.over.load(Ordering::Relaxed) {
        let Ok(mut child) = command.spawn() else { return };
        shared.starts.fetch_add(1, Ordering::Relaxed);
        *shared.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.id());
        if shared.over.load(Ordering::Relaxed) {
            // The stage was cleared between the two: only this thread can still end the process.
            let _ = child.kill();
        }
        read_output(&mut child, shared);
        let _ = child.wait();
        *shared.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if !shared.over.load(Ordering::Relaxed) {
            thread::sleep(RESTART_DELAY);
        }
    }
}

/// Reads what the patient prints until it ends, for the moments of its SIGTERMs.
fn read_output(child: &mut Child, shared: &Shared) {
    let Some(stdout) = child.stdout.take() else { return };
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if event["event"] == "sigterm"
            && let Some(at) = event["at_boot_ns"].as_u64()
        {
            shared.sigterms.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        }
    }
}
