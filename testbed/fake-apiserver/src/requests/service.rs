//! How requests come in: the same way for a `kube::Client` in the test's own process and for one
//! at the other end of a TCP connection.
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Frame},
    header::{self, HeaderValue},
};
use kube::Client;
use serde_json::Value;
use tokio::time::sleep;
use tower_service::Service;

use super::{
    Answer, Asked, faults,
    log::Logged,
    route::Route,
    watch::{Piece, Stream},
};
use crate::{
    FakeApi, Fault, Identity,
    api::{json as j, status::Status},
    cluster::clock,
    state::State,
};

/// How long a server waits for a version that is not there yet.
const VERSION_WAIT: Duration = Duration::from_secs(3);

/// No answer, or only a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The server does not listen.
    #[error("connection refused")]
    Refused,
    /// It broke.
    #[error("connection reset by peer")]
    Broken,
}

/// The body of a response.
#[derive(Debug)]
pub struct ApiBody(Content);

enum Content {
    Once(Option<Bytes>),
    Stream(Pin<Box<dyn Future<Output = Piece> + Send>>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Once(_)) { "Once" } else { "Stream" })
    }
}

impl ApiBody {
    fn once(bytes: impl Into<Bytes>) -> Self {
        Self(Content::Once(Some(bytes.into())))
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = ConnectionError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionError>>> {
        let stream = match &mut self.0 {
            Content::Once(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Content::Stream(stream) => stream,
        };
        let Poll::Ready(piece) = stream.as_mut().poll(context) else { return Poll::Pending };
        let Some((piece, rest)) = piece else {
            self.0 = Content::Once(None);
            return Poll::Ready(None);
        };
        self.0 = match rest {
            Some(rest) => Content::Stream(Box::pin(rest.next())),
            None => Content::Once(None),
        };
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Once(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match &self.0 {
            Content::Once(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                hyper::body::SizeHint::with_exact(length as u64)
            }
            Content::Stream(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// One client's way to the fake.
#[derive(Clone, Debug)]
pub struct Caller {
    fake: FakeApi,
    token: String,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<ApiBody>, ConnectionError>> + Send>>;

impl Service<Request<kube::client::Body>> for Caller {
    type Response = Response<ApiBody>;
    type Error = ConnectionError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Answering {
        let Self { fake, token } = self.clone();
        Box::pin(async move { fake.handle(request, Some(token)).await })
    }
}

impl FakeApi {
    /// A client that sends `token`. A token that was not registered becomes one that may do
    /// everything.
    #[must_use]
    pub fn client(&self, token: &str) -> Client {
        Client::new(self.caller(token), "default")
    }

    /// The service behind [`FakeApi::client`], to put layers of one's own around.
    #[must_use]
    pub fn caller(&self, token: &str) -> Caller {
        self.with(|state| {
            let identities = &mut state.access.identities;
            identities.entry(token.to_owned()).or_insert_with(|| Identity::new(token));
        });
        Caller { fake: self.clone(), token: token.to_owned() }
    }

    /// Answers one request.
    pub(crate) async fn handle<B>(
        &self,
        request: Request<B>,
        token: Option<String>,
    ) -> Result<Response<ApiBody>, ConnectionError>
    where
        B: Body<Data = Bytes>,
    {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| ConnectionError::Broken)?.to_bytes();
        let latency = self.with(|state| state.faults.latency);
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let (path, query) = (parts.uri.path(), parts.uri.query());
        let route = Route::new(parts.method.as_str(), path, query);
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
        let content_type = content_type.split(';').next().unwrap_or("").trim().to_owned();
        let (path, body) = (path.to_owned(), body.to_vec());
        let asked = Asked { token, path, route, content_type, body };

        let (entry, fault) = self.with(|state| state.receive(&asked))?;
        match fault {
            Some(Fault::Dropped) => return Err(ConnectionError::Broken),
            Some(Fault::Hang { applied: false }) => return std::future::pending().await,
            Some(Fault::Status { code, retry_after }) => {
                return Ok(self.finish(entry, Err(faults::trouble(code, retry_after))));
            }
            _ => {}
        }
        let answer = self.try_answer(&asked).await;
        match fault {
            Some(Fault::Lost) => return Err(ConnectionError::Broken),
            Some(Fault::Hang { .. }) => return std::future::pending().await,
            Some(Fault::Slow(time)) => sleep(time).await,
            Some(Fault::Garbage) => {
                return Ok(self.finish(entry, Ok(Answer::Text("<html>502 Bad Gateway</html>"))));
            }
            _ => {}
        }
        Ok(self.finish(entry, answer))
    }

    async fn try_answer(&self, asked: &Asked) -> Result<Answer, Status> {
        let answer = self.with(|state| state.answer(asked));
        let Ok(Answer::NotYet(_)) = answer else { return answer };
        sleep(VERSION_WAIT).await;
        let too_new = |wanted, state: &State| {
            Err(Status::version_too_large(wanted, state.cluster.store.version()))
        };
        self.with(|state| match state.answer(asked) {
            Ok(Answer::NotYet(wanted)) => too_new(wanted, state),
            other => other,
        })
    }

    /// Writes down how a request was answered, and makes the response.
    fn finish(&self, entry: usize, answer: Result<Answer, Status>) -> Response<ApiBody> {
        let mut response = match answer {
            Ok(Answer::Json(code, body)) => json_response(code, &body),
            Ok(Answer::Text(text)) => response(200, "text/plain", ApiBody::once(text)),
            Ok(Answer::Watch(watching)) => {
                let stream = Stream::new(self.clone(), *watching);
                let body = ApiBody(Content::Stream(Box::pin(stream.next())));
                response(200, "application/json", body)
            }
            // Never left over: the wait has an end.
            Ok(Answer::NotYet(_)) => response(504, "text/plain", ApiBody::once("")),
            Err(status) => refusal(&status),
        };
        let code = response.status().as_u16();
        let now = self.with(|state| {
            state.requests.answered(entry, code);
            state.cluster.now
        });
        if let Ok(date) = HeaderValue::from_str(&clock::http_date(now)) {
            response.headers_mut().insert(header::DATE, date);
        }
        response
    }
}

impl State {
    /// Writes a request down, and finds out what will go wrong with it.
    fn receive(&mut self, asked: &Asked) -> Result<(usize, Option<Fault>), ConnectionError> {
        let token = asked.token.as_deref().unwrap_or("");
        if self.faults.is_out_of_reach(token) {
            return Err(ConnectionError::Refused);
        }
        let mut logged = Logged::new(self.cluster.now, token, &asked.route, &asked.path);
        if logged.is_eviction()
            && let Ok(body) = serde_json::from_slice::<Value>(&asked.body)
        {
            let in_body = j::list(&body, "/deleteOptions/dryRun").iter().any(|v| v == "All");
            logged.dry_run |= in_body;
        }
        let fault = self.faults.meet(&logged);
        Ok((self.requests.push(logged), fault))
    }
}

fn refusal(status: &Status) -> Response<ApiBody> {
    let throttled =
        status.code == 429 && status.details.as_ref().is_none_or(|d| d["causes"].is_null());
    let mut refused = if throttled {
        // Throttling answers before anything that would speak JSON.
        let text = format!("{}\n", status.message);
        response(429, "text/plain; charset=utf-8", ApiBody::once(text))
    } else {
        json_response(status.code, &status.body())
    };
    let headers = refused.headers_mut();
    if let Some(seconds) = status.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.no_sniff || throttled {
        let value = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, value);
    }
    refused
}

fn json_response(code: u16, body: &Value) -> Response<ApiBody> {
    response(code, "application/json", ApiBody::once(format!("{body}\n")))
}

pub(crate) fn response(code: u16, content_type: &'static str, body: ApiBody) -> Response<ApiBody> {
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
