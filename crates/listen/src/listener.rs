//! A listening socket.
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tracing::warn;

/// A listening socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// If the address cannot be bound, usually because another agent runs.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = match TcpListener::bind(address).await {
            // The caller asked for all addresses, and this machine has no IPv6.
            Err(error)
                if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                    && address.ip() == Ipv6Addr::UNSPECIFIED =>
            {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?
            }
            listener => listener?,
        };
        Ok(Self(listener))
    }

    /// The address on which it listens.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Accepts the next connection. It waits and retries if that fails.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    // Most likely the file descriptors are used up. The rest of the program
                    // continues.
                    let port = self.address().map(|address| address.port()).ok();
                    warn!(%error, port, "cannot accept connections");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}
