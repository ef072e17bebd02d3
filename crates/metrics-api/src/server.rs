//! The HTTPS server for the API server.
//!
//! Bare hyper: the paths are a fixed grammar of the Kubernetes API (`path`), which the routers of
//! web frameworks do not express, and the front proxy's certificate decides per connection.
use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::jiff::Timestamp;
use paramedic_listen::{AcceptLoop, Accepted, Listener};
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::{ResolvesServerCert, WebPkiClientVerifier},
};
use serde_json::Value as Json;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::{
    FORECAST, Version,
    access::{Access, Resource},
    answer::{self, Unwritable},
    discovery,
    forecasts::{Forecasts, this_minute},
    front_proxy::{FrontProxy, Unauthorized, User},
    openapi,
    path::{Asked, Forecast, Nothing, Pods, Values},
    readiness::Readiness,
    selector,
    store::Store,
};

/// Maximum number of connections authenticated as the front proxy.
const CONNECTIONS: usize = 256;
/// Maximum number of other connections: those not authenticated yet, and the kubelet's probes. They
/// are short, so fewer strangers than this do not keep the API server out. As many as this do, for
/// as long as they continue: if pods are not trusted, a NetworkPolicy must stop them.
const STRANGERS: usize = 512;
/// Timeout of a TLS handshake and of a request without a client certificate.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Each group of a user is one header.
const HEADERS: usize = 2000;
/// Idle timeout. The API server closes idle connections after 90 s, and should be the first to
/// close them.
const IDLE: Duration = Duration::from_secs(120);

/// The state that requests are answered from.
pub(super) struct Shared {
    pub(super) store: Arc<Mutex<Store>>,
    pub(super) forecasts: Arc<Forecasts>,
    pub(super) access: Access,
    pub(super) readiness: Arc<Readiness>,
    pub(super) front_proxy: watch::Receiver<Option<Arc<FrontProxy>>>,
    pub(super) certificate: watch::Receiver<Option<Arc<dyn ResolvesServerCert>>>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// Serves until `shutdown` resolves. Then requests in progress have a few seconds to end.
pub(super) async fn serve(
    listener: Listener,
    shared: Arc<Shared>,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let serve = |accepted| {
        let (shared, places) = (Arc::clone(&shared), Arc::clone(&places));
        async move { shared.connection(accepted, &places).await }
    };
    AcceptLoop::new(listener).limit(STRANGERS).run(shutdown, serve).await;
}

impl Shared {
    async fn connection(&self, accepted: Accepted, places: &Semaphore) {
        let Accepted { stream, peer, place: stranger, mut stopping } = accepted;
        // The current front-proxy CA applies to the whole connection. If the CA changes, the
        // connection closes after the current request.
        let mut front_proxy = self.front_proxy.clone();
        let proxy = front_proxy.borrow_and_update().clone();
        let stream = match self.accept(stream, proxy.as_deref()).await {
            Ok(stream) => stream,
            Err(error) => return debug!(%peer, %error, "TLS handshake failed"),
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first).map(|c| c.clone().into_owned());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).max_headers(HEADERS).header_read_timeout(IDLE);
        let _place = if certificate.is_some() {
            drop(stranger);
            let Ok(place) = places.try_acquire() else {
                return warn!(%peer, "the API server has too many connections; refused one");
            };
            Ok(place)
        } else {
            http.keep_alive(false).header_read_timeout(HANDSHAKE);
            Err(stranger)
        };
        let service = service_fn(|request| {
            let (proxy, certificate) = (proxy.as_deref(), certificate.as_ref());
            async move { Ok::<_, Infallible>(self.answer(&request, proxy, certificate).await) }
        });
        let mut connection = http.serve_connection(TokioIo::new(stream), service);
        let outdated = async {
            let _ = front_proxy.changed().await;
        };
        if let Err(error) = stopping.serve(&mut connection, outdated).await {
            debug!(%peer, %error, "client disconnected");
        }
    }

    async fn accept(
        &self,
        stream: TcpStream,
        proxy: Option<&FrontProxy>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let certificate = self.certificate.borrow().clone();
        let certificate = certificate.ok_or_else(|| io::Error::other("no certificate yet"))?;
        let config = self.config(certificate, proxy).map_err(io::Error::other)?;
        match timeout(HANDSHAKE, TlsAcceptor::from(Arc::new(config)).accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Client certificates are verified against the front-proxy CA only. Without a certificate the
    /// kubelet may request the health endpoints, and nothing else.
    fn config(
        &self,
        certificate: Arc<dyn ResolvesServerCert>,
        proxy: Option<&FrontProxy>,
    ) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let provider = Arc::clone(&self.provider);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match proxy {
            Some(proxy) => {
                let roots = Arc::clone(&proxy.roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .allow_unauthenticated()
                    .build()?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        Ok(builder.with_cert_resolver(certificate))
    }

    async fn answer(
        &self,
        request: &Request<Incoming>,
        proxy: Option<&FrontProxy>,
        certificate: Option<&CertificateDer<'static>>,
    ) -> Answer {
        match request.uri().path() {
            "/livez" | "/healthz" => return text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => return self.ready(),
            _ => {}
        }
        let user = match identify(proxy, certificate, request.headers()) {
            Ok(user) => user,
            Err(why) => return refusal(StatusCode::UNAUTHORIZED, &why.to_string()),
        };
        if request.method() != Method::GET {
            let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "read-only: GET alone");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        match Asked::parse(request.uri()) {
            Ok(Asked::Groups) => {
                let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
                let (kind, groups) = discovery::groups(accept.unwrap_or_default());
                json(StatusCode::OK, &kind, &groups)
            }
            Ok(Asked::Group) => ok(&discovery::group()),
            Ok(Asked::Resources(version)) => ok(&discovery::resources(version)),
            Ok(Asked::OpenApiV2) => ok(&openapi::v2()),
            Ok(Asked::OpenApiV3) => ok(&openapi::v3()),
            Ok(Asked::OpenApiV3Of(version)) => ok(&openapi::v3_of(version)),
            Ok(Asked::Values(version, values)) => self.values(&user, version, &values).await,
            Ok(Asked::Forecast(version, asked)) => self.forecast(&user, version, &asked).await,
            Err(nothing @ (Nothing::BadSelector(_) | Nothing::NotText(_))) => {
                refusal(StatusCode::BAD_REQUEST, &nothing.to_string())
            }
            Err(nothing) => refusal(StatusCode::NOT_FOUND, &nothing.to_string()),
        }
    }

    /// The refusal, if the user may not read it.
    async fn refused(&self, user: &User, version: Version, resource: Resource) -> Option<Answer> {
        match self.access.may(user, version, resource).await {
            Ok(Ok(())) => None,
            Ok(Err(denied)) => Some(refusal(StatusCode::FORBIDDEN, &denied)),
            Err(error) => {
                let why = format!("cannot check whether {:?} may read this: {error}", user.name);
                Some(refusal(StatusCode::SERVICE_UNAVAILABLE, &why))
            }
        }
    }

    async fn forecast(&self, user: &User, version: Version, asked: &Forecast) -> Answer {
        if let Some(refused) = self.refused(user, version, asked.into()).await {
            return refused;
        }
        if !selector::selects_unlabelled(&asked.of_series) {
            return refusal(StatusCode::NOT_FOUND, &no_series(FORECAST, "workload"));
        }
        let Forecast { namespace, workload, .. } = asked;
        let measured = self.store.lock().load(namespace, workload, Instant::now());
        match self.forecasts.expect(namespace, workload, measured, this_minute()) {
            Ok(value) => list(answer::forecast(version, asked, value, Timestamp::now())),
            Err(why) => {
                let (kind, name) = (workload.kind.name(), &workload.name);
                let why = format!("no {FORECAST} of {kind} {namespace}/{name}: {why}");
                refusal(StatusCode::NOT_FOUND, &why)
            }
        }
    }

    async fn values(&self, user: &User, version: Version, asked: &Values) -> Answer {
        if let Some(refused) = self.refused(user, version, asked.into()).await {
            return refused;
        }
        if !selector::selects_unlabelled(&asked.of_series) {
            return refusal(StatusCode::NOT_FOUND, &no_series(asked.metric.name(), "pod"));
        }
        let written = {
            let store = self.store.lock();
            let values = store.values(&asked.namespace, &asked.pods, asked.metric, Instant::now());
            let mut values = values.peekable();
            if let (Pods::Named(name), None) = (&asked.pods, values.peek()) {
                return refusal(StatusCode::NOT_FOUND, &no_value(asked, name));
            }
            answer::list(version, asked, values, Timestamp::now())
        };
        list(written)
    }

    fn ready(&self) -> Answer {
        match self.readiness.pending() {
            pending if pending.is_empty() => text(StatusCode::OK, "ok\n".to_owned()),
            pending => text(StatusCode::SERVICE_UNAVAILABLE, pending),
        }
    }
}

fn identify(
    proxy: Option<&FrontProxy>,
    certificate: Option<&CertificateDer<'static>>,
    headers: &HeaderMap,
) -> Result<User, Unauthorized> {
    let proxy = proxy.ok_or(Unauthorized::NoCertificate)?;
    proxy.identify(certificate, headers)
}

fn no_series(metric: &str, of: &str) -> String {
    format!("the metric {metric} has one series per {of}, without labels: none is selected")
}

fn no_value(asked: &Values, name: &str) -> String {
    format!(
        "no value of {} for pod {}/{name}: it does not carry the label paramedic.dev/heal, its \
         agent does not respond, or the kernel cannot measure it",
        asked.metric.name(),
        asked.namespace
    )
}

type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json";

fn list(written: Result<Vec<u8>, Unwritable>) -> Answer {
    match written {
        Ok(body) => reply(StatusCode::OK, JSON, body),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn ok(body: &Json) -> Answer {
    json(StatusCode::OK, JSON, body)
}

fn refusal(code: StatusCode, message: &str) -> Answer {
    json(code, JSON, &answer::status(code, message))
}

fn json(code: StatusCode, kind: &str, body: &Json) -> Answer {
    reply(code, kind, body.to_string())
}

fn text(code: StatusCode, body: String) -> Answer {
    reply(code, "text/plain; charset=utf-8", body)
}

fn reply(code: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    // All content types are ASCII.
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}
