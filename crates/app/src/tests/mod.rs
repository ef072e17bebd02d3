//! Polls against servers that misbehave, on real sockets.
use std::{net::SocketAddr, sync::Arc};

use paramedic_core::{
    boot_time::BootTime,
    health::*,
    target::{HealthAsk, HealthProbe},
};
use tokio::{
    io::AsyncReadExt,
    sync::{Notify, mpsc},
    time::{Duration, sleep, timeout},
};

use crate::{
    App, Endpoint, InvalidEndpoint, KNOWN_PATHS,
    app::overdue,
    hostile::{Peer, Server, free_address},
};

mod grpc;
mod search;
mod tls;
mod waiting;

const NOW: BootTime = BootTime::from_nanos(7);
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"error_count\":4}";

fn app(address: SocketAddr) -> App {
    probing(address, false, "/health")
}

fn probing(address: SocketAddr, tls: bool, path: &str) -> App {
    let asks = HealthAsk::Path(path.to_owned());
    let probe = HealthProbe { port: address.port(), tls, asks };
    App::new(address, false, "patient:5000", Some(&probe)).unwrap()
}

async fn poll(server: &Server) -> Poll {
    app(server.address).poll(NOW).await
}

/// A poll that takes too long. If this machine stalled, the poll says nothing about the server and
/// is repeated.
async fn slow_poll(app: &mut App) -> Poll {
    let mut poll = app.poll(NOW).await;
    for _ in 0..3 {
        if matches!(poll.result, Err(HealthError::Transport(Transport::Agent(_)))) {
            poll = app.poll(NOW).await;
        }
    }
    poll
}

async fn answered(answer: impl Into<Vec<u8>>) -> Poll {
    poll(&Server::answering(answer).await).await
}

fn body(length: usize, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[track_caller]
fn healthy(poll: &Poll) {
    let health = Health { error_count: Some(4), ..Health::default() };
    assert_eq!(poll.result, Ok(health));
    assert_eq!(poll.responses, [0, 1, 0, 0, 0]);
}

#[track_caller]
fn fails(poll: &Poll, error: impl Into<HealthError>, responses: Responses) {
    assert_eq!(poll.result, Err(error.into()));
    assert_eq!(poll.responses, responses);
}

#[tokio::test]
async fn a_poll_is_a_plain_request_with_a_reading() {
    let mut server = Server::answering(GOOD).await;
    let poll = poll(&server).await;
    healthy(&poll);
    assert_eq!(poll.at, NOW);
    assert!(poll.latency > Duration::ZERO && poll.latency < BUDGET);
    let request = server.request().await;
    assert!(request.starts_with("GET /health HTTP/1.1\r\nhost: patient:5000\r\n"), "{request}");
    assert!(request.contains("\r\naccept: application/json, "), "{request}");
    assert!(request.contains("\r\naccept-encoding: identity\r\n"), "{request}");
    assert!(request.contains("\r\nconnection: close\r\n"), "{request}");
    assert_eq!(&*poll.path, "/health");
    assert!(request.contains(concat!("user-agent: paramedic/", env!("CARGO_PKG_VERSION"))));
}

/// Answers every request on every connection, and keeps all of them open.
async fn keeps_alive(mut peer: Peer) {
    while peer.request().await.is_some() {
        peer.write(GOOD).await;
    }
}

/// A server that would keep it open sees the end at once: no reset, and nothing stays open.
#[tokio::test]
async fn every_response_closes_its_connection_without_a_reset() {
    for answer in [
        GOOD,
        "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found",
        "HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\n<h1>oops</h1>",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ] {
        let (ended, mut end) = mpsc::unbounded_channel();
        let server = Server::scripted(move |mut peer| {
            let ended = ended.clone();
            async move {
                peer.request().await;
                peer.write(answer).await;
                let left = peer.stream.read(&mut [0; 16]).await;
                ended.send(left.map_err(|error| error.kind())).unwrap();
                // The server has not closed it before the poll is over.
                sleep(Duration::from_secs(30)).await;
            }
        })
        .await;
        let mut app = app(server.address);
        for polls in 1..=3 {
            let poll = app.poll(NOW).await;
            assert!(poll.result.as_ref().is_ok_and(|_| true) || answer.contains("404"), "{poll:?}");
            assert_eq!(poll.hung_up, 0, "{answer}");
            assert_eq!(server.accepted(), polls);
            assert_eq!(end.try_recv(), Ok(Ok(0)), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_a_failure_and_not_retried() {
    let server = Server::answering("").await;
    fails(&poll(&server).await, Transport::Closed, [0; 5]);
    assert_eq!(server.accepted(), 1);

    let server = Server::scripted(|mut peer| async move {
        peer.request().await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    fails(&poll(&server).await, Transport::Reset, [0; 5]);
    assert_eq!(server.accepted(), 1);
}

/// A poll that its caller drops leaves nothing behind: neither an open connection nor a response
/// that a later poll could take for its own.
#[tokio::test]
async fn a_dropped_poll_closes_its_connection() {
    let (gone, mut closed) = mpsc::unbounded_channel();
    let asked = Arc::new(Notify::new());
    let announce = Arc::clone(&asked);
    let server = Server::scripted(move |mut peer| {
        let (gone, announce) = (gone.clone(), Arc::clone(&announce));
        async move {
            if peer.number > 0 {
                return keeps_alive(peer).await;
            }
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"error_count\":").await;
            announce.notify_one();
            peer.hung_up().await;
            gone.send(peer.number).unwrap();
        }
    })
    .await;
    let mut app = app(server.address);
    tokio::select! {
        poll = app.poll(NOW) => panic!("the answer was not complete: {poll:?}"),
        () = asked.notified() => {}
    }
    let deadline = Duration::from_secs(30);
    let closed = timeout(deadline, closed.recv()).await;
    assert_eq!(closed.expect("the connection is still open"), Some(0));
    healthy(&app.poll(NOW).await);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_refused_connect_is_named() {
    let poll = app(free_address().await).poll(NOW).await;
    fails(&poll, Transport::ConnectRefused, [0; 5]);
}

#[tokio::test]
async fn statuses_have_names() {
    for (code, heard, name) in [
        (101, Heard::Unreadable, "status_not_ok"),
        (302, Heard::Unreadable, "redirect"),
        (304, Heard::Unreadable, "redirect"),
        (401, Heard::Unreadable, "refused"),
        (403, Heard::Unreadable, "refused"),
        (404, Heard::Unreadable, "not_found"),
        (405, Heard::Unreadable, "not_found"),
        (407, Heard::Unreadable, "refused"),
        (410, Heard::Unreadable, "not_found"),
        (418, Heard::Unreadable, "status_not_ok"),
        (429, Heard::Unreadable, "too_often"),
        (500, Heard::Ill, ""),
        (501, Heard::Unreadable, "not_found"),
        (502, Heard::Blames, ""),
        (503, Heard::NotNow, ""),
        (504, Heard::Blames, ""),
        (999, Heard::Unreadable, "status_not_ok"),
    ] {
        let location = "location: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\n{}";
        let poll = answered(format!("HTTP/1.1 {code} X\r\n{location}")).await;
        assert_eq!(poll.heard(), heard, "{code}");
        if let Err(error) = &poll.result {
            assert_eq!(error.name(), name, "{code}");
            assert!(error.to_string().contains(&code.to_string()), "{error}");
            assert!(!error.is_silence(), "{code}");
        }
        let mut responses = Responses::default();
        if code < 600 {
            responses[code / 100 - 1] = 1;
        }
        assert_eq!(poll.responses, responses, "{code}");
        assert_eq!(poll.unavailable, u32::from((502..=504).contains(&code)), "{code}");
        assert_eq!(poll.hung_up, 0, "{code}");
    }
}

#[tokio::test]
async fn a_slow_head_times_out() {
    let server = Server::scripted(|mut peer| async move {
        peer.request().await;
        for byte in GOOD.as_bytes() {
            if !peer.write([*byte]).await {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let poll = slow_poll(&mut app(server.address)).await;
    fails(&poll, Transport::Timeout, [0; 5]);
    assert!(poll.latency >= BUDGET, "{:?}", poll.latency);
    assert_eq!((poll.heard(), poll.hung_up), (Heard::Silent, 0));
}

#[tokio::test]
async fn a_slow_body_is_a_counted_response_without_a_reading() {
    let server = Server::scripted(|mut peer| async move {
        peer.request().await;
        let (head, body) = GOOD.split_at(GOOD.len() - 17);
        peer.write(head).await;
        for byte in body.as_bytes() {
            if !peer.write([*byte]).await {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let poll = slow_poll(&mut app(server.address)).await;
    fails(&poll, Transport::Timeout, [0, 1, 0, 0, 0]);
}

/// Polls until the request is given up; returns the results, and all responses to it.
async fn until_given_up(app: &mut App) -> (Vec<HealthError>, Responses, u32) {
    let (mut errors, mut responses, mut hung_up) = (Vec::new(), Responses::default(), 0);
    while hung_up == 0 {
        let poll = app.poll(NOW).await;
        errors.extend(poll.result.err());
        for (all, drawn) in responses.iter_mut().zip(poll.responses) {
            *all += drawn;
        }
        hung_up += poll.hung_up;
    }
    (errors, responses, hung_up)
}

async fn gives_up(head: &'static str, drip: &'static str, responses: Responses) {
    let (gone, mut closed) = mpsc::unbounded_channel();
    let server = Server::scripted(move |mut peer| {
        let gone = gone.clone();
        async move {
            peer.request().await;
            peer.write(head).await;
            while !drip.is_empty() && peer.write(drip).await {
                sleep(Duration::from_millis(1)).await;
            }
            peer.hung_up().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let mut app = app(server.address);
    let (errors, drawn, hung_up) = until_given_up(&mut app).await;
    assert!(errors.len() >= 3, "{errors:?}");
    let is_late =
        |error: &HealthError| matches!(error, HealthError::Transport(Transport::Agent(_)));
    assert!(errors.iter().all(|error| is_late(error) || *error == Transport::Timeout.into()));
    assert_eq!((drawn, hung_up, server.accepted()), (responses, 1, 1), "{head}{drip}");
    let deadline = Duration::from_secs(30);
    timeout(deadline, closed.recv()).await.expect("the connection is still open");
}

/// The agent closes what it gives up on: a target cannot make it collect connections.
#[tokio::test]
async fn giving_up_closes_the_connection() {
    tokio::join!(
        gives_up("", "", [0; 5]),
        gives_up("HTTP/1.1 200 OK\r\ncontent-len", "", [0; 5]),
        gives_up("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{", "", [0, 1, 0, 0, 0]),
        gives_up("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "0", [0, 1, 0, 0, 0]),
        gives_up("", "HTTP/1.1 100 Continue\r\n\r\n", [0; 5]),
    );
}

#[tokio::test]
async fn sizes_are_bounded() {
    let full = format!("{{\"error_count\":4,\"x\":\"{}\"}}", "x".repeat(BODY_LIMIT - 24));
    assert_eq!(full.len(), BODY_LIMIT);
    healthy(&answered(body(BODY_LIMIT, &full)).await);

    let announced = answered(body(usize::MAX / 2, "{")).await;
    fails(&announced, Transport::TooLarge, [0, 1, 0, 0, 0]);
    assert_eq!((announced.heard(), announced.hung_up), (Heard::Unreadable, 1));
    let until_close = format!("HTTP/1.1 200 OK\r\n\r\n {full}");
    fails(&answered(until_close).await, Transport::TooLarge, [0, 1, 0, 0, 0]);

    for endless in ["1000\r\n", "1;extension\r\n"] {
        let length = usize::from_str_radix(endless.split([';', '\r']).next().unwrap(), 16).unwrap();
        let chunk = format!("{endless}{}\r\n", "x".repeat(length)).repeat(64);
        let server = Server::scripted(move |mut peer| {
            let chunk = chunk.clone();
            async move {
                peer.request().await;
                peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while peer.write(&chunk).await {}
            }
        })
        .await;
        let poll = poll(&server).await;
        assert_eq!(poll.responses, [0, 1, 0, 0, 0]);
        // hyper has its own limit for chunk extensions.
        let error = poll.result.unwrap_err().name();
        assert!(matches!(error, "too_large" | "not_http"), "{endless}: {error}");
    }
}

#[tokio::test]
async fn a_flood_of_headers_is_cut_off() {
    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(100_000));
    for flood in [many, long] {
        let poll = answered(format!("HTTP/1.1 200 OK\r\n{flood}\r\n{{}}")).await;
        fails(&poll, Transport::TooLarge, [0; 5]);
    }
    let server = Server::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\n").await;
        while peer.write("x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").await {}
    })
    .await;
    fails(&poll(&server).await, Transport::TooLarge, [0; 5]);
}

#[tokio::test]
async fn a_response_that_is_not_http_is_named() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{28}",
        "220 mail.example ESMTP\r\n",
        "<html>hello</html>",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    ] {
        let poll = answered(garbage).await;
        fails(&poll, Transport::NotHttp, [0; 5]);
        assert_eq!((poll.heard(), poll.hung_up), (Heard::Unreadable, 1));
    }
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffffff\r\n{}";
    fails(&answered(chunks).await, Transport::NotHttp, [0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn a_truncated_body_has_no_reading() {
    fails(&answered(body(17, "{}")).await, Transport::Closed, [0, 1, 0, 0, 0]);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n";
    fails(&answered(chunked).await, Transport::Closed, [0, 1, 0, 0, 0]);
    let unmarked = "HTTP/1.0 200 OK\r\n\r\n{\"uptime\":";
    fails(&answered(unmarked).await, NotJson::Truncated, [0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn a_reset_in_the_body_is_named() {
    let server = Server::scripted(|mut peer| async move {
        peer.request().await;
        peer.write(body(17, "{\"error")).await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    fails(&poll(&server).await, Transport::Reset, [0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn bodies_that_are_not_reports_are_unreadable() {
    let html = answered(body(15, "<html>up</html>")).await;
    fails(&html, NotJson::Markup, [0, 1, 0, 0, 0]);
    assert_eq!(html.heard(), Heard::Unreadable);
    let empty = answered("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!((empty.heard(), empty.result), (Heard::Well, Ok(Health::default())));
    let negative = answered(body(18, "{\"error_count\":-1}")).await.result.unwrap();
    assert_eq!(negative.left_out, Some((Field::ErrorCount, Fault::Negative)));
    assert_eq!(negative.error_count, None);
    assert_eq!(answered(body(2, "{}")).await.result, Ok(Health::default()));
}

#[tokio::test]
async fn a_body_is_read_at_every_status() {
    let down = r#"{"status":"DOWN","components":{"db":{"status":"DOWN"}}}"#;
    let head = format!("content-type: application/json\r\ncontent-length: {}", down.len());
    let poll = answered(format!("HTTP/1.1 503 Down\r\n{head}\r\n\r\n{down}")).await;
    assert_eq!((poll.heard(), poll.responses), (Heard::Blames, [0, 0, 0, 0, 1]));
    let cut = answered(format!("HTTP/1.1 503 Down\r\n{head}\r\n\r\n{{")).await;
    fails(&cut, Transport::Closed, [0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn interim_responses_are_skipped() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    healthy(&answered(format!("{interim}{interim}{GOOD}")).await);
}

#[tokio::test]
async fn an_unrequested_response_is_not_taken_for_the_next() {
    let server = Server::scripted(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(format!("{GOOD}{}", body(18, "{\"error_count\":99}"))).await;
        }
    })
    .await;
    let mut app = app(server.address);
    for polls in 1..=3 {
        healthy(&app.poll(NOW).await);
        assert_eq!(server.accepted(), polls);
    }
}

#[test]
fn invalid_hosts_and_paths_are_refused() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for host in ["", "a b", "a\r\nx: y", "a\0"] {
        let result = Endpoint::new(address, true, host, "/health");
        assert_eq!(result, Err(InvalidEndpoint::Host), "{host:?}");
    }
    for path in ["", "health", "http://elsewhere/", "*", "/a b", "/a\r\nx: y", "/\0"] {
        let result = Endpoint::new(address, false, "h", path);
        assert_eq!(result, Err(InvalidEndpoint::Path), "{path:?}");
    }
    assert!(Endpoint::new(address, false, "[::1]:5000", "/a/b?c=d&e=%20").is_ok());
}

#[test]
fn a_late_timeout_is_not_the_targets_fault() {
    assert_eq!(overdue(BUDGET, BUDGET), Transport::Timeout);
    let late = HealthError::from(overdue(BUDGET * 2, BUDGET));
    assert_eq!(late.name(), "agent");
    assert_eq!(Poll::for_tests(NOW, Err(late)).heard(), Heard::NotAsked);
}
