//! The Docker engine that `--docker-socket` selects.
use std::path::{Path, PathBuf};

use clap::Args;
use paramedic_docker::{Engine, SOCKET};

use paramedic_startup::Mistakes;

#[derive(Debug, Args)]
pub(super) struct DockerSocket {
    /// Socket of the Docker engine on this machine: a path, optionally with the prefix `unix://`.
    #[arg(long, env = "DOCKER_HOST", default_value = SOCKET, value_name = "SOCKET")]
    docker_socket: String,
}

impl DockerSocket {
    /// The engine; no request is made yet.
    pub(super) fn engine(&self, mistakes: &mut Mistakes) -> Engine {
        // Docker's own command treats an empty DOCKER_HOST as unset.
        let given = if self.docker_socket.is_empty() { SOCKET } else { &self.docker_socket };
        let path = Path::new(given.strip_prefix("unix://").unwrap_or(given));
        if !path.is_absolute() {
            mistakes.add(format!(
                "--docker-socket (or DOCKER_HOST) must be a socket of this machine, such as \
                 unix://{SOCKET}, not {given}"
            ));
        }
        Engine::at(PathBuf::from(path))
    }
}
