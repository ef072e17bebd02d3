//! The fake API server on stage, as a program of its own, so that what it costs is not the agent's.
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running one; killed when dropped.
#[derive(Debug)]
pub(crate) struct ApiServer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    directory: TempDir,
}

impl ApiServer {
    /// Starts the example `serve` of `fake-apiserver`.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let orders = child.stdin.take().context("the API server has no standard input")?;
        let answers = child.stdout.take().context("the API server has no standard output")?;
        let answers = BufReader::new(answers);
        let mut server = Self { child, orders, answers, directory: tempfile::tempdir()? };
        let address = server.answer()?;
        let config = kubeconfig(&format!("http://{address}"));
        fs::write(server.kubeconfig(), config.to_string())?;
        Ok(server)
    }

    /// A kubeconfig for its clients.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Adds a pod.
    pub(crate) fn add(&mut self, pod: &Value) -> Result<()> {
        let answer = self.order(&pod.to_string())?;
        ensure!(answer == "added", "the API server took no pod: {answer:?}");
        Ok(())
    }

    /// Requests so far.
    pub(crate) fn requests(&mut self) -> Result<u64> {
        self.order("")?.parse().context("the API server's count of requests")
    }

    fn order(&mut self, line: &str) -> Result<String> {
        writeln!(self.orders, "{line}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the API server has ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kubeconfig(server: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{ "name": "bench", "cluster": { "server": server } }],
        "users": [{ "name": "bench", "user": { "token": "bench" } }],
        "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
    })
}
