//! The HTTP server on `:9100`. Read-only: no request can change anything. Bare hyper, for the reason
//! in `paramedic_listen`.
mod build_info;
mod live;
mod page;
mod routes;
#[cfg(test)]
mod tests;
mod view;

use std::{future::pending, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use build_info::BuildInfo;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use live::Live;
use paramedic_listen::{AcceptLoop, Accepted, Listener, WriteTimeout};
use paramedic_pod_metrics::PodMetrics;
use paramedic_record::metrics::Metrics;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;
pub(crate) use view::REASONS;
pub use view::{Asks, TargetView};

/// A query to the event loop, which owns the state.
#[derive(Debug)]
pub enum Query {
    /// The state of every target.
    Targets(oneshot::Sender<Vec<TargetView>>),
    /// The readings of every pod for autoscaling.
    Readings(oneshot::Sender<Vec<PodMetrics>>),
    /// What is pending before the agent is ready, by name.
    Pending(oneshot::Sender<Vec<String>>),
}

/// The data sources of the server.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Queries to the loop.
    pub queries: mpsc::Sender<Query>,
    /// Directory of the journal, if there is one.
    pub state_dir: Option<PathBuf>,
    /// Facts about this agent.
    pub about: BuildInfo,
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
}

/// Maximum number of connections; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// Timeout of a client's request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Write timeout: a client that reads nothing for this long is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Binds the address, within a tokio runtime. It answers nothing before [`Server::run`].
    ///
    /// # Errors
    /// If the address cannot be bound, usually because another agent runs.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(address)? })
    }

    /// The address on which it listens.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Serves until `shutdown` resolves. Then responses in progress have a few seconds to end.
    pub async fn run(self, sources: Sources, shutdown: impl Future<Output = ()>) {
        let live = Live::new(&sources);
        tokio::spawn(Arc::clone(&live).publish(sources.clone()));
        let serve = |accepted| serve(accepted, sources.clone(), Arc::clone(&live));
        AcceptLoop::new(self.listener).limit(CONNECTIONS).run(shutdown, serve).await;
    }
}

async fn serve(accepted: Accepted, sources: Sources, live: Arc<Live>) {
    let Accepted { stream, place, mut stopping, .. } = accepted;
    let (sources, live, closing) = (&sources, &live, &stopping.clone());
    let service =
        service_fn(|request| async move { routes::answer(request, sources, live, closing).await });
    let stream = WriteTimeout::new(stream, PATIENCE);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = stopping.serve(&mut connection, pending()).await {
        debug!(%error, "client disconnected");
    }
    drop(place);
}
