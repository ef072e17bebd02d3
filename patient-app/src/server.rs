//! The server: binds, serves, and drains when asked to stop.
use std::error::Error;
use std::future::{Future, pending};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use paramedic_listen::{AcceptLoop, Accepted, Listener};

use crate::access_log::Entry;
use crate::clock::boot_nanos;
use crate::config::Config;
use crate::illness::{Name, StartError};
use crate::routes::{self, Outcome, ResetConnection};
use crate::state::App;

/// Maximum size of a request's head; a larger one is refused with 431.
const HEAD_LIMIT: usize = 16 * 1024;

/// Timeout of a request's head, and of an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the app cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is in use or not local.
    #[error("cannot listen on {address}: {cause}; choose another --port or --address")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// An illness of the command line cannot start.
    #[error("cannot start the illness {name}: {cause}")]
    Illness {
        /// Its name.
        name: &'static str,
        /// The system's error.
        cause: String,
    },
}

impl From<(Name, StartError)> for BindError {
    fn from((name, error): (Name, StartError)) -> Self {
        Self::Illness { name: name.as_str(), cause: error.to_string() }
    }
}

/// An app that listens, and serves once [`Bound::serve`] runs.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    listener: Listener,
    app: Arc<App>,
    logs: bool,
    grace: Duration,
}

/// Starts to listen; within a Tokio runtime with I/O and time. By default on IPv6 and IPv4 in one
/// socket, or on IPv4 alone if the machine has no IPv6.
///
/// # Errors
/// If the address is not available, or an illness of the configuration cannot start.
pub fn bind(config: &Config) -> Result<Bound, BindError> {
    let ip = config.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    let asked = SocketAddr::new(ip, config.port);
    let refused = |cause| BindError::Listen { address: asked, cause };
    let listener = Listener::bind(asked).map_err(refused)?;
    let address = listener.address().map_err(refused)?;
    let app = App::new(config).map_err(|(illness, e)| BindError::from((illness.name(), e)))?;
    Ok(Bound { address, listener, app: Arc::new(app), logs: config.logs(), grace: config.grace() })
}

impl Bound {
    /// The address on which it listens, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does what `POST /heal` does, at any time.
    pub fn reset(&self) -> impl FnMut() + Send + 'static {
        let app = Arc::clone(&self.app);
        move || {
            app.tally.last_heal.set(boot_nanos());
            app.take_soft_heal();
        }
    }

    /// Serves until `shutdown` is ready, then accepts no more and lets open requests finish within
    /// the grace period. Returns whether all did.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> bool {
        let Self { listener, app, logs, grace, .. } = self;
        AcceptLoop::new(listener)
            .grace(grace)
            .report(|error| eprintln!("patient-app: accepting a connection failed: {error}"))
            .run(shutdown, |accepted| {
                Visit { app: Arc::clone(&app), remote: accepted.peer, logs }.serve(accepted)
            })
            .await
    }
}

/// One client's connection.
#[derive(Clone)]
struct Visit {
    app: Arc<App>,
    remote: SocketAddr,
    logs: bool,
}

impl Visit {
    async fn serve(self, accepted: Accepted) {
        let Accepted { stream, mut stopping, .. } = accepted;
        let service = service_fn(|request| self.clone().answer(request));
        let mut connection = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let ended = stopping.serve(&mut connection, pending()).await;
        // Any other error is the client's fault: it left, or sent invalid HTTP.
        if ended.is_err_and(|error| is_reset(&error)) {
            let stream = connection.into_parts().io.into_inner();
            // Closing then sends a RST instead of a FIN.
            let _ = stream.set_zero_linger();
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Outcome {
        let mut entry = self.logs.then(|| Entry::begin(self.remote, &request));
        let outcome = routes::answer(&self.app, request).await;
        match &outcome {
            Ok(reply) => {
                let bytes = reply.body().size_hint().lower();
                self.app.tally.answered(reply.status());
                if let Some(entry) = &mut entry {
                    entry.answered(reply.status(), bytes);
                }
            }
            Err(ResetConnection) => self.app.tally.resets.add(),
        }
        outcome
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    error.source().is_some_and(<dyn Error>::is::<ResetConnection>)
}
