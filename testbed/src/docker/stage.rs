//! What a scene works with: the engine, its containers, and agents beside them.
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

/// The image names in compose.yaml and the manifests.
pub(super) const AGENT: &str = concat!("docker.io/paramedic/agent:", env!("CARGO_PKG_VERSION"));
pub(super) const PATIENT: &str = concat!("docker.io/paramedic/patient:", env!("CARGO_PKG_VERSION"));

/// Between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(200);
/// From a fault to the end of a remedy: some gates let the agent ask again after seconds, and
/// another remedy follows if one did not help.
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

    /// Calls `look` until it succeeds; an error means not yet.
    pub(super) fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl Fn() -> Result<T>,
    ) -> Result<T> {
        self.interrupt.until(what, limit, PAUSE, look)
    }

    /// The path of one of the scene's logs.
    pub(super) fn log(&self, of: &str) -> PathBuf {
        self.logs.join(format!("{}-{of}.log", self.scene))
    }

    /// Runs the image of patient-app with these additional options, and waits until it answers at
    /// the port.
    pub(super) fn patient(
        &self,
        name: &'static str,
        port: u16,
        options: &[&str],
    ) -> Result<PatientContainer> {
        let publish = format!("127.0.0.1:{port}:5000");
        let run = ["run", "--detach", "--name", name, "--publish", &publish];
        // Without a fault it makes no errors at all.
        let healthy = [PATIENT, "--data-failure-ratio", "0"];
        self.docker.text(&[&run, options, &healthy].concat())?;
        let patient = PatientContainer { name, url: format!("http://localhost:{port}") };
        self.answers(&patient)?;
        Ok(patient)
    }

    /// Waits until it answers.
    pub(super) fn answers(&self, patient: &PatientContainer) -> Result<()> {
        let health = format!("{}/health", patient.url);
        self.until(&format!("{health} answers"), SOON, || {
            ensure!(http::get(&health)?["status"] == "healthy", "it is not healthy");
            Ok(())
        })
    }

    /// An agent on the machine itself, once it is ready.
    pub(super) fn agent(&self, state: &Path, arguments: &[&str]) -> Result<Agent> {
        let (command, on_line) = self.start(state, arguments)?;
        Agent::run(command, on_line)
    }

    /// The same, without waiting until it is ready.
    pub(super) fn waiting_agent(&self, state: &Path, arguments: &[&str]) -> Result<Agent> {
        let (command, on_line) = self.start(state, arguments)?;
        Agent::spawn(command, on_line)
    }

    /// The command that starts an agent, and the receiver of its log: the output and the scene's
    /// log file.
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
        let on_line = move |line: &Line| {
            story.print_line(line);
            if let Ok(mut log) = log.lock() {
                // A line that cannot be written is missing in that file only.
                let _ = writeln!(log, "{}", line.0);
            }
        };
        Ok((command, on_line))
    }

    /// Waits for a line of the agent's log.
    pub(super) fn wait_for_line(
        &self,
        agent: &Agent,
        what: &str,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let line = agent.wait_for(HEALED, self.interrupt, fits)?;
        line.with_context(|| format!("within {} s the agent did not say: {what}", HEALED.as_secs()))
    }

    /// Waits until this remedy for the container has the outcome `healed`.
    pub(super) fn healed(&self, agent: &Agent, name: &str, remedy: &str) -> Result<()> {
        let ended = self.wait_for_line(agent, &format!("{remedy} of {name} ended"), |line| {
            line.message() == "treatment ended"
                && line.text("remedy") == remedy
                && line.text("target") == name
        })?;
        ensure!(ended.text("outcome") == "healed", "{remedy} ended {}", ended.text("outcome"));
        Ok(())
    }

    /// Causes errors one at a time, as a person would. The sixth makes the target unhealthy.
    pub(super) fn errors(
        &self,
        patient: &PatientContainer,
        number: u32,
        pause: Duration,
    ) -> Result<()> {
        self.tell(&format!("{number} errors for {}", patient.name));
        for _ in 0..number {
            // A container that is being restarted does not answer; some scenes expect that.
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

    /// A container's process, as seen in these namespaces.
    pub(super) fn pid(&self, name: &str) -> Result<u64> {
        let pid = self.docker.inspect(name)?["State"]["Pid"].as_u64();
        pid.filter(|pid| *pid > 0).with_context(|| format!("{name} does not run"))
    }

    /// Removes the containers of the scene.
    pub(super) fn clear(&self) -> Result<()> {
        let all = self.docker.text(&["ps", "--all", "--quiet"])?;
        let all: Vec<&str> = all.lines().collect();
        if all.is_empty() { Ok(()) } else { self.docker.remove(&all) }
    }

    /// Prints the last lines of the engine and of the scene's programs.
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

/// A container of patient-app.
pub(super) struct PatientContainer {
    pub(super) name: &'static str,
    pub(super) url: String,
}
