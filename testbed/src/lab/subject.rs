//! One patient of an episode with its clients, and the hands that make it ill and treat it.
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

/// A patient's memory limit, in the kinds that need one.
const MEMORY: u64 = 96 << 20;
const START_LIMIT: Duration = Duration::from_secs(10);

/// A patient in its bed. The order of the fields is that in which they leave.
pub(crate) struct Bed {
    pub(crate) clients: Clients,
    nuisance: Option<Traffic>,
    pub(crate) patient: Patient,
    episode: Episode,
}

/// What the patient of an episode called `name` calls, in the kind that has somebody to call.
pub(crate) fn upstream(
    programs: &Programs,
    episode: &Episode,
    name: &str,
) -> Result<Option<Patient>> {
    let calm = ["--data-failure-ratio", "0"];
    let calls = episode.kind == Kind::Upstream;
    calls.then(|| Patient::start(programs, &format!("{name}-up"), &calm)).transpose()
}

impl Bed {
    /// Starts the patient; its clients have yet to come. `upstream` is what the patient calls.
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

    /// Its clients come: after the agent, which has to look for its patients among all the
    /// connections that there are.
    pub(crate) fn open(&mut self) {
        self.clients.come(self.episode.load);
    }

    /// Makes it ill as the episode says.
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
            // What is upstream falls ill; the others are well.
            Kind::Upstream
            | Kind::HealthyIdle
            | Kind::HealthySteady
            | Kind::HealthyBursty
            | Kind::HealthyRareErrors
            | Kind::HealthyFullCache => Ok(()),
        }
    }

    /// What happens by itself while the fault lasts; `since` its beginning.
    pub(crate) fn goes_on(&mut self, before: Duration, since: Duration) -> Result<()> {
        let at = |ms: u64| (before..since).contains(&Duration::from_millis(ms));
        let intensity = self.episode.intensity;
        match self.episode.kind {
            Kind::Blip if intensity < 0.5 && at(800 + (2800.0 * intensity) as u64) => {
                self.patient.get_well("stuck")
            }
            // Nearly full: it does little but look for memory.
            Kind::Leak if at(5000) => {
                self.ill("burn", &json!({ "threads": 1, "percent": 18 }))?;
                let milliseconds = 1200 + (800.0 * intensity) as u32;
                self.ill("slow", &json!({ "milliseconds": milliseconds }))
            }
            _ => Ok(()),
        }
    }

    /// Gives a remedy, and lets happen to the new process what does not depend on the process.
    pub(crate) fn treat(&mut self, remedy: Remedy) -> Result<()> {
        match remedy {
            Remedy::NoAction => Ok(()),
            Remedy::ResetErrors => {
                let url = format!("{}/heal", self.patient.url);
                // A patient that hangs may not answer; that is what is measured.
                let _ = http::post(&url, &json!({ "action": "reset_errors" }));
                Ok(())
            }
            Remedy::RestartService => {
                let lives = self.patient.lives();
                self.terminate()?;
                self.reborn(lives)
            }
        }
    }

    /// After so many lives a new process takes its place: what came from outside is there again.
    pub(crate) fn reborn(&mut self, lives: u32) -> Result<()> {
        if self.episode.kind != Kind::Slow {
            return Ok(());
        }
        let deadline = Instant::now() + START_LIMIT;
        while self.patient.lives() == lives || self.slow().is_err() {
            ensure!(Instant::now() < deadline, "the patient does not come back");
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

    /// Somebody who connects and resets, so many times a second; asking first, or not.
    fn nuisance(&mut self, per_second: f64, asks: bool) {
        let address = self.patient.url.trim_start_matches("http://").to_owned();
        let pause = Duration::from_secs_f64(1.0 / per_second);
        self.nuisance = Some(Traffic::start(pause, move || {
            // A patient that is being restarted refuses: that is no news.
            let _ = reset(&address, asks);
        }));
    }
}

/// Memory that fills the limit to some nine tenths; a cache stays well below that.
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
