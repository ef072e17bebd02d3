//! Hand-written servers for tests: raw bytes on real sockets, because no HTTP library produces
//! output this broken.
#![expect(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

/// A server on the loopback interface that stops when dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    requests: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection of a [`Server`].
#[derive(Debug)]
pub struct Peer {
    pub stream: TcpStream,
    /// Counts the connections from 0.
    pub number: usize,
    seen: mpsc::UnboundedSender<String>,
}

impl Peer {
    /// Reads one request; `None` at the end of the connection.
    pub async fn request(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        while !complete(&bytes) {
            bytes.push(self.stream.read_u8().await.ok()?);
        }
        let request = String::from_utf8(bytes).unwrap();
        let _ = self.seen.send(request.clone());
        Some(request)
    }

    /// Writes as far as possible; the client may have hung up.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Waits until the client has closed its end.
    pub async fn hung_up(&mut self) {
        let mut buffer = [0; 1024];
        while matches!(self.stream.read(&mut buffer).await, Ok(n) if n > 0) {}
    }
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.map_or(0, |n| n.parse().unwrap())
}

impl Server {
    /// Runs `script` for every connection, each in its own task.
    pub async fn scripted<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let (seen, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(Peer { stream, number, seen: seen.clone() }));
            }
        });
        Self { address, accepted, requests, task }
    }

    /// Answers the first request of every connection with these bytes and closes it.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::scripted(move |mut peer| {
            let answer = Arc::clone(&answer);
            async move {
                peer.request().await;
                peer.write(answer).await;
            }
        })
        .await
    }

    /// Reads and never answers.
    pub async fn silent() -> Self {
        Self::scripted(|mut peer| async move { peer.hung_up().await }).await
    }

    /// Number of accepted connections.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The next request that a script read with [`Peer::request`].
    pub async fn request(&mut self) -> String {
        self.requests.recv().await.unwrap()
    }
}

/// An address on which nothing listens.
pub async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
