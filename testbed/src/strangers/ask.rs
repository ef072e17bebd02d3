//! One request of a client, and its result. Each has a connection of its own, as with many clients,
//! so that a service that blocks connections is noticed.
use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

/// The result for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A complete answer with this status.
    Status(u16),
    /// No answer in time.
    Silence,
    /// The connection was refused or broken.
    Broken,
    /// The client itself closed it early.
    Cut,
}

/// A client gives up after this.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// No service here sends longer answers.
const MOST: usize = 1 << 20;

/// `GET` of a path at this machine's port.
pub(super) fn get(port: u16, path: &str) -> Given {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: client\r\n\
         Connection: close\r\n\r\n"
    );
    given(exchange(port, head.as_bytes(), usize::MAX).map(|answer| status(&answer)))
}

/// Redis' own `PING`; a good answer counts as 200, another as 500.
pub(super) fn ping(port: u16) -> Given {
    let answer = exchange(port, b"PING\r\n", 7);
    given(answer.map(|answer| Some(if answer.starts_with(b"+PONG") { 200 } else { 500 })))
}

/// Whether something listens; counts as 200.
pub(super) fn listens(port: u16) -> Given {
    given(connect(port).map(|_| Some(200)))
}

/// Sends a request and resets the connection before the answer.
pub(super) fn cut(port: u16, path: &str) -> Given {
    let cut = || -> io::Result<()> {
        let mut stream = connect(port)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream, sockopt::Linger, &at_once).map_err(io::Error::from)
    };
    match cut() {
        Ok(()) => Given::Cut,
        Err(error) => given(Err(error)),
    }
}

/// Sends half a request, keeps the connection for as long as other clients wait, and closes it.
pub(super) fn dawdle(port: u16, path: &str) -> Given {
    let hold = || -> io::Result<()> {
        let mut stream = connect(port)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Slow: ")?;
        thread::sleep(PATIENCE);
        Ok(())
    };
    match hold() {
        Ok(()) => Given::Cut,
        Err(error) => given(Err(error)),
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)
}

/// Sends `request` and reads until the other side closes, or `enough` bytes are there.
fn exchange(port: u16, request: &[u8], enough: usize) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = connect(port)?;
    stream.write_all(request)?;
    let (mut answer, mut part) = (Vec::new(), [0; 8192]);
    while answer.len() < enough {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            n if answer.len() + n > MOST => return Err(ErrorKind::InvalidData.into()),
            n => answer.extend_from_slice(&part[..n]),
        }
    }
    Ok(answer)
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

fn given(answer: io::Result<Option<u16>>) -> Given {
    match answer {
        Ok(Some(status)) => Given::Status(status),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Given::Silence
        }
        Ok(None) | Err(_) => Given::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_gives_its_status_and_anything_else_none() {
        assert_eq!(status(b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n"), Some(503));
        assert_eq!(status(b"HTTP/1.0 200\r\n\r\n"), Some(200));
        assert_eq!(status(b"+PONG\r\n"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn a_port_that_nothing_listens_on_breaks() {
        let port = crate::stage::free_port().unwrap();
        assert_eq!(get(port, "/"), Given::Broken);
        assert_eq!(cut(port, "/"), Given::Broken);
    }
}
