//! The HTTP server on `:9100`. Read-only: no request can change anything.
mod about;
mod live;
mod page;
mod routes;
#[cfg(test)]
mod tests;
mod view;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use about::About;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use live::Live;
use paramedic_listen::{Listener, Patience};
use paramedic_pod_metrics::Reading;
use paramedic_record::metrics::Metrics;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;
pub use view::TargetView;

/// A question to the loop, which alone knows the answer.
#[derive(Debug)]
pub enum Query {
    /// Every target as it stands.
    Targets(oneshot::Sender<Vec<TargetView>>),
    /// What autoscalers are told of every pod.
    Readings(oneshot::Sender<Vec<Reading>>),
    /// What is still pending before the agent is ready, by name.
    Pending(oneshot::Sender<Vec<String>>),
}

/// What the pages are made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The loop.
    pub queries: mpsc::Sender<Query>,
    /// Where the journal is, if there is one.
    pub state_dir: Option<PathBuf>,
    /// Who this agent is.
    pub about: About,
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
}

/// Connections served at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// A client that takes longer than this to send its request is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// And one that takes nothing of its answer for so long.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Takes the address; nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// If the address cannot be had, most often because another agent runs.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(address).await? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Answers for ever.
    pub async fn run(self, sources: Sources) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let live = Live::new(&sources);
        tokio::spawn(Arc::clone(&live).publish(sources.clone()));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, _) = self.listener.accept().await;
            let (sources, live) = (sources.clone(), Arc::clone(&live));
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let (sources, live) = (sources.clone(), Arc::clone(&live));
                    async move { routes::answer(request, &sources, &live).await }
                });
                let stream = Patience::new(stream, PATIENCE);
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    debug!(%error, "client disconnected");
                }
                drop(place);
            });
        }
    }
}
