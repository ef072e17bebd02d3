//! The server: binds, accepts, and drains when asked to stop.
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::access_log::Entry;
use crate::config::Config;
use crate::illness::{Name, StartError};
use crate::routes::{self, Outcome, ResetConnection};
use crate::state::App;

/// Length of the kernel's accept queue, which the kernel caps at its own limit.
const BACKLOG: u32 = 1024;

/// Maximum size of a request's head; a larger one is refused with 431.
const HEAD_LIMIT: usize = 16 * 1024;

/// Timeout of a request's head, and of an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Delay after an accept that failed for lack of file descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

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
    listener: TcpListener,
    app: Arc<App>,
    logs: bool,
    grace: Duration,
}

/// Starts to listen; within a Tokio runtime with I/O and time.
///
/// # Errors
/// If the address is not available, or an illness of the configuration cannot start.
pub fn bind(config: &Config) -> Result<Bound, BindError> {
    let (address, listener) = listen(config.address, config.port)?;
    let app = App::new(config).map_err(|(illness, e)| BindError::from((illness.name(), e)))?;
    Ok(Bound { address, listener, app: Arc::new(app), logs: config.logs(), grace: config.grace() })
}

/// Listens on the requested address; by default on IPv6 and IPv4 in one socket, or on IPv4 alone if
/// the machine has no IPv6.
fn listen(asked: Option<IpAddr>, port: u16) -> Result<(SocketAddr, TcpListener), BindError> {
    let attempt = |ip: IpAddr| {
        let address = SocketAddr::new(ip, port);
        listen_on(address).map_err(|cause| (address, cause))
    };
    let listening = match asked {
        Some(ip) => attempt(ip),
        None => match attempt(Ipv6Addr::UNSPECIFIED.into()) {
            Err((_, cause)) if lacks_ipv6(&cause) => attempt(Ipv4Addr::UNSPECIFIED.into()),
            other => other,
        },
    };
    listening.map_err(|(address, cause)| BindError::Listen { address, cause })
}

fn lacks_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

fn listen_on(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    if address.is_ipv6() {
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    Ok((listener.local_addr()?, listener))
}

impl Bound {
    /// The address on which it listens, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then accepts no more and lets open requests finish within
    /// the grace period. Returns whether all did.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> bool {
        // Every connection holds a receiver: it learns of the shutdown, and is counted until it
        // ends.
        let (stop, stopping) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let visit = Visit { app: Arc::clone(&self.app), remote, logs: self.logs };
                    tokio::spawn(visit.serve(stream, stopping.clone()));
                }
                Err(error) => {
                    eprintln!("patient-app: accepting a connection failed: {error}");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
        drop((self.listener, stopping));
        stop.send_replace(());
        timeout(self.grace, stop.closed()).await.is_ok()
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
    async fn serve(self, stream: TcpStream, mut stopping: watch::Receiver<()>) {
        // Without it a response may wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| self.clone().answer(request));
        let mut connection = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let ended = tokio::select! {
            // A request that has already arrived is answered, even now.
            biased;
            ended = &mut connection => Some(ended),
            _ = stopping.changed() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
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
