//! Clients that keep a server's connections for themselves: each sends a header byte by byte and
//! never ends it, and comes again when it is thrown out.
use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::stage::traffic::Traffic;

const PAUSE: Duration = Duration::from_millis(300);
const CONNECT: Duration = Duration::from_millis(50);

/// These clients; they leave when dropped.
pub(super) struct Loris(#[expect(dead_code, reason = "held for its Drop")] Traffic);

impl Loris {
    pub(super) fn come(port: u16, clients: u64) -> Self {
        let connections: Mutex<Vec<Option<TcpStream>>> =
            Mutex::new((0..clients).map(|_| None).collect());
        Self(Traffic::start(PAUSE, move || {
            let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
            for connection in connections.iter_mut() {
                *connection = connection.take().map_or_else(|| begin(port), go_on);
            }
        }))
    }
}

fn begin(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, CONNECT).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nX-Slow: ").ok()?;
    Some(stream)
}

fn go_on(mut stream: TcpStream) -> Option<TcpStream> {
    stream.write_all(b"a").ok().map(|()| stream)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net::TcpListener};

    use super::*;

    #[test]
    fn one_that_is_thrown_out_comes_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let loris = Loris::come(listener.local_addr().unwrap().port(), 1);
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut begun = [0; 14];
            stream.read_exact(&mut begun).unwrap();
            assert_eq!(&begun, b"GET / HTTP/1.1");
        }
        drop(loris);
    }
}
