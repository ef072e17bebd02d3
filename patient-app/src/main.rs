//! Runs the app: reads the command line, serves until asked to stop, drains, exits. Under the name
//! `kill` it acts as that command.
use std::env;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use patient_app::{Config, Signals, announce, bind, kill};
use serde_json::json;

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    if arguments.next().is_some_and(|name| kill::is_called_by(&name)) {
        return ExitCode::from(kill::run(arguments));
    }
    match run(&Config::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("patient-app: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> anyhow::Result<ExitCode> {
    // One thread: hundreds of copies share a machine, and one core answers far more than 10,000
    // requests per second.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(serve(config))
}

async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    if config.is_check() {
        let alive = config.is_alive().await;
        return Ok(if alive { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let signals = Signals::install().context("installing the signal handlers")?;
    let bound = bind(config)?;
    let address = bound.address();
    announce(&json!({
        "event": "listening",
        "address": address.ip(),
        "port": address.port(),
        "pid": std::process::id(),
    }));
    let stop = signals.on_hangup(bound.reset());
    let drained = bound.serve(stop.requested()).await;
    announce(&json!({ "event": "exit", "drained": drained }));
    Ok(ExitCode::SUCCESS)
}
