//! One request to a receiver, which may be slow, broken or hostile.
//!
//! Each request has a connection of its own and follows no redirect. Certificates are verified. The
//! body of a response says nothing that the status does not say; it is read only so far that a
//! well-behaved receiver can end its response, and never logged: it could repeat a secret.
use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{self, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use paramedic_host::clock::wall_time;
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    address::Address,
    payload::Payload,
    retry::{Answer, retry_after},
    signature,
};

/// Maximum size of a response's head.
const HEAD_LIMIT: usize = 16 * 1024;
/// How much of a response's body is read, and for how long.
const BODY_LIMIT: usize = 16 * 1024;
const BODY_TIME: Duration = Duration::from_secs(1);

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("paramedic/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Why there is no response. No text contains a key or a part of the URL.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("no response within {} s: is the receiver too slow?", .0.as_secs_f32())]
    Slow(Duration),
    #[error("cannot connect: {0}; correct the host and port, or start the receiver")]
    Connect(io::Error),
    #[error(
        "no TLS: {0}; is its certificate of an authority that this machine knows? SSL_CERT_FILE \
         names a file with others"
    )]
    Tls(String),
    #[error("{0}")]
    NoTls(Arc<str>),
    #[error("the host is not a name that a certificate can have: correct it")]
    Name,
    #[error("the URL or its key cannot be part of a request: correct it")]
    Request,
    #[error("the connection ended without a response ({0})")]
    Broken(#[from] hyper::Error),
}

/// The settings of TLS, or why they cannot be made.
pub(crate) type Tls = Result<Arc<ClientConfig>, Arc<str>>;

/// Sends one request; takes at most `limit`.
pub(crate) async fn post(
    address: &Address,
    payload: Payload,
    tls: &Tls,
    limit: Duration,
) -> Answer {
    let answer = timeout(limit, exchange(address, payload, tls)).await;
    match answer.unwrap_or(Err(PostError::Slow(limit))) {
        Ok(answer) => answer,
        Err(error) => Answer::Nothing(error.to_string()),
    }
}

async fn exchange(address: &Address, payload: Payload, tls: &Tls) -> Result<Answer, PostError> {
    let request = request(address, payload)?;
    let host = address.host.as_str();
    let stream = TcpStream::connect((host, address.port)).await.map_err(PostError::Connect)?;
    stream.set_nodelay(true).map_err(PostError::Connect)?;
    if !address.tls {
        return over(stream, request).await;
    }
    let config = tls.as_ref().map_err(|why| PostError::NoTls(Arc::clone(why)))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| PostError::Name)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    over(stream.map_err(|error| PostError::Tls(fault_of(&error)))?, request).await
}

/// The error of a handshake. That of another name quotes the host.
fn fault_of(error: &io::Error) -> String {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(
            NotValidForName | NotValidForNameContext { .. },
        )) => "its certificate is for another name".to_owned(),
        _ => error.to_string(),
    }
}

fn request(address: &Address, payload: Payload) -> Result<Request<Full<Bytes>>, PostError> {
    let mut request = Request::post(address.path.expose())
        .header(header::HOST, &address.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, JSON)
        .header(header::ACCEPT, JSON)
        .header(header::CONNECTION, CLOSE);
    if let Some(signature) = payload.signature {
        request = request.header(signature::HEADER, signature);
    }
    request.body(Full::new(payload.body)).map_err(|_| PostError::Request)
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, PostError> {
    let (mut requests, connection) =
        http1::Builder::new().max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(stream)).await?;
    let mut connection = pin!(connection);
    let mut exchange = pin!(async {
        let response = requests.send_request(request).await?;
        let answer = answer_of(&response);
        // Whatever happens to the body, the status stands.
        let _ = timeout(BODY_TIME, drain(response)).await;
        Ok(answer)
    });
    tokio::select! {
        answer = &mut exchange => answer,
        // The response may be complete when the connection ends.
        _ = &mut connection => exchange.await,
    }
}

fn answer_of(response: &Response<Incoming>) -> Answer {
    let code = response.status().as_u16();
    Answer::Status { code, retry_after: asked(response.headers()) }
}

fn asked(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    retry_after(value, wall_time())
}

async fn drain(response: Response<Incoming>) {
    let (mut body, mut read) = (response.into_body(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > BODY_LIMIT {
            return;
        }
    }
}
