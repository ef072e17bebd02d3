//! The recordings themselves: to compare with, and to replay to a client's parsers.
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    header::{HeaderName, HeaderValue},
};
use kube::Client;
use serde_json::{Value, json};
use tower_service::Service;

use crate::{api::json as j, requests::route};

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot read the recording {name}: {source}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("the recording {name} is no JSON: {source}")]
    NotJson {
        /// The file.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// Where the recordings are.
#[must_use]
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/kubernetes")
}

/// The names of all recordings, such as `pods/list.json`, sorted.
///
/// # Errors
/// If a directory cannot be read.
pub fn names() -> Result<Vec<String>, RecordingError> {
    let unreadable = |name: &str| {
        let name = name.to_owned();
        move |source| RecordingError::Unreadable { name, source }
    };
    let mut names = Vec::new();
    for folder in fs::read_dir(directory()).map_err(unreadable("."))? {
        let folder = folder.map_err(unreadable("."))?;
        let folder_name = folder.file_name().to_string_lossy().into_owned();
        if !folder.path().is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path()).map_err(unreadable(&folder_name))? {
            let file = file.map_err(unreadable(&folder_name))?.file_name();
            names.push(format!("{folder_name}/{}", file.to_string_lossy()));
        }
    }
    names.sort();
    Ok(names)
}

/// The text of a recording.
///
/// # Errors
/// If it cannot be read.
pub fn text(name: &str) -> Result<String, RecordingError> {
    fs::read_to_string(directory().join(name))
        .map_err(|source| RecordingError::Unreadable { name: name.to_owned(), source })
}

/// A recording as JSON, whatever it is.
///
/// # Errors
/// If it cannot be read or is no JSON.
pub fn value(name: &str) -> Result<Value, RecordingError> {
    parse(name, &text(name)?)
}

/// A recorded stream (`.jsonl`), event by event.
///
/// # Errors
/// If it cannot be read or is no JSON.
pub fn stream(name: &str) -> Result<Vec<Value>, RecordingError> {
    text(name)?.lines().map(|line| parse(name, line)).collect()
}

fn parse(name: &str, text: &str) -> Result<Value, RecordingError> {
    serde_json::from_str(text)
        .map_err(|source| RecordingError::NotJson { name: name.to_owned(), source })
}

/// A recorded request and its response.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Such as `GET`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers of the request.
    pub request_headers: Vec<(String, String)>,
    /// The body of the request, or null.
    pub request: Value,
    /// The status of the response.
    pub status: u16,
    /// The headers of the response.
    pub headers: Vec<(String, String)>,
    /// The body of the response; a text that is no JSON as a JSON string; null for a stream.
    pub response: Value,
    /// The events of a watch.
    pub stream: Option<Vec<Value>>,
}

impl Exchange {
    /// A header of the response.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        headers.next().map(|(_, value)| value.as_str())
    }

    /// The body of the response as it was on the wire.
    fn wire(&self) -> Bytes {
        let lines = |events: &[Value]| events.iter().map(|e| format!("{e}\n")).collect::<String>();
        match (&self.stream, &self.response) {
            (Some(events), _) => Bytes::from(lines(events)),
            (None, Value::String(text)) => Bytes::from(text.clone()),
            (None, Value::Null) => Bytes::new(),
            (None, value) => Bytes::from(format!("{value}\n")),
        }
    }
}

/// The exchanges in a recording: one, or several; none, if it is an object or an observation.
/// Of `pods/watch.request.json` the stream in `pods/watch.jsonl` is part.
///
/// # Errors
/// If it cannot be read or is no JSON.
pub fn exchanges(name: &str) -> Result<Vec<Exchange>, RecordingError> {
    let recording = value(name)?;
    let items = match recording {
        Value::Array(items) => items,
        item => vec![item],
    };
    let mut exchanges: Vec<Exchange> = items.iter().filter_map(exchange).collect();
    if let Some(base) = name.strip_suffix(".request.json") {
        let events = stream(&format!("{base}.jsonl"))?;
        for exchange in &mut exchanges {
            exchange.stream = Some(events.clone());
        }
    }
    Ok(exchanges)
}

/// The exchange of a recording that has exactly one; `None` otherwise.
///
/// # Errors
/// If it cannot be read or is no JSON.
pub fn exchange_of(name: &str) -> Result<Option<Exchange>, RecordingError> {
    let mut exchanges = exchanges(name)?;
    Ok(if exchanges.len() == 1 { exchanges.pop() } else { None })
}

/// The forms in which exchanges were written down.
fn exchange(item: &Value) -> Option<Exchange> {
    let get = |keys: [&str; 2]| keys.into_iter().find_map(|key| item.get(key));
    // With a request of its own, or with the request's fields beside the answer.
    let request = get(["request", "backend_request"]).unwrap_or(item);
    let response = get(["response", "backend_response"]).or_else(|| item.get("answer"))?;
    let path = request.get("path")?.as_str()?.to_owned();
    let mut headers = headers(response);
    let content_type = j::text(response, "/content_type");
    if !content_type.is_empty() {
        headers.push(("Content-Type".to_owned(), content_type.to_owned()));
    }
    Some(Exchange {
        method: j::text(request, "/method").to_owned(),
        path,
        request_headers: self::headers(request),
        request: request.get("body").cloned().unwrap_or_default(),
        status: response.get("status")?.as_u64()?.try_into().ok()?,
        headers,
        response: response.get("body").cloned().unwrap_or_default(),
        stream: response.get("stream").and_then(Value::as_array).cloned(),
    })
}

/// Headers, written as an object or as pairs.
fn headers(message: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    match message.get("headers") {
        Some(Value::Object(map)) => map.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
        Some(Value::Array(pairs)) => pairs.iter().map(|p| (text(&p[0]), text(&p[1]))).collect(),
        _ => Vec::new(),
    }
}

/// Answers recorded requests with their recorded responses, word for word. Requests are the same
/// if method, path and query are, and, among several of these, the body; recorded more than
/// once, they are answered in the recorded order, the last one for ever. Anything else is 501.
#[derive(Clone, Debug)]
pub struct Replay(Arc<Mutex<Vec<Track>>>);

/// The exchanges with the same request: the one that is next, and those after it.
type Track = (Exchange, VecDeque<Exchange>);

impl Replay {
    /// Replays these recordings.
    ///
    /// # Errors
    /// If one cannot be read or is no JSON.
    pub fn of(names: &[&str]) -> Result<Self, RecordingError> {
        let mut all: Vec<Track> = Vec::new();
        for name in names {
            for exchange in exchanges(name)? {
                let known = all.iter_mut().find(|(first, _)| {
                    first.method == exchange.method
                        && is_same(&first.path, &exchange.path)
                        && first.request == exchange.request
                });
                match known {
                    Some((_, more)) => more.push_back(exchange),
                    None => all.push((exchange, VecDeque::new())),
                }
            }
        }
        Ok(Self(Arc::new(Mutex::new(all))))
    }

    /// A client that gets these responses.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    fn find(&self, method: &str, path: &str, body: &[u8]) -> Option<Exchange> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let same = |e: &Exchange| e.method == method && is_same(&e.path, path);
        let exact = all.iter().position(|(e, _)| same(e) && e.request == body);
        let index = exact.or_else(|| all.iter().position(|(e, _)| same(e)))?;
        let (next, more) = &mut all[index];
        let found = next.clone();
        if let Some(following) = more.pop_front() {
            *next = following;
        }
        Some(found)
    }
}

/// Whether two paths, queries included, mean the same.
fn is_same(a: &str, b: &str) -> bool {
    fn parts(path: &str) -> (String, BTreeMap<String, String>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        (route::decode(path), route::parse_query(query))
    }
    parts(a) == parts(b)
}

impl Service<Request<kube::client::Body>> for Replay {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let replay = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            Ok(match replay.find(parts.method.as_str(), path, &body) {
                Some(exchange) => replayed(&exchange),
                None => not_recorded(parts.method.as_str(), path),
            })
        })
    }
}

fn replayed(exchange: &Exchange) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(exchange.wire()));
    *response.status_mut() = StatusCode::from_u16(exchange.status).unwrap_or_default();
    for (name, value) in &exchange.headers {
        let pair = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
        // How it was framed is the connection's business.
        if let (Ok(name), Ok(value)) = pair
            && name != hyper::header::TRANSFER_ENCODING
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn not_recorded(method: &str, path: &str) -> Response<Full<Bytes>> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 501,
        "reason": "NotRecorded", "message": format!("{method} {path} was not recorded"),
    });
    let mut response = Response::new(Full::new(Bytes::from(status.to_string())));
    *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    response
}
