//! `paramedic ready`: whether the agent has found all its targets.
use std::{net::SocketAddr, process::ExitCode};

use anyhow::bail;
use clap::Args;

use super::explain::ask;

/// Ask the agent whether it is ready: exit code 0 if so, else 1 and a list of what is pending.
///
/// Serves as health check in images that contain only this program.
#[derive(Debug, Args)]
pub(super) struct Ready {
    /// Address of the agent's status page.
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

#[cfg(test)]
mod tests {
    use super::*;
    use paramedic_app::hostile::Server;

    async fn told(answer: &str) -> Result<ExitCode, String> {
        let server = Server::answering(answer).await;
        Ready { agent: server.address }.run().await.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn ready_is_success_and_pending_is_an_error_with_its_list() {
        let ready = told("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").await;
        assert_eq!(ready, Ok(ExitCode::SUCCESS));
        let pending = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\n\r\none\ntwo\n";
        assert_eq!(told(pending).await, Err("not ready: one, two".to_owned()));
        let dead = told("").await.unwrap_err();
        assert!(dead.starts_with("no agent answers at "), "{dead}");
    }
}
