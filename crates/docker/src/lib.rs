//! Client of the Docker engine over its socket: lists containers, watches their changes, restarts
//! one, or changes its limits.
//!
//! Every request opens its own connection, so that an engine that restarted in between is no
//! special case, and has a timeout for the whole response: engines are known to start a response
//! and never end it.
pub mod container;
mod log;
pub mod resize;
mod restart;
mod tracker;

use std::{
    collections::HashMap,
    error::Error as StdError,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{
        ContainerInspectResponse, ContainerSummary, ContainerUpdateBody, EventMessage,
        EventMessageTypeEnum,
    },
    query_parameters::{
        EventsOptions, KillContainerOptions, ListContainersOptions, RestartContainerOptions,
    },
};
use futures_util::{Stream, StreamExt};
pub use log::LogEnd;
use paramedic_core::target::SoftSignal;
use paramedic_host::clock::unix_seconds;
pub use restart::{RestartError, restart, signal};
use tokio::time::timeout;
pub use tracker::{Containers, Selection, track_containers};

use crate::container::plain;

/// Docker's default socket.
pub const SOCKET: &str = "/var/run/docker.sock";

/// Timeout of a response; an engine that is busy with images can be slow.
const ANSWER: Duration = Duration::from_secs(10);
/// Timeout of a restart, in addition to the container's own time to end.
const RESTART: Duration = Duration::from_secs(25);
/// Events that change whether a container runs or is about to end, its name, or its address
/// (`remove` is Podman's `destroy`). The others include those of health checks, which come every
/// few seconds.
const TELLING: [&str; 10] = [
    "start",
    "die",
    "kill",
    "destroy",
    "remove",
    "pause",
    "unpause",
    "rename",
    "connect",
    "disconnect",
];

/// The engine of this machine.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

/// Why the engine did not do what was requested.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing listens on the socket.
    #[error("no Docker engine listens at {0}: start it, or name its socket with --docker-socket")]
    Absent(PathBuf),
    /// The socket belongs to other users.
    #[error(
        "no permission to use the Docker engine at {0}: run as root, or as a member of the \
         socket's group (docker)"
    )]
    Denied(PathBuf),
    /// There is no such container.
    #[error("the Docker engine has no container {0:?}; `docker ps --all` lists those that it has")]
    NoContainer(String),
    /// The engine refused.
    #[error("the Docker engine refused: {0}")]
    Refused(String),
    /// No response, or an unreadable one.
    #[error("the Docker engine did not answer: {0}")]
    Unanswered(String),
    /// The connection has ended, as it does when the engine stops.
    #[error("the Docker engine disconnected")]
    Gone,
}

impl EngineError {
    /// Whether the engine is unavailable for any request.
    #[must_use]
    pub const fn is_of_engine(&self) -> bool {
        matches!(self, Self::Absent(_) | Self::Denied(_) | Self::Gone)
    }
}

impl Engine {
    /// The engine that listens at this socket. Makes no request yet.
    #[must_use]
    pub const fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Checks that the engine answers.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn ping(&self) -> Result<(), EngineError> {
        let docker = self.client(ANSWER)?;
        self.answer("", ANSWER, docker.ping()).await.map(drop)
    }

    /// Whether the engine runs without root: then this machine cannot reach the addresses of its
    /// containers.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn is_rootless(&self) -> Result<bool, EngineError> {
        let docker = self.client(ANSWER)?;
        let info = self.answer("", ANSWER, docker.info()).await?;
        Ok(info.security_options.iter().flatten().any(|option| option.contains("rootless")))
    }

    /// A container by its name or id.
    ///
    /// # Errors
    /// [`EngineError::NoContainer`] if it does not exist, and the others.
    pub async fn inspect(&self, name: &str) -> Result<ContainerInspectResponse, EngineError> {
        let docker = self.client(ANSWER)?;
        self.answer(name, ANSWER, docker.inspect_container(name, None)).await
    }

    /// All containers that carry the label, running or not: id and name.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn labelled(&self, label: &str) -> Result<Vec<(String, String)>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let all = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let docker = self.client(ANSWER)?;
        let list = self.answer("", ANSWER, docker.list_containers(Some(all))).await?;
        let named = |one: ContainerSummary| Some((one.id.clone()?, name(&one)?.to_owned()));
        Ok(list.into_iter().filter_map(named).collect())
    }

    /// The name of a container that shares this one's network, if there is one.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn guest_of(&self, id: &str) -> Result<Option<String>, EngineError> {
        let docker = self.client(ANSWER)?;
        let list = self.answer("", ANSWER, docker.list_containers(None)).await?;
        let network = Some(format!("container:{id}"));
        let is_guest = |one: &ContainerSummary| {
            one.host_config.as_ref().is_some_and(|host| host.network_mode == network)
        };
        let guest = list.iter().find(|one| is_guest(one));
        Ok(guest.map(|guest| name(guest).unwrap_or_default().to_owned()))
    }

    /// Changes from now on, and within the last second. The request is sent when the stream is
    /// first polled; the stream ends with the connection.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn changes(
        &self,
    ) -> Result<impl Stream<Item = Result<Changed, EngineError>> + Send + Unpin + use<>, EngineError>
    {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let filters = HashMap::from([
            ("type".to_owned(), owned(&["container", "network"])),
            ("event".to_owned(), owned(&TELLING)),
        ]);
        let since = Some(unix_seconds().saturating_sub(1).to_string());
        let asked = EventsOptions { since, until: None, filters: Some(filters) };
        let events = self.client(ANSWER)?.events(Some(asked));
        let engine = self.clone();
        let changes = events.filter_map(move |event| {
            let changed = match event {
                Ok(event) => Changed::of(event).map(Ok),
                Err(error) => Some(Err(engine.error(error, ""))),
            };
            std::future::ready(changed)
        });
        Ok(Box::pin(changes))
    }

    /// Restarts a container: its stop signal, SIGKILL after `grace`, and a new start.
    ///
    /// # Errors
    /// See [`EngineError`]. Except for `Absent` and `Denied`, something may have been done.
    pub async fn restart(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let limit = grace + RESTART;
        let docker = self.client(limit)?;
        let seconds = Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX));
        let options = RestartContainerOptions { signal: None, t: seconds };
        self.answer(id, limit, docker.restart_container(id, Some(options))).await
    }

    /// Sends a signal to the first process of a container.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn signal(&self, id: &str, signal: SoftSignal) -> Result<(), EngineError> {
        let docker = self.client(RESTART)?;
        let options = KillContainerOptions { signal: format!("SIG{}", signal.name()) };
        self.answer(id, RESTART, docker.kill_container(id, Some(options))).await
    }

    /// Changes limits of a container.
    ///
    /// # Errors
    /// See [`EngineError`]. Except for `Absent`, `Denied` and `Refused`, something may have been done.
    async fn update(&self, id: &str, update: ContainerUpdateBody) -> Result<(), EngineError> {
        let docker = self.client(ANSWER)?;
        self.answer(id, ANSWER, docker.update_container(id, update)).await
    }

    /// Starts a container that has ended.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let docker = self.client(RESTART)?;
        self.answer(id, RESTART, docker.start_container(id, None)).await
    }

    /// Paths without a version, which bollard uses, mean the newest version that the engine knows.
    fn client(&self, limit: Duration) -> Result<Docker, EngineError> {
        let path = self.socket.to_string_lossy();
        Docker::connect_with_unix(&path, limit.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| self.error(error, ""))
    }

    /// `asked` is the container of the request.
    async fn answer<T>(
        &self,
        asked: &str,
        limit: Duration,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        match timeout(limit, question).await {
            Ok(answer) => answer.map_err(|error| self.error(error, asked)),
            Err(_) => Err(EngineError::Unanswered(format!("not within {} s", limit.as_secs()))),
        }
    }

    fn error(&self, error: Error, asked: &str) -> EngineError {
        match error {
            Error::SocketNotFoundError(_) => return self.unreachable(),
            Error::DockerResponseServerError { status_code: 404, .. } if !asked.is_empty() => {
                return EngineError::NoContainer(asked.to_owned());
            }
            Error::DockerResponseServerError { message, .. } => {
                return EngineError::Refused(message);
            }
            _ => {}
        }
        match cause(&error).map(io::Error::kind) {
            Some(io::ErrorKind::PermissionDenied) => EngineError::Denied(self.socket.clone()),
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                EngineError::Absent(self.socket.clone())
            }
            Some(_) => EngineError::Gone,
            None => EngineError::Unanswered(error.to_string()),
        }
    }

    /// bollard reports a socket in a directory that may not be entered as missing.
    fn unreachable(&self) -> EngineError {
        match self.socket.metadata() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                EngineError::Denied(self.socket.clone())
            }
            _ => EngineError::Absent(self.socket.clone()),
        }
    }
}

fn name(container: &ContainerSummary) -> Option<&str> {
    container.names.as_ref()?.first().map(|name| plain(name))
}

/// The system's error below those of the libraries.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut deeper = Some(error);
    while let Some(error) = deeper {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        deeper = error.source();
    }
    None
}

/// An event of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its id.
    pub id: String,
    /// Its present name, if the event has it.
    pub name: Option<String>,
    /// The keys of its labels, among other attributes; empty if the event has none.
    pub labels: Vec<String>,
    /// The signal that the engine was asked to send it, by number or by name.
    pub signal: Option<String>,
}

impl Changed {
    fn of(event: EventMessage) -> Option<Self> {
        let actor = event.actor?;
        let mut attributes = actor.attributes.unwrap_or_default();
        if event.typ == Some(EventMessageTypeEnum::NETWORK) {
            let id = attributes.remove("container")?;
            return Some(Self { id, name: None, labels: Vec::new(), signal: None });
        }
        let is_kill = event.action.as_deref() == Some("kill");
        let signal = attributes.remove("signal").filter(|_| is_kill);
        let name = attributes.remove("name");
        Some(Self { id: actor.id?, name, labels: attributes.into_keys().collect(), signal })
    }
}
