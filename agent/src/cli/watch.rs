//! `paramedic watch`: one machine, no cluster.
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use paramedic_core::{
    engine::Pace,
    guard::Policy,
    resize::Ceilings,
    target::{
        ChannelNames, HealthAsk, HealthProbe, Remedy, Settings, Soft, WatchedService, Windows,
    },
};
use paramedic_docker::{Containers, Selection};
use paramedic_host::url::{WatchUrl, target_from_url};
use paramedic_notify::Channel;
use paramedic_startup::{Mistakes, WrongUsage};

use super::{
    docker::DockerSocket, evidence::Evidence, notify::Notify, record::Record, remedy,
    start::Launch, state_dir,
};
use crate::run::{APPROVED, Config};

/// Watch services on this machine and heal them.
///
/// Finds the process that listens at URL, watches it through `GET /health` and through the kernel,
/// and treats it with the mildest remedy that works. A gRPC server is recognised, and asked by
/// `grpc.health.v1.Health/Check` instead. A service without either is watched through the kernel
/// alone.
///
/// With the name of a container, the agent finds and restarts the service through the Docker
/// engine. The container must publish the port of URL.
///
/// The strongest remedy is `soft` (`POST /heal`) by default, because a restart is safe only if
/// something starts the process again. Permit restarts with --restart-command, or with
/// `--max-remedy restart` under a supervisor (systemd, Docker).
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// URL of the service, for example <http://localhost:5000>, or `grpc://localhost:50051/a.B` for
    /// the health of the gRPC service `a.B`.
    #[arg(value_name = "URL", value_parser = target_from_url)]
    url: WatchUrl,
    /// Name or id of the Docker container in which the service runs.
    #[arg(value_name = "CONTAINER")]
    container: Option<String>,
    #[command(flatten)]
    docker: DockerSocket,
    /// URL of another service to watch; repeatable.
    #[arg(long = "also", value_name = "URL", value_parser = target_from_url)]
    also: Vec<WatchUrl>,
    /// Strongest permitted remedy [default: restart with --restart-command, else soft].
    #[arg(long, alias = "max-action", value_parser = remedy::up_to(Remedy::Restart), value_name = "REMEDY")]
    max_remedy: Option<Remedy>,
    /// Command that restarts the service, run by `sh -c`. Without it a restart is SIGTERM, then
    /// SIGKILL.
    #[arg(long, value_name = "COMMAND")]
    restart_command: Option<String>,
    /// Seconds from SIGTERM to SIGKILL. A container uses its own stop timeout.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    grace: f64,
    /// Path of the health endpoint [default: the first that answers of /health, /healthz, /livez,
    /// /actuator/health and others; docs/health.md has the list].
    #[arg(long, value_name = "PATH")]
    health_path: Option<String>,
    /// The soft remedy: `http METHOD /path [body]`, `signal HUP` (or USR1, USR2, WINCH) to the
    /// service's main process if it catches that, or `none` [default: POST /heal].
    #[arg(long, value_name = "REMEDY", value_parser = Soft::read, conflicts_with = "heal_path")]
    soft: Option<Soft>,
    /// Path of the soft remedy, if it is a POST like that to /heal.
    #[arg(long, default_value = "/heal", value_name = "PATH")]
    heal_path: String,
    /// A time of the day without remedies, such as '01:00-03:00 Europe/Berlin'; several are separated
    /// by commas.
    #[arg(long, value_name = "SPAN ZONE", value_parser = Windows::read)]
    not_between: Option<Windows>,
    /// Ask before a restart, and wait for `paramedic approve`.
    #[arg(long)]
    ask: bool,
    /// Path of the service's own dump of its state, such as `/debug/pprof/goroutine?debug=1` or
    /// `/actuator/threaddump`. The agent reads it before a restart and keeps it with the evidence.
    #[arg(long, value_name = "PATH")]
    dump: Option<String>,
    /// How far the limits of CPU and memory may be raised while they are too low, such as
    /// `cpu=2x,memory=1.5x`. Of a container the engine changes them; of a process the agent only
    /// advises what its unit needs.
    #[arg(long, value_name = "CEILINGS", value_parser = Ceilings::read)]
    resize: Option<Ceilings>,
    /// Minimum calibrated confidence for a remedy, 0 to 1.
    #[arg(long, default_value_t = 0.8, value_name = "P")]
    min_confidence: f32,
    /// Seconds between two regular samples of a service.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    interval: f64,
    /// Seconds from a remedy to the verdict on it.
    #[arg(long, default_value_t = 15.0, value_name = "SECONDS")]
    verify_window: f64,
    /// Seconds for which the service may fail to answer before that counts as a fault. Choose more
    /// than its longest pause (garbage collection, a backup).
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    patience: f64,
    /// Seconds that a new instance may take until it answers well.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Count responses in TLS too, by probes on the functions of the service's TLS library (OpenSSL,
    /// or Go's). That costs the service some 5 to 15 µs of CPU time per write: 10 to 40 % per request
    /// at full speed, and more where requests are very cheap. Other processes that use the same
    /// library file pay most of it too.
    #[arg(long)]
    tls_probes: bool,
    /// ONNX classifier that replaces the built-in model.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Permit the documented rules, which decide if no model is usable, to restart. By default they
    /// only heal softly.
    #[arg(long)]
    rules_may_restart: bool,
    /// Directory of the incident journal [default: /var/lib/paramedic for root, else
    /// ~/.local/state/paramedic]. While it contains a file `paused`, the agent heals nothing.
    #[arg(long, value_name = "DIR", env = "PARAMEDIC_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Listen address for metrics and status, read-only.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Apply no remedy; record what the agent would have done.
    #[arg(long)]
    dry_run: bool,
    /// Run without kernel signals, for example where eBPF is not permitted.
    #[arg(long)]
    no_kernel: bool,
    #[command(flatten)]
    evidence: Evidence,
    #[command(flatten)]
    record: Record,
    #[command(flatten)]
    notify: Notify,
}

impl Watch {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state_dir.clone().unwrap_or_else(state_dir::default);
        let (config, channels) = self.config(&state_dir)?;
        let record = self.record.place();
        let launch = Launch {
            listen: self.listen,
            readings: None,
            model: self.model,
            state_dir,
            targets: config.services.len() + usize::from(config.containers.is_some()),
            no_kernel: self.no_kernel,
            evidence: self.evidence.is_on(),
            record,
            channels,
        };
        launch.run(config, None).await
    }

    /// Turns the arguments into validated settings; reports all mistakes at once.
    fn config(&self, state_dir: &Path) -> Result<(Config, Vec<Channel>), WrongUsage> {
        let mut mistakes = Mistakes::default();
        let pace = Pace {
            tick: mistakes.seconds("interval", self.interval, 0.5, 5.0),
            verify_window: mistakes.seconds("verify-window", self.verify_window, 1.0, 3600.0),
        };
        let grace = mistakes.seconds("grace", self.grace, 0.0, 600.0);
        let patience = mistakes.seconds("patience", self.patience, 1.0, 3600.0);
        let warm_up = mistakes.seconds("warm-up", self.warm_up, 0.0, 3600.0);
        if !(0.5..=1.0).contains(&self.min_confidence) {
            let given = self.min_confidence;
            mistakes.add(format!("--min-confidence must be from 0.5 to 1, not {given}"));
        }
        let paths = [
            ("health-path", self.health_path.as_ref()),
            ("heal-path", Some(&self.heal_path)),
            ("dump", self.dump.as_ref()),
        ];
        for (name, path) in paths.into_iter().filter_map(|(name, path)| Some((name, path?))) {
            if !path.starts_with('/') {
                mistakes.add(format!("--{name} must begin with /, not {path:?}"));
            }
        }
        if self.health_path.is_some() && std::iter::once(&self.url).chain(&self.also).all(is_grpc) {
            mistakes.add("--health-path is for HTTP; the service follows the port: grpc://localhost:50051/a.B");
        }
        if self.restart_command.is_some() && !self.also.is_empty() {
            mistakes.add("--restart-command restarts one service; leave out --also");
        }
        let container = self.container.as_ref().map(|name| {
            if self.restart_command.is_some() {
                mistakes
                    .add("--restart-command cannot be used with a container: Docker restarts it");
            }
            if !is_container(name) {
                mistakes.add(format!("{name:?} is not a container name"));
            }
            (name.clone(), self.docker.engine(&mut mistakes))
        });
        self.record.check(&mut mistakes);
        let channels = self.notify.channels(&mut mistakes);
        mistakes.none()?;
        let default = match self.restart_command {
            Some(_) => Remedy::Restart,
            None => Remedy::Soft,
        };
        let ceiling = self.max_remedy.unwrap_or(default);
        // All channels of this command line get the notifications of its services.
        let notify = channels.iter().filter_map(|channel| channel.name.as_deref()).collect();
        let service = self.service(&self.url, ceiling, &notify);
        let others = self.also.iter().map(|url| self.service(url, ceiling, &notify));
        let (containers, services) = match container {
            Some((name, engine)) => {
                let selection = Selection::Named(name, Box::new(service));
                (Some(Containers { engine, selection }), others.collect())
            }
            None => (None, std::iter::once(service).chain(others).collect()),
        };
        let config = Config {
            services,
            containers,
            policy: Policy {
                max_remedy: ceiling,
                rules_may_restart: self.rules_may_restart,
                dry_run: self.dry_run,
                patience,
                warm_up,
                ..Policy::default()
            },
            pace,
            restart_command: self.restart_command.clone(),
            grace,
            pause_file: Some(state_dir.join("paused")),
            approved_file: Some(state_dir.join(APPROVED)),
        };
        Ok((config, channels))
    }

    fn service(&self, url: &WatchUrl, ceiling: Remedy, notify: &ChannelNames) -> WatchedService {
        let grpc = url.grpc.clone().map(HealthAsk::Grpc);
        let asks = grpc.or_else(|| self.health_path.clone().map(HealthAsk::Path));
        WatchedService {
            url: url.url.clone(),
            port: url.port,
            addresses: url.addresses.clone(),
            tls: url.tls,
            host: url.host().to_owned(),
            settings: Settings {
                health: asks.map(|asks| HealthProbe { port: url.port, tls: url.tls, asks }),
                soft: self.soft.clone().unwrap_or_else(|| Soft::post(&self.heal_path)),
                min_confidence: self.min_confidence,
                ask_before: self.ask.then_some(Remedy::Restart),
                approved: None,
                not_between: self.not_between.clone().unwrap_or_default(),
                tls_probes: self.tls_probes,
                dump: self.dump.clone(),
                resize: self.resize,
                drain: None,
                quarantine: None,
                notify: notify.clone(),
                ..Settings::up_to(ceiling)
            },
        }
    }
}

const fn is_grpc(url: &WatchUrl) -> bool {
    url.grpc.is_some()
}

/// Checks a name or id as Docker permits them: nothing that changes the path of a request.
fn is_container(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    name.len() <= 255
        && name.bytes().all(inner)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}
