//! `paramedic ready`: whether the agent has everything that it is to watch.
use std::{net::SocketAddr, process::ExitCode};

use anyhow::bail;
use clap::Args;

use super::explain::ask;

/// Ask the agent whether it is ready: exit code 0 if so, else 1 with what is pending.
///
/// For health checks where there is nothing but this program, as in its image.
#[derive(Debug, Args)]
pub(super) struct Ready {
    /// Where the agent serves its status.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    agent: SocketAddr,
}

impl Ready {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (status, body) = ask(self.agent, "/readyz").await?;
        let said = String::from_utf8_lossy(&body);
        if !status.is_success() {
            bail!("not ready: {}", said.trim().replace('\n', ", "));
        }
        println!("{}", said.trim());
        Ok(ExitCode::SUCCESS)
    }
}
