//! The `paramedic` command.
use std::process::ExitCode;

use clap::Parser;
use paramedic::cli::Cli;
use paramedic_startup::logging;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log);
    // One thread: the agent is one loop, and must not cause the load that it watches for.
    paramedic_startup::run("paramedic", cli.run())
}
