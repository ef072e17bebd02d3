//! What a scene plays with: the engine, its containers, and agents beside them.
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{client::Docker, engine::Engine};
use crate::{
    demo::story::Story,
    stage::{
        Interrupt, Programs,
        agent::{Agent, Line},
        http, tail,
    },
};

/// As compose.yaml and the manifests name it.
pub(super) const AGENT: &str = concat!("docker.io/paramedic/agent:", env!("CARGO_PKG_VERSION"));
pub(super) const PATIENT: &str = concat!("docker.io/paramedic/patient:", env!("CARGO_PKG_VERSION"));

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(200);
/// From an illness to the end of a remedy: gates ask again after some seconds, and a remedy that did
/// not help is followed by another.
const HEALED: Duration = Duration::from_secs(90);
/// For what takes a moment: generous, since the machine may be busy.
pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) struct Stage<'a> {
    pub(super) docker: Docker,
    engine: Engine,
    pub(super) programs: Programs,
    /// The checkout.
    pub(super) root: &'a Path,
    logs: PathBuf,
    interrupt: &'a Interrupt,
    story: Story,
    scene: &'static str,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        docker: Docker,
        engine: Engine,
        programs: Programs,
        root: &'a Path,
        logs: PathBuf,
        interrupt: &'a Interrupt,
    ) -> Self {
        let story = Story::begin();
        Self { docker, engine, programs, root, logs, interrupt, story, scene: "" }
    }

    pub(super) fn begin(&mut self, scene: &'static str) {
        (self.scene, self.story) = (scene, Story::begin());
    }

    pub(super) fn tell(&self, what: &str) {
        self.story.tell(what);
    }

    /// Looks until what is looked for is there; an error means not yet.
    pub(super) fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl Fn() -> Result<T>,
    ) -> Result<T> {
        self.interrupt.until(what, limit, PAUSE, look)
    }

    /// Where the scene's log of something is.
    pub(super) fn log(&self, of: &str) -> PathBuf {
        self.logs.join(format!("{}-{of}.log", self.scene))
    }

    /// Runs the patient's image with these options besides, and waits until it answers at the port.
    pub(super) fn patient(
        &self,
        name: &'static str,
        port: u16,
        options: &[&str],
    ) -> Result<Patient> {
        let publish = format!("127.0.0.1:{port}:5000");
        let run = ["run", "--detach", "--name", name, "--publish", &publish];
        // Well, it makes no errors at all.
        let healthy = [PATIENT, "--data-failure-ratio", "0"];
        self.docker.text(&[&run, options, &healthy].concat())?;
        let patient = Patient { name, url: format!("http://localhost:{port}") };
        self.answers(&patient)?;
        Ok(patient)
    }

    /// Waits until it answers.
    pub(super) fn answers(&self, patient: &Patient) -> Result<()> {
        let health = format!("{}/health", patient.url);
        self.until(&format!("{health} answers"), SOON, || {
            ensure!(http::get(&health)?["status"] == "healthy", "it is not healthy");
            Ok(())
        })
    }

    /// An agent on the machine itself, once it is ready.
    pub(super) fn agent(&self, state: &Path, arguments: &[&str]) -> Result<Agent> {
        let (command, hear) = self.start(state, arguments)?;
        Agent::run(command, hear)
    }

    /// The same, whether it ever is.
    pub(super) fn waiting_agent(&self, state: &Path, arguments: &[&str]) -> Result<Agent> {
        let (command, hear) = self.start(state, arguments)?;
        Agent::spawn(command, hear)
    }

    /// How an agent is started, and who hears it: the story, and the scene's log.
    fn start(
        &self,
        state: &Path,
        arguments: &[&str],
    ) -> Result<(Command, impl Fn(&Line) + Send + 'static)> {
        let mut command = Command::new(&self.programs.agent);
        command.args(["--log", "json"]).args(arguments).arg("--state-dir").arg(state);
        command.env_remove("DOCKER_HOST");
        let log = Mutex::new(File::create(self.log("agent"))?);
        let story = self.story;
        let hear = move |line: &Line| {
            story.hear(line);
            if let Ok(mut log) = log.lock() {
                // What cannot be written is missing there, and nowhere else.
                let _ = writeln!(log, "{}", line.0);
            }
        };
        Ok((command, hear))
    }

    /// Waits for a line of the agent's log.
    pub(super) fn hears(
        &self,
        agent: &Agent,
        what: &str,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let line = agent.wait_for(HEALED, self.interrupt, fits)?;
        line.with_context(|| format!("within {} s the agent did not say: {what}", HEALED.as_secs()))
    }

    /// Waits until this remedy for the container has ended well.
    pub(super) fn healed(&self, agent: &Agent, name: &str, rung: &str) -> Result<()> {
        let ended = self.hears(agent, &format!("{rung} of {name} ended"), |line| {
            line.message() == "treatment ended"
                && line.text("rung") == rung
                && line.text("target") == name
        })?;
        ensure!(ended.text("outcome") == "healed", "{rung} ended {}", ended.text("outcome"));
        Ok(())
    }

    /// Errors at the pace of a person: the sixth makes it ill.
    pub(super) fn errors(&self, patient: &Patient, number: u32, pause: Duration) -> Result<()> {
        self.tell(&format!("{number} errors for {}", patient.name));
        for _ in 0..number {
            // One that is being restarted does not answer: that may be what the scene is about.
            let _ = http::get(&format!("{}/simulate-error", patient.url));
            thread::sleep(pause);
            self.interrupt.check()?;
        }
        Ok(())
    }

    /// Stops the engine, and starts it again.
    pub(super) fn stop_engine(&mut self) -> Result<()> {
        self.engine.stop(self.interrupt)
    }

    pub(super) fn start_engine(&mut self) -> Result<()> {
        self.engine.start(self.interrupt)
    }

    /// A container's process, as this world sees it.
    pub(super) fn pid(&self, name: &str) -> Result<u64> {
        let pid = self.docker.inspect(name)?["State"]["Pid"].as_u64();
        pid.filter(|pid| *pid > 0).with_context(|| format!("{name} does not run"))
    }

    /// The containers of the scene are removed.
    pub(super) fn clear(&self) -> Result<()> {
        let all = self.docker.text(&["ps", "--all", "--quiet"])?;
        let all: Vec<&str> = all.lines().collect();
        if all.is_empty() { Ok(()) } else { self.docker.remove(&all) }
    }

    /// What the engine and the scene's programs wrote last.
    pub(super) fn explain(&self) {
        let of_scene = fs::read_dir(&self.logs).into_iter().flatten().flatten();
        let mut logs: Vec<_> = of_scene
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(self.scene) || name == "engine.log"
            })
            .collect();
        logs.sort();
        for log in logs {
            eprintln!("---- the end of {}\n{}", log.display(), tail(&log, 30));
        }
    }
}

/// A patient in a container.
pub(super) struct Patient {
    pub(super) name: &'static str,
    pub(super) url: String,
}
