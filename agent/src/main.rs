//! The `paramedic` command.
use std::process::ExitCode;

use clap::Parser;
use paramedic::cli::{Cli, WrongUsage, logging};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log);
    // One thread: the agent is one loop, and must not become the load that it looks for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(cli.run());
        // A remedy or a search under way must not hold up the end.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("paramedic: {error:#}");
            if error.is::<WrongUsage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
