//! Docker's engine, through its socket: which containers there are, how they change, and the restart
//! of one.
//!
//! Every question opens a connection of its own and agrees on a version of the API anew: an engine
//! that was restarted, or upgraded, in between is no special case.
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
    models::{ContainerInspectResponse, ContainerSummary, EventMessage},
    query_parameters::{EventsOptions, ListContainersOptions, RestartContainerOptions},
};
use futures_util::{Stream, StreamExt};

use crate::moment::unix_seconds;

/// Where Docker listens unless told otherwise.
pub const SOCKET: &str = "/var/run/docker.sock";

/// For an answer; an engine that is busy with images can be slow.
const ANSWER: Duration = Duration::from_secs(10);
/// What a restart may take beside the container's own time to end.
const RESTART: Duration = Duration::from_secs(30);
/// What changes whether a container runs, and under which name. Among the others are those of the
/// health checks, which come every few seconds.
const TELLING: [&str; 7] = ["start", "die", "destroy", "pause", "unpause", "rename", "update"];

/// The engine of this machine.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody listens there.
    #[error("no Docker engine listens at {0}: start it, or name its socket with --docker-socket")]
    Absent(PathBuf),
    /// The socket belongs to others.
    #[error(
        "no permission to use the Docker engine at {0}: run as root, or as a member of the \
         socket's group (docker)"
    )]
    Denied(PathBuf),
    /// There is no such container.
    #[error("the Docker engine has no container {0:?}; `docker ps --all` lists those that it has")]
    NoContainer(String),
    /// The engine said no.
    #[error("the Docker engine refused: {0}")]
    Refused(String),
    /// No answer, or none that can be read.
    #[error("the Docker engine did not answer: {0}")]
    Unanswered(String),
    /// The connection has ended, as it does when the engine stops.
    #[error("the Docker engine has gone")]
    Gone,
}

impl EngineError {
    /// Whether it was not even asked, or knew nothing of what it was asked about.
    #[must_use]
    pub const fn is_undone(&self) -> bool {
        matches!(self, Self::Absent(_) | Self::Denied(_) | Self::NoContainer(_))
    }
}

impl Engine {
    /// The engine that listens at this socket; it is not asked yet.
    #[must_use]
    pub const fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether there is an engine that answers.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.connect(ANSWER).await.map(drop)
    }

    /// A container by its name or id.
    ///
    /// # Errors
    /// [`EngineError::NoContainer`] if there is none; and see the others.
    pub async fn inspect(&self, name: &str) -> Result<ContainerInspectResponse, EngineError> {
        let docker = self.connect(ANSWER).await?;
        docker.inspect_container(name, None).await.map_err(|error| self.error(error, name))
    }

    /// All containers that carry the label, whether they run or not: id and name.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn labelled(&self, label: &str) -> Result<Vec<(String, String)>, EngineError> {
        let docker = self.connect(ANSWER).await?;
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let all = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let list =
            docker.list_containers(Some(all)).await.map_err(|error| self.error(error, ""))?;
        let named = |container: ContainerSummary| {
            let name = container.names?.into_iter().next()?;
            Some((container.id?, name.trim_start_matches('/').to_owned()))
        };
        Ok(list.into_iter().filter_map(named).collect())
    }

    /// What has changed since a second before `since`, and what changes: each time a container's id
    /// and name. Ends with the connection.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn changes(
        &self,
        since: Now,
    ) -> Result<impl Stream<Item = Result<Changed, EngineError>> + Send + Unpin + use<>, EngineError>
    {
        let docker = self.connect(ANSWER).await?;
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let filters = HashMap::from([
            ("type".to_owned(), owned(&["container"])),
            ("event".to_owned(), owned(&TELLING)),
        ]);
        let since = Some(since.0.saturating_sub(1).to_string());
        let events =
            docker.events(Some(EventsOptions { since, until: None, filters: Some(filters) }));
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

    /// Restarts a container: its stop signal, after `grace` SIGKILL, and a new start.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn restart(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let docker = self.connect(grace + RESTART).await?;
        let options = RestartContainerOptions {
            signal: None,
            t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
        };
        let restarted = docker.restart_container(id, Some(options)).await;
        restarted.map_err(|error| self.error(error, id))
    }

    async fn connect(&self, timeout: Duration) -> Result<Docker, EngineError> {
        let path = self.socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, timeout.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| self.error(error, ""))?;
        docker.negotiate_version().await.map_err(|error| self.error(error, ""))
    }

    /// `asked` is the container that it was asked about.
    fn error(&self, error: Error, asked: &str) -> EngineError {
        match error {
            Error::SocketNotFoundError(_) => return self.unreachable(),
            Error::DockerResponseServerError { status_code: 404, .. } if !asked.is_empty() => {
                return EngineError::NoContainer(asked.to_owned());
            }
            Error::DockerResponseServerError { message, .. } => {
                return EngineError::Refused(message);
            }
            Error::RequestTimeoutError => {
                return EngineError::Unanswered("it took too long".to_owned());
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

    /// bollard takes a socket in a folder that may not be entered for one that is not there.
    fn unreachable(&self) -> EngineError {
        match self.socket.metadata() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                EngineError::Denied(self.socket.clone())
            }
            _ => EngineError::Absent(self.socket.clone()),
        }
    }
}

/// What the system said, below what the libraries made of it.
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

/// An instant of the engine's clock, which is this machine's, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Now(u64);

impl Now {
    /// The present one.
    #[must_use]
    pub fn now() -> Self {
        Self(unix_seconds())
    }
}

/// Something happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its id.
    pub id: String,
    /// Its name by now.
    pub name: String,
}

impl Changed {
    fn of(event: EventMessage) -> Option<Self> {
        let actor = event.actor?;
        let mut attributes = actor.attributes.unwrap_or_default();
        Some(Self { id: actor.id?, name: attributes.remove("name").unwrap_or_default() })
    }
}
