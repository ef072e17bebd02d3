//! A listening socket, for whichever port.
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpStream};

/// A listening socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// If it cannot be had, most often because another agent runs.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = match TcpListener::bind(address).await {
            // All addresses were meant, and this machine has no IPv6.
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

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next connection.
    ///
    /// # Errors
    /// Most often for want of file descriptors.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}
