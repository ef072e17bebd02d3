//! A receiver that answers as it is told, on a real socket.
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// How it answers one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// With this status line and these headers.
    Head(&'static str),
    /// Never.
    Silence,
    /// By closing the connection.
    Close,
    /// With a status, and a body that never ends.
    Endless,
}

pub(crate) const OK: Reply = Reply::Head("200 OK");

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The receiver; it ends with the test.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Request>,
}

impl Receiver {
    /// Answers one request after the other by `replies`, and all others by the last.
    pub(crate) async fn new(replies: &[Reply]) -> Self {
        Self::with(replies, None).await
    }

    pub(crate) async fn with(replies: &[Reply], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (came, requests) = mpsc::unbounded_channel();
        let replies = Arc::new(Mutex::new(replies.to_vec()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (came, replies, tls) = (came.clone(), Arc::clone(&replies), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &came, &replies).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &came, &replies).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Request {
        let next = tokio::time::timeout(Duration::from_secs(30), self.requests.recv()).await;
        next.expect("no request came").unwrap()
    }

    /// Whether no request comes within this time.
    pub(crate) async fn is_left_alone(&mut self, within: Duration) -> bool {
        tokio::time::timeout(within, self.requests.recv()).await.is_err()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    came: &mpsc::UnboundedSender<Request>,
    replies: &Mutex<Vec<Reply>>,
) {
    let Some(request) = read(&mut stream).await else { return };
    let reply = {
        let mut replies = replies.lock().unwrap();
        if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() }
    };
    let _ = came.send(request);
    match reply {
        Reply::Head(head) => {
            let text = format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nok");
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Reply::Silence => sleep(Duration::from_secs(3600)).await,
        Reply::Close => {}
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let request = Request { head, body: bytes[end + 4..].to_vec() };
        let length: usize = request.header("content-length")?.parse().ok()?;
        if request.body.len() >= length {
            return Some(request);
        }
    }
}
