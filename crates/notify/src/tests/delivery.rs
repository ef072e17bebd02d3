//! Delivery to real receivers, with short delays.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use paramedic_core::decide::Classifier;
use paramedic_host::clock::Clock;
use paramedic_record::{Metrics, SharedJournal};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::{
    notification,
    receiver::{OK, Receiver, Reply},
};
use crate::{
    channel::Channel,
    delivery::{Delivery, Queued, Shared},
    notification::Notification,
    payload,
    post::{self, Tls},
    queue::MOST,
    retry::{Answer, Pace},
    roots, signature,
};

const LONG: Duration = Duration::from_secs(30);

/// As in earnest, but some hundred times quicker.
const QUICK: Pace = Pace {
    request: Duration::from_millis(500),
    first: Duration::from_millis(20),
    most: Duration::from_millis(100),
    asked_most: Duration::from_millis(300),
    give_up: Duration::from_secs(20),
};

/// Any will do.
pub(super) fn classifier() -> Arc<Classifier> {
    Arc::new(Classifier::Rules { reason: "the reasons do not matter here".to_owned() })
}

pub(super) fn shared(journal: Option<SharedJournal>) -> Shared {
    let metrics = Arc::new(Metrics::new("0").unwrap());
    Shared { journal, metrics, tls: Err("no https here".into()), pace: QUICK }
}

/// The delivery of one channel at work.
struct Post {
    queue: mpsc::Sender<Queued>,
    shared: Shared,
    kind: &'static str,
    _task: JoinHandle<()>,
}

impl Post {
    fn new(spec: &str, tls: Tls) -> Self {
        let channel = Channel::parse(spec, "--notify 1").unwrap();
        let shared = Shared { tls, ..shared(None) };
        let kind = channel.kind.name();
        let (queue, queued) = mpsc::channel(64);
        let task = tokio::spawn(Delivery::new(channel, shared.clone()).run(queued));
        Self { queue, shared, kind, _task: task }
    }

    fn to(receiver: &Receiver) -> Self {
        Self::new(&format!("webhook={}/hook", receiver.url()), Err("none".into()))
    }

    async fn send(&self, key: &str) {
        let notification = Notification { key: key.to_owned(), ..notification() };
        self.queue.send((None, Arc::new(notification))).await.unwrap();
    }

    /// Waits until this many notifications have this result.
    async fn has(&self, result: &str, count: u64) {
        let line = format!(
            "paramedic_notifications_total{{channel=\"{}\",result=\"{result}\"}} {count}",
            self.kind
        );
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let page = self.shared.metrics.render().unwrap();
            if page.lines().any(|found| found == line) {
                return;
            }
            assert!(Instant::now() < deadline, "no {line} in {page}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn key_of(request: &super::receiver::Request) -> String {
    request.json()["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_webhook_gets_the_notification_as_json() {
    for head in ["200 OK", "202 Accepted", "204 No Content"] {
        let mut receiver = Receiver::new(&[Reply::Head(head)]).await;
        let post = Post::to(&receiver);
        post.send("a").await;
        let request = receiver.next().await;
        assert!(request.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.header("host"), Some(receiver.address.to_string().as_str()));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(request.header("user-agent").unwrap().starts_with("paramedic/"));
        assert_eq!(request.header(signature::HEADER), None);
        assert_eq!(request.json()["summary"], notification().summary);
        post.has("delivered", 1).await;
    }
}

#[tokio::test]
async fn a_signature_is_of_the_exact_body() {
    let mut receiver = Receiver::new(&[OK]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "s3cret\n").unwrap();
    let spec = format!("webhook+hmac={},{}", file.display(), receiver.url());
    let post = Post::new(&spec, Err("none".into()));
    post.send("a").await;
    let request = receiver.next().await;
    let expected = signature::of("s3cret", &request.body);
    assert_eq!(request.header("X-Paramedic-Signature"), Some(expected.as_str()));
}

#[tokio::test]
async fn each_kind_has_its_own_path_and_body() {
    let key = "R0123456789abcdefABCDEF012345678";
    for (spec, path, field) in [
        ("slack=URL/services/T", "/services/T", "/text"),
        ("alertmanager=URL", "/api/v2/alerts", "/0/labels/alertname"),
        (&format!("pagerduty={key},URL"), "/v2/enqueue", "/payload/summary"),
    ] {
        let mut receiver = Receiver::new(&[Reply::Head("202 Accepted")]).await;
        let post = Post::new(&spec.replace("URL", &receiver.url()), Err("none".into()));
        post.send("a").await;
        let request = receiver.next().await;
        assert!(request.head.starts_with(&format!("POST {path} HTTP/1.1")), "{}", request.head);
        assert!(request.json().pointer(field).is_some(), "{spec}");
        post.has("delivered", 1).await;
    }
}

#[tokio::test]
async fn an_error_of_the_receiver_is_tried_again() {
    for reply in [
        Reply::Head("500 Internal Server Error"),
        Reply::Head("503 Service Unavailable"),
        Reply::Head("408 Request Timeout"),
        Reply::Head("429 Too Many Requests"),
        Reply::Close,
        Reply::Silence,
    ] {
        let mut receiver = Receiver::new(&[reply.clone(), reply.clone(), OK]).await;
        let post = Post::to(&receiver);
        post.send("a").await;
        let first = receiver.next().await;
        assert_eq!(receiver.next().await.body, first.body, "{reply:?}");
        assert_eq!(receiver.next().await.body, first.body, "{reply:?}");
        post.has("delivered", 1).await;
        assert!(receiver.is_left_alone(Duration::from_millis(300)).await, "{reply:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_but_not_for_ever() {
    let slow_down = Reply::Head("429 Too Many Requests\r\nRetry-After: 86400");
    let mut receiver = Receiver::new(&[slow_down, OK]).await;
    let post = Post::to(&receiver);
    post.send("a").await;
    receiver.next().await;
    let begun = Instant::now();
    post.send("b").await;
    let (one, other) = (receiver.next().await, receiver.next().await);
    assert!(begun.elapsed() >= QUICK.asked_most - QUICK.first, "{:?}", begun.elapsed());
    assert_eq!([key_of(&one), key_of(&other)], ["b", "a"], "that without an attempt is first");
}

#[tokio::test]
async fn a_refusal_is_final() {
    for head in ["400 Bad Request", "403 Forbidden", "404 Not Found", "302 Found\r\nLocation: /"] {
        let mut receiver = Receiver::new(&[Reply::Head(head), OK]).await;
        let post = Post::to(&receiver);
        post.send("a").await;
        receiver.next().await;
        post.has("refused", 1).await;
        assert!(receiver.is_left_alone(Duration::from_millis(300)).await, "{head}");
        post.send("b").await;
        assert_eq!(key_of(&receiver.next().await), "b", "the next one is sent nevertheless");
        post.has("delivered", 1).await;
    }
}

#[tokio::test]
async fn an_endless_body_is_not_read_to_its_end() {
    let mut receiver = Receiver::new(&[Reply::Endless]).await;
    let post = Post::to(&receiver);
    for key in ["a", "b"] {
        post.send(key).await;
        receiver.next().await;
    }
    post.has("delivered", 2).await;
}

#[tokio::test]
async fn what_is_not_delivered_in_time_expires() {
    let mut receiver = Receiver::new(&[Reply::Head("500 Oops")]).await;
    let channel = Channel::parse(&format!("slack={}", receiver.url()), "--notify 1").unwrap();
    let pace = Pace { give_up: Duration::from_millis(200), ..QUICK };
    let shared = Shared { pace, ..shared(None) };
    let (queue, queued) = mpsc::channel(64);
    let task = tokio::spawn(Delivery::new(channel, shared.clone()).run(queued));
    let post = Post { queue, shared, kind: "slack", _task: task };
    post.send("a").await;
    receiver.next().await;
    post.has("expired", 1).await;
}

#[tokio::test]
async fn a_slow_receiver_does_not_delay_another() {
    let mut slow = Receiver::new(&[Reply::Silence]).await;
    let mut quick = Receiver::new(&[OK]).await;
    let (to_slow, to_quick) = (Post::to(&slow), Post::to(&quick));
    to_slow.send("a").await;
    slow.next().await;
    for _ in 0..3 {
        to_quick.send("a").await;
        quick.next().await;
    }
    to_quick.has("delivered", 3).await;
    to_slow.has("delivered", 0).await;
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_counts_it() {
    let mut receiver = Receiver::new(&[Reply::Silence]).await;
    let post = Post::to(&receiver);
    post.send("first").await;
    receiver.next().await;
    for n in 0..MOST + 9 {
        post.send(&n.to_string()).await;
    }
    post.has("dropped", 10).await;
    let page = post.shared.metrics.render().unwrap();
    let line = format!("paramedic_notifications_pending{{channel=\"webhook\"}} {MOST}");
    assert!(page.contains(&line), "{page}");
}

/// A certificate for `localhost`, and TLS that trusts it.
fn authority(name: &str) -> (TlsAcceptor, Tls) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (TlsAcceptor::from(Arc::new(server)), Ok(roots::trusting(roots).unwrap()))
}

#[tokio::test]
async fn https_is_verified() {
    let (server, trusted) = authority("localhost");
    let mut receiver = Receiver::with(&[OK], Some(server)).await;
    let port = receiver.address.port();
    let spec = format!("slack=https://localhost:{port}/");
    let (_, other) = authority("localhost");
    for wrong in [other, Err("no roots".into())] {
        let post = Post::new(&spec, wrong);
        post.send("a").await;
        assert!(receiver.is_left_alone(Duration::from_millis(300)).await);
    }
    let by_another_name = format!("slack=https://127.0.0.1:{port}/");
    let post = Post::new(&by_another_name, trusted.clone());
    post.send("a").await;
    assert!(receiver.is_left_alone(Duration::from_millis(300)).await);
    let channel = Channel::parse(&by_another_name, "here").unwrap();
    let payload = payload::of(&channel, &notification()).unwrap();
    let Answer::Nothing(why) = post::post(&channel.address, payload, &trusted, LONG).await else {
        panic!("it is another name")
    };
    assert!(why.contains("for another name") && !why.contains("127.0.0.1"), "{why}");
    let post = Post::new(&spec, trusted);
    post.send("a").await;
    receiver.next().await;
    post.has("delivered", 1).await;
}

/// A sender whose receiver does not answer, and one notification.
async fn stuck(pace: Pace) -> (crate::Notifier, crate::Sender, Receiver) {
    let receiver = Receiver::new(&[Reply::Silence]).await;
    let channel = Channel::parse(&format!("slack={}", receiver.url()), "here").unwrap();
    let shared = Shared { pace, ..shared(None) };
    let (mut notifier, sender) =
        crate::sender::with(vec![channel], "n", shared, classifier(), Clock::Boot);
    notifier.switch(true);
    (notifier, sender, receiver)
}

#[tokio::test]
async fn what_is_due_when_the_loop_ends_is_sent_once() {
    let (notifier, sender, mut receiver) = stuck(QUICK).await;
    drop(notifier);
    sender.run(std::future::pending()).await;
    receiver.next().await;
}

#[tokio::test]
async fn the_end_of_the_agent_does_not_wait_for_a_receiver() {
    let (notifier, sender, _receiver) = stuck(Pace::default()).await;
    drop(notifier);
    let begun = Instant::now();
    sender.run(std::future::ready(())).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
