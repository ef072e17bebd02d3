//! Sends what was recorded, and compares.
use fake_apiserver::{
    FakeApi,
    recorded::{self, Exchange},
};
use http_body_util::BodyExt;
use hyper::{HeaderMap, Request};
use kube::client::Body;
use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) fn recording(name: &str) -> Exchange {
    recorded::exchange_of(name).unwrap().unwrap_or_else(|| panic!("{name} is no exchange"))
}

pub(crate) fn request(exchange: &Exchange) -> Request<Body> {
    let mut request = Request::builder().method(exchange.method.as_str()).uri(&exchange.path);
    for (name, value) in &exchange.request_headers {
        request = request.header(name, value);
    }
    let body = match &exchange.request {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    request.body(Body::from(body)).unwrap()
}

/// Sends the recorded request and waits for the whole answer.
pub(crate) async fn send(fake: &FakeApi, token: &str, exchange: &Exchange) -> Answer {
    let response = fake.client(token).send(request(exchange)).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let body = if exchange.stream.is_some() {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
    } else {
        serde_json::from_str(&text).unwrap()
    };
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// The answer is the recorded one, but for what differs from run to run.
pub(crate) async fn same(fake: &FakeApi, token: &str, name: &str) -> Answer {
    same_as(fake, token, name, &recording(name)).await
}

pub(crate) async fn same_as(
    fake: &FakeApi,
    token: &str,
    name: &str,
    exchange: &Exchange,
) -> Answer {
    let answer = send(fake, token, exchange).await;
    assert_eq!(answer.status, exchange.status, "{name}: {}", answer.body);
    for header in ["content-type", "retry-after", "x-content-type-options"] {
        let got = answer.headers.get(header).map(|value| value.to_str().unwrap());
        assert_eq!(got, exchange.header(header), "{name}: {header}");
    }
    assert!(answer.headers.contains_key("date"), "{name}");
    let recorded = match &exchange.stream {
        Some(events) => Value::Array(events.clone()),
        None => exchange.response.clone(),
    };
    assert_eq!(masked(&answer.body), masked(&recorded), "{name}");
    answer
}

/// Without what differs from run to run: uids and dates of metadata, and the managers of fields.
pub(crate) fn masked(value: &Value) -> Value {
    let mut value = value.clone();
    mask(&mut value);
    value
}

fn mask(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["uid", "creationTimestamp", "managedFields"] {
            metadata.remove(key);
        }
    }
    match value {
        Value::Object(map) => map.values_mut().for_each(mask),
        Value::Array(list) => list.iter_mut().for_each(mask),
        _ => {}
    }
}
