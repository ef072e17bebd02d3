//! A listening socket.
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Length of the kernel's accept queue, which the kernel caps at its own limit.
const BACKLOG: u32 = 1024;

/// A listening socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds the address, within a tokio runtime. `[::]` stands for all addresses: IPv6 and IPv4 in one socket, or IPv4 alone
    /// if the machine has no IPv6.
    ///
    /// # Errors
    /// If the address cannot be bound, usually because another process listens there.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        match bind(address) {
            Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && lacks_ipv6(&error) => {
                bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
            }
            listener => listener,
        }
    }

    /// The address on which it listens.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

fn bind(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    if address.is_ipv6() {
        // A sysctl chooses the default.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    // Else a restart has to wait for the connections of the previous process.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(Listener(socket.listen(BACKLOG)?))
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_include_ipv4() {
        let listener = Listener::bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.address().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert!(peer.ip().to_canonical().is_ipv4());
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Listener::bind(first.address().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
