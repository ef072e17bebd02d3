//! The `paramedic` command.
use std::process::ExitCode;

use paramedic::cli::Cli;
use paramedic_startup::logging;

fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    logging::start(cli.log);
    // One thread: the agent is one loop, and must not cause the load that it watches for.
    paramedic_startup::run("paramedic", cli.run())
}
