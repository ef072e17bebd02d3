//! Polls against servers that misbehave, on real sockets.
use std::sync::Arc;

use tokio::{
    sync::{Notify, mpsc},
    time::{Duration, sleep},
};

use super::{
    hostile::{Peer, Server, free_address},
    *,
};

const NOW: Moment = Moment::from_nanos(7);
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"error_count\":4}";

fn app(address: SocketAddr) -> App {
    App::new(address, "patient:5000", "/health", "/heal").unwrap()
}

async fn poll(server: &Server) -> Poll {
    app(server.address).poll(NOW).await
}

/// A poll that takes too long. One in which this machine stalled says nothing of the server, and is
/// repeated.
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
    assert!(request.contains("accept: application/json\r\n"), "{request}");
    assert!(request.contains(concat!("user-agent: paramedic/", env!("CARGO_PKG_VERSION"))));
}

/// Answers every request on every connection.
async fn keeps_alive(mut peer: Peer) {
    while peer.request().await.is_some() {
        peer.write(GOOD).await;
    }
}

#[tokio::test]
async fn one_connection_serves_all_polls() {
    let server = Server::scripted(keeps_alive).await;
    let mut app = app(server.address);
    for _ in 0..5 {
        healthy(&app.poll(NOW).await);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_too() {
    let server = Server::scripted(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found").await;
        }
    })
    .await;
    let mut app = app(server.address);
    for _ in 0..3 {
        fails(&app.poll(NOW).await, HealthError::NotFound(404), [0, 0, 0, 1, 0]);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_server_may_end_an_idle_connection() {
    let server = Server::answering(GOOD).await;
    let mut app = app(server.address);
    for polls in 1..=4 {
        healthy(&app.poll(NOW).await);
        assert_eq!(server.accepted(), polls);
    }
}

/// The first connection dies only when the second request is already on its way: by an orderly
/// end or by a reset.
#[tokio::test]
async fn a_kept_connection_that_dies_on_use_is_replaced() {
    for reset in [false, true] {
        let server = Server::scripted(move |mut peer| async move {
            if peer.number > 0 {
                return keeps_alive(peer).await;
            }
            peer.request().await;
            peer.write(GOOD).await;
            peer.request().await;
            if reset {
                peer.stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let mut app = app(server.address);
        healthy(&app.poll(NOW).await);
        healthy(&app.poll(NOW).await);
        assert_eq!(server.accepted(), 2);
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

/// A poll that its caller drops leaves nothing behind: neither an open connection nor an answer
/// that a later poll could take for its own.
#[tokio::test]
async fn a_dropped_poll_takes_its_connection_along() {
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
            peer.write(GOOD).await;
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"error_count\":").await;
            announce.notify_one();
            peer.hung_up().await;
            gone.send(peer.number).unwrap();
        }
    })
    .await;
    let mut app = app(server.address);
    healthy(&app.poll(NOW).await);
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
async fn nobody_at_home() {
    let poll = app(free_address().await).poll(NOW).await;
    fails(&poll, Transport::ConnectRefused, [0; 5]);
}

#[tokio::test]
async fn statuses_have_names() {
    for (code, name, failure) in [
        (101, "status_not_ok", true),
        (302, "redirect", true),
        (304, "redirect", true),
        (401, "status_not_ok", true),
        (404, "not_found", false),
        (405, "not_found", false),
        (500, "status_not_ok", true),
        (501, "not_found", false),
        (503, "status_not_ok", true),
        (999, "status_not_ok", true),
    ] {
        let location = "location: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\n{}";
        let poll = answered(format!("HTTP/1.1 {code} X\r\n{location}")).await;
        let error = poll.result.unwrap_err();
        assert_eq!((error.name(), error.is_failure()), (name, failure), "{code}");
        assert!(error.to_string().contains(&code.to_string()), "{error}");
        let mut responses = Responses::default();
        if code < 600 {
            responses[code / 100 - 1] = 1;
        }
        assert_eq!(poll.responses, responses, "{code}");
    }
}

#[tokio::test]
async fn a_slow_head_is_no_answer() {
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

/// What the agent gives up on, it also closes: a target cannot make it collect connections.
#[tokio::test]
async fn giving_up_is_hanging_up() {
    for (head, drip, responses) in [
        ("", "", [0; 5]),
        ("HTTP/1.1 200 OK\r\ncontent-len", "", [0; 5]),
        ("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{", "", [0, 1, 0, 0, 0]),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "0", [0, 1, 0, 0, 0]),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", [0; 5]),
    ] {
        let (gone, mut closed) = mpsc::unbounded_channel();
        let server = Server::scripted(move |mut peer| {
            let gone = gone.clone();
            async move {
                peer.request().await;
                peer.write(head).await;
                while !drip.is_empty() && peer.write(drip).await {
                    tokio::task::yield_now().await;
                }
                peer.hung_up().await;
                gone.send(()).unwrap();
            }
        })
        .await;
        let mut app = app(server.address);
        let poll = slow_poll(&mut app).await;
        fails(&poll, Transport::Timeout, responses);
        let deadline = Duration::from_secs(30);
        timeout(deadline, closed.recv()).await.expect("the connection is still open");
        drop(app);
    }
    assert!(Transport::Timeout.hung_up());
}

#[tokio::test]
async fn sizes_are_bounded() {
    let full = format!("{{\"error_count\":4,\"x\":\"{}\"}}", "x".repeat(BODY_LIMIT - 24));
    assert_eq!(full.len(), BODY_LIMIT);
    healthy(&answered(body(BODY_LIMIT, &full)).await);

    let announced = answered(body(usize::MAX / 2, "{")).await;
    fails(&announced, Transport::TooLarge, [0, 1, 0, 0, 0]);
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
        // hyper has a limit of its own for the extensions of chunks.
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
async fn what_is_not_http_is_named() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{28}",
        "220 mail.example ESMTP\r\n",
        "<html>hello</html>",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    ] {
        fails(&answered(garbage).await, Transport::NotHttp, [0; 5]);
    }
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffffff\r\n{}";
    fails(&answered(chunks).await, Transport::NotHttp, [0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn a_body_cut_short_is_no_reading() {
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
async fn bodies_that_are_no_report() {
    let html = answered(body(15, "<html>up</html>")).await;
    fails(&html, NotJson::Markup, [0, 1, 0, 0, 0]);
    let empty = answered("HTTP/1.1 204 No Content\r\n\r\n").await;
    fails(&empty, NotJson::Empty, [0, 1, 0, 0, 0]);
    let negative = answered(body(18, "{\"error_count\":-1}")).await;
    let fault = HealthError::BadField { field: Field::ErrorCount, fault: Fault::Negative };
    fails(&negative, fault, [0, 1, 0, 0, 0]);
    assert_eq!(fault.to_string(), "the field `error_count` is negative");
    assert_eq!(answered(body(2, "{}")).await.result, Ok(Health::default()));
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    healthy(&answered(format!("{interim}{interim}{GOOD}")).await);
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_not_taken_for_the_next() {
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
fn what_an_owner_writes_is_checked() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for host in ["", "a b", "a\r\nx: y", "a\0"] {
        let result = Endpoint::new(address, host, "/health");
        assert_eq!(result, Err(InvalidEndpoint::Host), "{host:?}");
    }
    for path in ["", "health", "http://elsewhere/", "*", "/a b", "/a\r\nx: y", "/\0"] {
        let result = Endpoint::new(address, "h", path);
        assert_eq!(result, Err(InvalidEndpoint::Path), "{path:?}");
    }
    assert!(Endpoint::new(address, "[::1]:5000", "/a/b?c=d&e=%20").is_ok());
}

#[test]
fn an_agent_that_did_not_run_blames_nobody() {
    assert_eq!(overdue(BUDGET), Transport::Timeout);
    let late = HealthError::from(overdue(BUDGET * 2));
    assert_eq!(late.name(), "agent");
    assert!(!late.is_failure());
}
