//! `paramedic watch`: one machine, no cluster.
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{WrongUsage, state_dir};
use crate::{
    decide::Brain,
    engine::Pace,
    guard::Policy,
    record::{Incident, JournalError, Metrics, Recorder, SharedJournal, StateLock},
    run::{Agent, Config, Watched},
    serve::{Server, Sources},
    signal::kernel::{Kernel, Options, Probe, Status, Wakeups},
    target::{
        Rung,
        url::{WatchUrl, target_from_url},
    },
};

/// Watch services on this machine and heal them.
///
/// Finds the process that listens at URL, watches it through `GET /health` and through the
/// kernel, and treats it with the mildest remedy that works. A service without `/health` is
/// watched through the kernel alone.
///
/// By default the strongest remedy is `soft` (`POST /heal`), since restarting is only safe where
/// somebody starts the process again. Permit restarts with --restart-command, or with
/// `--max-action restart` where a supervisor (systemd, a container runtime) does.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Where the service listens, for example <http://localhost:5000>.
    #[arg(value_name = "URL", value_parser = target_from_url)]
    url: WatchUrl,
    /// Another service to watch as well; may be repeated.
    #[arg(long = "also", value_name = "URL", value_parser = target_from_url)]
    also: Vec<WatchUrl>,
    /// The strongest remedy permitted [default: restart with --restart-command, else soft].
    #[arg(long, value_enum, value_name = "RUNG")]
    max_action: Option<MaxAction>,
    /// Restarts the service; run by `sh -c`. Without it a restart is SIGTERM, then SIGKILL.
    #[arg(long, value_name = "COMMAND")]
    restart_command: Option<String>,
    /// From SIGTERM to SIGKILL, in seconds.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    grace: f64,
    /// Path of the health endpoint.
    #[arg(long, default_value = "/health", value_name = "PATH")]
    health_path: String,
    /// Path of the soft remedy.
    #[arg(long, default_value = "/heal", value_name = "PATH")]
    heal_path: String,
    /// Calibrated confidence below which nothing is done, 0 to 1.
    #[arg(long, default_value_t = 0.8, value_name = "P")]
    min_confidence: f32,
    /// Between two regular looks at one service, in seconds.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    interval: f64,
    /// From a remedy to the verdict on it, in seconds.
    #[arg(long, default_value_t = 15.0, value_name = "SECONDS")]
    verify_window: f64,
    /// An ONNX classifier to decide with, instead of the one built in.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Where no model is usable, let the documented rules restart; by default they heal softly
    /// at most.
    #[arg(long)]
    rules_may_restart: bool,
    /// Where the journal of incidents is kept [default: /var/lib/paramedic for root, else
    /// ~/.local/state/paramedic]. While a file `paused` exists there, nothing is healed.
    #[arg(long, value_name = "DIR", env = "PARAMEDIC_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Where metrics and status are served, read-only.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Do without kernel signals, for example where the rights for eBPF cannot be had.
    #[arg(long)]
    no_kernel: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MaxAction {
    /// Watch only.
    Observe,
    /// Ask the app to reset itself.
    Soft,
    /// Restart the process.
    Restart,
}

impl From<MaxAction> for Rung {
    fn from(action: MaxAction) -> Self {
        match action {
            MaxAction::Observe => Self::Observe,
            MaxAction::Soft => Self::Soft,
            MaxAction::Restart => Self::Restart,
        }
    }
}

impl Watch {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state_dir.clone().unwrap_or_else(state_dir::default);
        let mut config = self.config(&state_dir)?;
        let server = Server::bind(self.listen).await.with_context(|| {
            format!("cannot listen on {}: choose another address with --listen", self.listen)
        })?;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))?);
        let brain = Arc::new(self.brain(&metrics));
        raise_file_limit();
        let State { lock, journal, past } = State::open(&state_dir, &mut config.policy);
        let kernel = self.kernel(&metrics, config.watched.len());
        let (queries, asked) = mpsc::channel(8);
        let recorder = Recorder::new(Arc::clone(&metrics), journal.clone());
        let sources = Sources { metrics, queries, state_dir: journal.map(|_| state_dir) };
        info!(address = %server.address()?, "serving metrics and status");
        tokio::spawn(server.run(sources));
        Agent::new(config, brain, kernel, recorder, past, asked).run(shutdown()?).await;
        drop(lock);
        Ok(ExitCode::SUCCESS)
    }

    /// What the user typed as what the agent needs; all mistakes at once.
    fn config(&self, state_dir: &Path) -> anyhow::Result<Config> {
        let mut mistakes = Vec::new();
        let mut seconds = |name: &str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                return Duration::from_secs_f64(value);
            }
            mistakes.push(format!("--{name} must be from {least} to {most} seconds, not {value}"));
            Duration::ZERO
        };
        let pace = Pace {
            tick: seconds("interval", self.interval, 0.5, 5.0),
            verify_window: seconds("verify-window", self.verify_window, 1.0, 3600.0),
        };
        let grace = seconds("grace", self.grace, 0.0, 600.0);
        if !(0.5..=1.0).contains(&self.min_confidence) {
            mistakes.push(format!(
                "--min-confidence must be from 0.5 to 1, not {}",
                self.min_confidence
            ));
        }
        for (name, path) in [("health-path", &self.health_path), ("heal-path", &self.heal_path)] {
            if !path.starts_with('/') {
                mistakes.push(format!("--{name} must begin with /, not {path:?}"));
            }
        }
        if self.restart_command.is_some() && !self.also.is_empty() {
            mistakes.push("--restart-command restarts one service; leave out --also".to_owned());
        }
        if !mistakes.is_empty() {
            return Err(WrongUsage(mistakes.join("\n           ")).into());
        }
        let default = match self.restart_command {
            Some(_) => MaxAction::Restart,
            None => MaxAction::Soft,
        };
        let ceiling = Rung::from(self.max_action.unwrap_or(default));
        Ok(Config {
            watched: self.services().map(|url| self.watched(url, ceiling)).collect(),
            policy: Policy {
                max_action: ceiling,
                rules_may_restart: self.rules_may_restart,
                ..Policy::default()
            },
            pace,
            restart_command: self.restart_command.clone(),
            grace,
            pause_file: Some(state_dir.join("paused")),
        })
    }

    fn services(&self) -> impl Iterator<Item = &WatchUrl> {
        std::iter::once(&self.url).chain(&self.also)
    }

    fn watched(&self, url: &WatchUrl, ceiling: Rung) -> Watched {
        Watched {
            url: url.url.clone(),
            port: url.port,
            addresses: url.addresses.clone(),
            host: url.url.trim_start_matches("http://").to_owned(),
            ceiling,
            health_path: self.health_path.clone(),
            heal_path: self.heal_path.clone(),
            min_confidence: self.min_confidence,
        }
    }

    /// The model that was asked for, or the built-in one; the rules where it is refused.
    fn brain(&self, metrics: &Metrics) -> Brain {
        let brain = match &self.model {
            Some(path) => Brain::load(path),
            None => Brain::embedded(),
        };
        match &brain {
            Brain::Rules { reason } => {
                metrics.rules();
                let may_restart = self.rules_may_restart;
                warn!(reason, may_restart, "no usable model: the documented rules decide");
            }
            Brain::Model(_) => {
                let about = brain.describe();
                let source = if self.model.is_some() { "file" } else { "built_in" };
                metrics.model(about.engine, source, &about.schema_version.to_string());
                info!(engine = about.engine, trees = about.trees, source, "deciding by a model");
            }
        }
        brain
    }

    /// Kernel signals, as far as they can be had.
    fn kernel(&self, metrics: &Metrics, targets: usize) -> Option<(Kernel, Wakeups)> {
        if self.no_kernel {
            warn!("watching without kernel signals, as asked");
            return None;
        }
        let capacity = u32::try_from(targets).unwrap_or(u32::MAX);
        let loaded = Kernel::load(&Options::new(capacity)).map_err(anyhow::Error::from);
        let loaded = loaded.and_then(|mut kernel| {
            let wakeups = kernel.wakeups()?.context("the wake-ups are already taken")?;
            Ok((kernel, wakeups))
        });
        match loaded {
            Ok((kernel, wakeups)) => {
                for probe in kernel.probes() {
                    metrics.probe(probe.signal.name(), probe.mechanism.name(), probe.is_live());
                    tell(probe);
                }
                Some((kernel, wakeups))
            }
            Err(error) => {
                let error = format!("{error:#}");
                warn!(error, "watching without kernel signals; `paramedic check` tells more");
                None
            }
        }
    }
}

/// One line per kernel signal.
fn tell(probe: &Probe) {
    let (signal, mechanism) = (probe.signal.name(), probe.mechanism.name());
    match &probe.status {
        Status::Unavailable { reason } => warn!(signal, reason, "kernel signal missing"),
        status => info!(signal, mechanism, status = status.name(), "kernel signal"),
    }
}

/// What the state directory gives: the right to act, the journal, and what a former life of the
/// agent did.
struct State {
    /// Held for as long as the agent acts, with a journal or without.
    lock: Option<StateLock>,
    journal: Option<SharedJournal>,
    past: Vec<Incident>,
}

impl State {
    /// Without a journal nothing hard is done; where another agent holds the directory, nothing.
    fn open(state_dir: &Path, policy: &mut Policy) -> Self {
        let lock = match StateLock::acquire(state_dir) {
            Ok(lock) => Some(lock),
            Err(error @ JournalError::Locked { .. }) => {
                policy.max_action = Rung::Observe;
                warn!(%error, "another agent is at work: this one only observes");
                None
            }
            Err(error) => {
                warn!(%error, "no state directory: no journal and no hard heals");
                None
            }
        };
        match lock.as_ref().map(SharedJournal::open).transpose() {
            Ok(opened) => {
                let (journal, past) = opened.unzip();
                Self { lock, journal, past: past.unwrap_or_default() }
            }
            Err(error) => {
                error!(%error, "no journal: no hard heals");
                Self { lock, journal: None, past: Vec::new() }
            }
        }
    }
}

/// Every target needs some ten files; what the soft limit permits may be too few for many.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Resolves on SIGTERM or SIGINT.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
