//! The backend of the app, if there is one: `/data` depends on its response.
//!
//! Each request has its own connection, as from a client without a pool: what the kernel sees is
//! then the same at any load.
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(2);

/// Whether the service at this address answers `/data` well.
pub(crate) async fn answers(address: SocketAddr) -> bool {
    succeeds(address, "/data").await
}

/// Whether a service answers well and soon.
pub(crate) async fn succeeds(address: SocketAddr, path: &str) -> bool {
    timeout(LIMIT, ask(address, path)).await.is_ok_and(|answer| answer.unwrap_or(false))
}

async fn ask(address: SocketAddr, path: &str) -> Option<bool> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, "upstream").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.ok()?).await.ok()?;
    let good = answer.status().is_success();
    // Read to the end, because closing on unread bytes would send a reset.
    let read = answer.into_body().collect().await;
    drop(sender);
    let _ = driver.await;
    Some(good && read.is_ok())
}
