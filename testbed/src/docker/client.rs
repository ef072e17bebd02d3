//! The `docker` command, as users run it.
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::process;

use super::engine::SOCKET;

/// How long an engine that is starting may take to answer.
const PING: Duration = Duration::from_secs(5);

/// The client with its plugin Compose.
pub(super) struct Docker {
    program: PathBuf,
    /// The folder of its settings, instead of the one in the user's home.
    config: PathBuf,
}

impl Docker {
    pub(super) fn new(packages: &Path, config: PathBuf) -> Result<Self> {
        let plugins = packages.join("usr/libexec/docker/cli-plugins");
        let settings = json!({ "cliPluginsExtraDirs": [plugins] });
        fs::create_dir_all(&config)
            .and_then(|()| fs::write(config.join("config.json"), settings.to_string()))
            .with_context(|| format!("cannot write into {}", config.display()))?;
        Ok(Self { program: packages.join("usr/bin/docker"), config })
    }

    /// Whether an engine is ready. Its socket is there before that.
    pub(super) fn answers() -> Result<()> {
        let absent = || format!("no engine answers at {SOCKET}");
        let mut stream = UnixStream::connect(SOCKET).with_context(absent)?;
        stream.set_read_timeout(Some(PING))?;
        let mut answer = String::new();
        stream
            .write_all(b"GET /_ping HTTP/1.0\r\n\r\n")
            .and_then(|()| stream.read_to_string(&mut answer))
            .with_context(absent)?;
        ensure!(answer.ends_with("OK"), "it answers {answer}");
        Ok(())
    }

    /// Where the command is.
    pub(super) fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(&self.program)
    }

    /// Sets the environment so that a command uses this engine and no other.
    pub(super) fn settle(&self, command: &mut Command) {
        command.env("DOCKER_CONFIG", &self.config);
        for elsewhere in ["DOCKER_HOST", "DOCKER_CONTEXT", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME"] {
            command.env_remove(elsewhere);
        }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.settle(&mut command);
        command
    }

    /// Its output, if it succeeds.
    pub(super) fn text(&self, arguments: &[&str]) -> Result<String> {
        process::capture(&mut self.command(arguments))
    }

    /// Its output and status, whether it succeeds or not.
    pub(super) fn output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(arguments);
        command.output().with_context(|| format!("cannot start: {}", process::shown(&command)))
    }

    /// `docker inspect` of a container, an image or a volume.
    pub(super) fn inspect(&self, name: &str) -> Result<Value> {
        let text = self.text(&["inspect", name])?;
        let mut found: Vec<Value> =
            serde_json::from_str(&text).context("docker inspect prints no JSON")?;
        ensure!(found.len() == 1, "{} are called {name}", found.len());
        Ok(found.remove(0))
    }

    /// Removes containers, running or not, if they exist.
    pub(super) fn remove(&self, names: &[&str]) -> Result<()> {
        self.text(&[&["rm", "--force", "--volumes"], names].concat()).map(drop)
    }
}
