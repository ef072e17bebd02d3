//! The subject of an episode: a process of patient-app with its clients. Injects the fault and
//! applies the remedy.
use std::{
    io::Write as _,
    net::TcpStream,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    libc,
    sys::{
        signal::{Signal, kill},
        socket::{setsockopt, sockopt},
    },
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    client::Clients,
    kind::{Kind, Remedy},
    plan::Episode,
};
use crate::stage::{Programs, cgroup::Cgroup, http, patient::Patient, traffic::Traffic};

/// The memory limit, in the kinds that need one.
const MEMORY: u64 = 96 << 20;
const START_LIMIT: Duration = Duration::from_secs(10);

/// A process of patient-app with its clients. The fields are dropped in this order.
pub(crate) struct Subject {
    pub(crate) clients: Clients,
    nuisance: Option<Traffic>,
    pub(crate) patient: Patient,
    neighbour: Option<Neighbour>,
    episode: Episode,
}

/// A process that takes the CPU of the cgroup that it shares with the subject.
struct Neighbour {
    patient: Patient,
    _both: Cgroup,
}

impl Neighbour {
    fn start(programs: &Programs, both: Cgroup, name: &str) -> Result<Self> {
        let patient = Patient::start_in(programs, &format!("{name}/neighbour"), &[])?;
        patient.cgroup.favour()?;
        both.limit_cpu(15)?;
        Ok(Self { patient, _both: both })
    }
}

/// The upstream that the subject of an episode called `name` calls, in the kind that has one.
pub(crate) fn upstream(
    programs: &Programs,
    episode: &Episode,
    name: &str,
) -> Result<Option<Patient>> {
    let calm = ["--data-failure-ratio", "0"];
    let calls = matches!(episode.kind, Kind::Upstream | Kind::UpstreamSilent);
    calls.then(|| Patient::start(programs, &format!("{name}-up"), &calm)).transpose()
}

impl Subject {
    /// Starts the process, without clients yet. `upstream` is the service that it calls.
    pub(crate) fn prepare(
        programs: &Programs,
        episode: &Episode,
        name: &str,
        upstream: Option<&Patient>,
    ) -> Result<Self> {
        let seed = episode.seed.to_string();
        let errors = match episode.kind {
            Kind::HealthyRareErrors => format!("{:.4}", 0.002 + 0.008 * episode.intensity),
            _ => "0".to_owned(),
        };
        let work = match episode.kind {
            Kind::Quota => "20000",
            Kind::Starved => "5000",
            Kind::HighLoad => "200",
            _ => "100",
        };
        let mut arguments =
            vec!["--data-failure-ratio", &errors, "--seed", &seed, "--work-microseconds", work];
        arguments.extend(["--grace-seconds", "1"]);
        if let Some(upstream) = upstream {
            arguments.extend(["--upstream", upstream.url.trim_start_matches("http://")]);
        }
        let (patient, neighbour) = if episode.kind == Kind::Starved {
            let name = format!("paramedic-{name}-{}", std::process::id());
            let both = Cgroup::create(&name)?;
            let patient = Patient::start_in(programs, &format!("{name}/subject"), &arguments)?;
            (patient, Some(Neighbour::start(programs, both, &name)?))
        } else {
            (Patient::start(programs, name, &arguments)?, None)
        };
        if let Some(percent) = episode.quota {
            patient.cgroup.limit_cpu(percent)?;
        }
        if matches!(episode.kind, Kind::Leak | Kind::HealthyFullCache) {
            patient.cgroup.limit_memory(MEMORY)?;
        }
        if episode.kind == Kind::HealthyFullCache {
            patient.fall_ill("leak", &leak(episode, 4096))?;
        }
        let clients = Clients::of(&patient.url);
        Ok(Self { clients, nuisance: None, patient, neighbour, episode: episode.clone() })
    }

    /// Starts its clients. The agent must be running by then, because it searches all open
    /// connections for its targets.
    pub(crate) fn open(&mut self) {
        self.clients.come(self.episode.load);
    }

    /// Injects the fault of the episode.
    pub(crate) fn inject(&mut self) -> Result<()> {
        let Episode { kind, intensity, .. } = self.episode;
        let between = |low: f64, high: f64| low + (high - low) * intensity;
        let ratio = between(0.5, 1.0);
        let errors = |cleared_by: &str| json!({ "ratio": ratio, "cleared_by": cleared_by });
        match kind {
            Kind::ErrorBurst => self.ill("errors", &errors("reset_errors")),
            Kind::BadState => self.ill("errors", &errors("restart")),
            Kind::LiesHealthy => {
                self.ill("lie", &json!({ "as": "healthy" }))?;
                self.ill("errors", &errors("reset_errors"))
            }
            Kind::LiesSick => self.ill("lie", &json!({ "as": "critical" })),
            Kind::Stuck => self.ill("stuck", &Value::Null),
            Kind::Leak => self.ill("leak", &leak(&self.episode, 16)),
            Kind::CpuBurn => {
                let percent = between(17.0, 19.0) as u32;
                let by = "reset_errors";
                let burn = json!({ "threads": 1, "percent": percent, "cleared_by": by });
                self.ill("burn", &burn)?;
                let slow =
                    json!({ "milliseconds": between(550.0, 800.0) as u32, "cleared_by": by });
                self.ill("slow", &slow)
            }
            Kind::Quota => {
                self.clients.surge(5, 20);
                Ok(())
            }
            Kind::HighLoad => {
                self.clients.surge(2, between(40.0, 150.0) as u32);
                Ok(())
            }
            Kind::ClientResets => {
                self.nuisance(between(10.0, 60.0), true);
                Ok(())
            }
            Kind::PortScan => {
                self.nuisance(between(20.0, 100.0), false);
                Ok(())
            }
            Kind::Slow | Kind::SlowHandler => self.slow(),
            Kind::HangUnseen => self.ill("hang", &json!({ "ratio": 1 })),
            Kind::PoolUsedUp => self.ill("hang", &json!({ "ratio": between(0.35, 0.8) })),
            Kind::CutOff => self.ill("resets", &json!({ "ratio": between(0.35, 0.8) })),
            Kind::Stopped => self.signal(Signal::SIGSTOP),
            Kind::Starved => {
                let burn = json!({ "threads": 2 });
                self.neighbour.as_ref().map_or(Ok(()), |it| it.patient.fall_ill("burn", &burn))
            }
            Kind::SlowLoris => {
                self.hold(between(10.0, 60.0) as usize, true);
                Ok(())
            }
            Kind::IdleConnections => {
                self.hold(between(10.0, 100.0) as usize, false);
                Ok(())
            }
            Kind::Blip if intensity < 0.5 => self.ill("stuck", &Value::Null),
            Kind::Blip => {
                let errors = (intensity * 10.0) as usize - 4;
                self.patient.errors(errors.clamp(1, 5))
            }
            Kind::Flapping => {
                let spell = between(1500.0, 3000.0) as u32;
                let ratio = between(0.7, 1.0);
                self.ill("errors", &json!({ "ratio": ratio, "spell_ms": spell }))
            }
            Kind::HealthyDeploy => self.terminate(),
            // The target itself has no fault; the upstream may have one.
            Kind::Upstream
            | Kind::UpstreamSilent
            | Kind::HealthyIdle
            | Kind::HealthySteady
            | Kind::HealthyBursty
            | Kind::HealthyRareErrors
            | Kind::HealthyFullCache => Ok(()),
        }
    }

    /// Lets the fault develop; the times count from its beginning.
    pub(crate) fn develop(&mut self, before: Duration, since: Duration) -> Result<()> {
        let at = |ms: u64| (before..since).contains(&Duration::from_millis(ms));
        let intensity = self.episode.intensity;
        match self.episode.kind {
            Kind::Blip if intensity < 0.5 && at(800 + (2800.0 * intensity) as u64) => {
                self.patient.get_well("stuck")
            }
            // Memory is nearly full: reclaiming it takes most of the time.
            Kind::Leak if at(5000) => {
                self.ill("burn", &json!({ "threads": 1, "percent": 18 }))?;
                let milliseconds = 1200 + (800.0 * intensity) as u32;
                self.ill("slow", &json!({ "milliseconds": milliseconds }))
            }
            _ => Ok(()),
        }
    }

    /// Applies a remedy. A fault that is outside the process is injected into the new process too.
    pub(crate) fn treat(&mut self, remedy: Remedy) -> Result<()> {
        match remedy {
            Remedy::NoAction => Ok(()),
            Remedy::ResetErrors => {
                let url = format!("{}/heal", self.patient.url);
                // A process that hangs may not answer; that is what is measured.
                let _ = http::post(&url, &json!({ "action": "reset_errors" }));
                Ok(())
            }
            Remedy::RestartService => {
                let starts = self.patient.starts();
                self.terminate()?;
                self.after_restart(starts)
            }
        }
    }

    /// Waits for the process after this many starts, and injects a fault that is outside it again.
    pub(crate) fn after_restart(&mut self, starts: u32) -> Result<()> {
        if !matches!(self.episode.kind, Kind::Slow | Kind::SlowHandler) {
            return Ok(());
        }
        let deadline = Instant::now() + START_LIMIT;
        while self.patient.starts() == starts || self.slow().is_err() {
            ensure!(Instant::now() < deadline, "patient-app does not come back");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it; one that is stopped takes no other signal.
    fn terminate(&self) -> Result<()> {
        let is_stopped = self.episode.kind == Kind::Stopped;
        self.signal(if is_stopped { Signal::SIGKILL } else { Signal::SIGTERM })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.patient.pid().context("the patient is not running")?;
        kill(Pid::from_raw(pid), signal).context("cannot signal the patient")
    }

    fn slow(&self) -> Result<()> {
        let milliseconds = 550 + (300.0 * self.episode.intensity) as u32;
        let health = self.episode.kind == Kind::Slow;
        self.ill("slow", &json!({ "milliseconds": milliseconds, "health": health }))
    }

    fn ill(&self, illness: &str, parameters: &Value) -> Result<()> {
        let empty = json!({});
        let parameters = if parameters.is_null() { &empty } else { parameters };
        self.patient.fall_ill(illness, parameters)
    }

    /// Clients that hold this many connections, with a request that they never finish or with none.
    fn hold(&mut self, connections: usize, drips: bool) {
        let address = self.patient.url.trim_start_matches("http://").to_owned();
        let held = Mutex::new(Vec::new());
        self.nuisance = Some(Traffic::start(Duration::from_millis(500), move || {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let step = if drips { drip } else { keep };
            step(&address, &mut held, connections);
        }));
    }

    /// A client that connects and resets, this many times a second, with or without a request.
    fn nuisance(&mut self, per_second: f64, asks: bool) {
        let address = self.patient.url.trim_start_matches("http://").to_owned();
        let pause = Duration::from_secs_f64(1.0 / per_second);
        self.nuisance = Some(Traffic::start(pause, move || {
            // A target that is being restarted refuses; that is expected.
            let _ = reset(&address, asks);
        }));
    }
}

/// Sends a header now and then on some of the connections, and opens those that were closed.
fn drip(address: &str, held: &mut Vec<TcpStream>, connections: usize) {
    held.retain_mut(|stream| fastrand::u8(0..4) > 0 || stream.write_all(b"X-More: 1\r\n").is_ok());
    let begun = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /data HTTP/1.1\r\nHost: lab\r\n").ok()?;
        Some(stream)
    };
    held.extend((held.len()..connections).map_while(|_| begun()));
}

/// Opens connections that were closed, each after one request that is answered.
fn keep(address: &str, held: &mut Vec<TcpStream>, connections: usize) {
    // A connection that the target has closed reads as its end.
    held.retain(|stream| !matches!(stream.peek(&mut [0]), Ok(0)));
    let kept = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /data HTTP/1.1\r\nHost: lab\r\n\r\n").ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    };
    held.extend((held.len()..connections).map_while(|_| kept()));
}

/// Memory that fills the limit to about nine tenths; a cache stays well below that.
fn leak(episode: &Episode, mib_per_second: u32) -> Value {
    let most = match episode.kind {
        Kind::HealthyFullCache => 71.0 + 5.0 * episode.intensity,
        _ => 80.0 + 4.0 * episode.intensity,
    };
    json!({ "mib_per_second": mib_per_second, "max_mib": most as u32 })
}

fn reset(address: &str, asks: bool) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    if asks {
        stream.write_all(b"GET /data HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let _ = std::io::Read::read(&mut stream, &mut [0]);
    }
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(())
}
