//! Clients that keep a server's connections for themselves, and come again when they are thrown out.
use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::stage::traffic::Traffic;

const PAUSE: Duration = Duration::from_millis(300);
const CONNECT: Duration = Duration::from_millis(50);

/// How a client keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It sends a header byte by byte, and never ends it.
    Heads,
    /// It sends a body byte by byte.
    Bodies,
    /// It asks for a large page, and does not read it.
    Pages,
}

impl Manner {
    const fn begin(self) -> &'static [u8] {
        match self {
            Self::Heads => b"GET / HTTP/1.1\r\nHost: shop\r\nX-Slow: ",
            Self::Bodies => b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 9000\r\n\r\n",
            Self::Pages => b"GET /brochure HTTP/1.1\r\nHost: shop\r\n\r\n",
        }
    }
}

/// These clients; they leave when dropped.
pub(super) struct Loris(#[expect(dead_code, reason = "held for its Drop")] Traffic);

impl Loris {
    pub(super) fn come(port: u16, manner: Manner, clients: u64) -> Self {
        let connections: Mutex<Vec<Option<TcpStream>>> =
            Mutex::new((0..clients).map(|_| None).collect());
        Self(Traffic::start(PAUSE, move || {
            let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
            for connection in connections.iter_mut() {
                *connection = match connection.take() {
                    None => begin(port, manner),
                    Some(stream) => go_on(stream, manner),
                };
            }
        }))
    }
}

fn begin(port: u16, manner: Manner) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, CONNECT).ok()?;
    stream.write_all(manner.begin()).ok()?;
    Some(stream)
}

/// Nothing, if the server has closed the connection.
fn go_on(mut stream: TcpStream, manner: Manner) -> Option<TcpStream> {
    if manner == Manner::Pages {
        return stream.take_error().ok().flatten().is_none().then_some(stream);
    }
    stream.write_all(b"a").ok().map(|()| stream)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net::TcpListener};

    use super::*;

    #[test]
    fn one_that_is_thrown_out_comes_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let loris = Loris::come(listener.local_addr().unwrap().port(), Manner::Heads, 1);
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut begun = [0; 14];
            stream.read_exact(&mut begun).unwrap();
            assert_eq!(&begun, b"GET / HTTP/1.1");
        }
        drop(loris);
    }
}
