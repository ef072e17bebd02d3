//! Shared by Paramedic's programs: logging, validation of arguments, and shutdown signals.
use std::{process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

pub mod logging;

/// Invalid arguments; the exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUsage(pub String);

/// Runs a program on one thread and prints its error. The exit code is 2 for wrong usage.
pub fn run(name: &str, program: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(program);
        // A running task must not delay the exit.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            if error.is::<WrongUsage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Resolves on SIGTERM or SIGINT.
///
/// # Errors
/// If the process cannot listen for signals.
pub fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Validates arguments, and collects every mistake for one error.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// Adds a mistake.
    pub fn add(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    /// Checks a DNS subdomain (RFC 1123), the form of the names of nodes, namespaces and most
    /// objects.
    pub fn name(&mut self, flag: &str, value: &str) {
        if !is_name(value) {
            self.add(format!("--{flag} is not a valid Kubernetes name: {value:?}"));
        }
    }

    /// A duration within bounds, both in seconds.
    pub fn seconds(&mut self, name: &str, value: f64, least: f64, most: f64) -> Duration {
        if (least..=most).contains(&value) {
            return Duration::from_secs_f64(value);
        }
        self.add(format!("--{name} must be from {least} to {most} seconds, not {value}"));
        Duration::ZERO
    }

    /// Ends the validation.
    ///
    /// # Errors
    /// All mistakes in one error.
    pub fn none(self) -> Result<(), WrongUsage> {
        match self.0.as_slice() {
            [] => Ok(()),
            mistakes => Err(WrongUsage(mistakes.join("\n           "))),
        }
    }
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let outer = |b: Option<&u8>| b.is_some_and(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.iter().all(|&b| inner(b))
        && outer(bytes.first())
        && outer(bytes.last())
}
