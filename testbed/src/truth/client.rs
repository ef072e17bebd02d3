//! A client of a server, and the kernel side: programs that obey line by line.
use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    case::{Case, Protocol},
    judge::Record,
};

/// A program that answers each line with a line of JSON. It ends when dropped.
#[derive(Debug)]
pub(super) struct Obedient {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Obedient {
    /// Starts it; it ends with the thread that has started it.
    pub(super) fn start(what: &Command) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(what.get_program()).args(what.get_args());
        if let Some(folder) = what.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in what.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for the test bed, which cleans up.
        command.process_group(0);
        let mut child = command.spawn().context("cannot start setpriv")?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, input, output })
    }

    /// Sends a line and waits for the answer.
    pub(super) fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.input, "{line}").context("it has ended")?;
        self.answer()
    }

    /// Waits for an answer.
    pub(super) fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("it has ended");
        }
        let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        match answer.get("error") {
            None => Ok(answer),
            Some(Value::String(error)) => bail!("{error}"),
            Some(error) => bail!("{error}"),
        }
    }
}

impl Drop for Obedient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client, in Python.
#[derive(Debug)]
pub(super) struct Client(Obedient);

impl Client {
    /// Of the server at this port. `api` begins the paths that it passes on.
    pub(super) fn start(
        python: &Command,
        folder: &Path,
        protocol: Protocol,
        port: u16,
        api: &str,
    ) -> Result<Self> {
        let mut command = Command::new(python.get_program());
        command.args(["client.py", protocol.key(), &port.to_string(), api]).current_dir(folder);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(Self(Obedient::start(&command)?))
    }

    /// Asks until there is a first answer.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.0.ask("ready").context("the client, before the first answer").map(drop)
    }

    /// The part of a case that is not watched.
    pub(super) fn begin(&mut self, part: &str) -> Result<()> {
        self.0.ask(part).context("the client, before it was watched").map(drop)
    }

    pub(super) fn play(&mut self, case: Case) -> Result<Record> {
        let answer = self.0.ask(case.name()).context("the client")?;
        serde_json::from_value(answer).context("the client's record")
    }
}
