//! A running app, and a client that shows what came over the wire.
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;
use patient_app::{Config, bind};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Far longer than anything here takes; only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// An app within the test's own process.
pub(crate) struct Patient {
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<bool>,
}

impl Patient {
    /// An app whose `/data` never fails by itself.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--data-failure-ratio", "0"])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let fixed = ["patient-app", "--port", "0", "--log", "off"];
        let config = Config::parse_from(fixed.iter().chain(arguments));
        let bound = bind(&config).unwrap();
        let client = Client::of(bound.address().port());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(bound.serve(async {
            let _ = stopped.await;
        }));
        Self { client, stop, serving }
    }

    /// Stops it; returns whether every request was finished.
    pub(crate) async fn leave(self) -> bool {
        self.stop.send(()).unwrap();
        within(self.serving).await.unwrap()
    }
}

/// Waits for something that must happen.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("this takes longer than it may")
}

/// An HTTP client with a fresh connection for each request.
#[derive(Clone, Copy)]
pub(crate) struct Client(SocketAddr);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    fn parse(raw: &str) -> Self {
        let (head, body) = raw.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{raw:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }
}

impl Client {
    pub(crate) fn of(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.0)).await.unwrap()
    }

    /// Sends raw text and returns everything until the connection closes.
    pub(crate) async fn raw(&self, request: &[u8]) -> io::Result<String> {
        let mut stream = within(TcpStream::connect(self.0)).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await?;
        Ok(String::from_utf8(answer).unwrap())
    }

    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<Answer> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: patient\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        Ok(Answer::parse(&self.raw(request.as_bytes()).await?))
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_send(method, path, body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub(crate) async fn get_accepting(&self, path: &str, accept: &str) -> Answer {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: patient\r\nConnection: close\r\nAccept: {accept}\r\n\r\n"
        );
        Answer::parse(&self.raw(request.as_bytes()).await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    /// Whether a request is still without a response after far more time than it normally needs.
    pub(crate) async fn hangs(&self, path: &str) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.get(path)).await.is_err()
    }

    /// The status of `/data`, asked `n` times.
    pub(crate) async fn data(&self, n: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..n {
            statuses.push(self.get("/data").await.status);
        }
        statuses
    }
}
