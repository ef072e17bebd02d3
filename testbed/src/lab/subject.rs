//! The subject of an episode: a process of patient-app with its clients. Injects the fault and
//! applies the remedy.
use std::{
    io::Write as _,
    net::TcpStream,
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
use crate::stage::{Programs, http, patient::Patient, traffic::Traffic};

/// The memory limit, in the kinds that need one.
const MEMORY: u64 = 96 << 20;
const START_LIMIT: Duration = Duration::from_secs(10);

/// A process of patient-app with its clients. The fields are dropped in this order.
pub(crate) struct Subject {
    pub(crate) clients: Clients,
    nuisance: Option<Traffic>,
    pub(crate) patient: Patient,
    episode: Episode,
}

/// The upstream that the subject of an episode called `name` calls, in the kind that has one.
pub(crate) fn upstream(
    programs: &Programs,
    episode: &Episode,
    name: &str,
) -> Result<Option<Patient>> {
    let calm = ["--data-failure-ratio", "0"];
    let calls = episode.kind == Kind::Upstream;
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
            Kind::HighLoad => "200",
            _ => "100",
        };
        let mut arguments =
            vec!["--data-failure-ratio", &errors, "--seed", &seed, "--work-microseconds", work];
        arguments.extend(["--grace-seconds", "1"]);
        if let Some(upstream) = upstream {
            arguments.extend(["--upstream", upstream.url.trim_start_matches("http://")]);
        }
        let patient = Patient::start(programs, name, &arguments)?;
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
        Ok(Self { clients, nuisance: None, patient, episode: episode.clone() })
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
            Kind::Slow => self.slow(),
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
        if self.episode.kind != Kind::Slow {
            return Ok(());
        }
        let deadline = Instant::now() + START_LIMIT;
        while self.patient.starts() == starts || self.slow().is_err() {
            ensure!(Instant::now() < deadline, "patient-app does not come back");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn terminate(&self) -> Result<()> {
        let pid = self.patient.pid().context("the patient is not running")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot end the patient")
    }

    fn slow(&self) -> Result<()> {
        let milliseconds = 550 + (300.0 * self.episode.intensity) as u32;
        self.ill("slow", &json!({ "milliseconds": milliseconds }))
    }

    fn ill(&self, illness: &str, parameters: &Value) -> Result<()> {
        let empty = json!({});
        let parameters = if parameters.is_null() { &empty } else { parameters };
        self.patient.fall_ill(illness, parameters)
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
