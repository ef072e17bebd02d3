//! Calls of gRPC's health check: real servers of HTTP/2, and hand-written frames.
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use hyper::{HeaderMap, Request, Response};

use super::*;

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

fn calling(address: SocketAddr, service: &str) -> App {
    let asks = HealthAsk::Grpc(service.to_owned());
    let probe = HealthProbe { port: address.port(), tls: false, asks };
    App::new(address, false, "patient:5000", Some(&probe)).unwrap()
}

fn searching(address: SocketAddr) -> App {
    App::new(address, false, "patient:5000", None).unwrap()
}

fn code(code: &str) -> HeaderMap {
    [("grpc-status".parse().unwrap(), code.parse().unwrap())].into_iter().collect()
}

fn head(status: u16) -> Response<()> {
    let head = Response::builder().status(status).header("content-type", "application/grpc");
    head.body(()).unwrap()
}

/// How a server answers a call.
#[derive(Clone, Copy)]
enum Answer {
    /// This message, and a code in the trailers.
    Message(&'static [u8], &'static str),
    /// A code in the head.
    Alone(&'static str),
    /// A head, then a code in the trailers.
    Late(&'static str),
    /// An HTTP status without a code.
    Status(u16),
    Reset(Reason),
    Never,
}

fn answer(how: Answer, mut to: SendResponse<Bytes>) {
    match how {
        Answer::Message(message, status) => {
            let mut body = to.send_response(head(200), false).unwrap();
            body.send_data(Bytes::from_static(message), false).unwrap();
            body.send_trailers(code(status)).unwrap();
        }
        Answer::Alone(status) => {
            let mut head = head(200);
            head.headers_mut().extend(code(status));
            to.send_response(head, true).unwrap();
        }
        Answer::Late(status) => {
            to.send_response(head(200), false).unwrap().send_trailers(code(status)).unwrap();
        }
        Answer::Status(status) => {
            let head = Response::builder().status(status).body(()).unwrap();
            to.send_response(head, true).unwrap();
        }
        Answer::Reset(reason) => to.send_reset(reason),
        Answer::Never => {
            tokio::spawn(async move {
                sleep(Duration::from_secs(60)).await;
                drop(to);
            });
        }
    }
}

/// What a server saw: a request with its message, or how a connection of HTTP/2 ended.
#[derive(Debug)]
enum Seen {
    Call(Box<Request<Vec<u8>>>),
    End(Result<(), String>),
}

async fn message(mut body: RecvStream) -> Vec<u8> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        message.extend_from_slice(&data.unwrap());
    }
    message
}

async fn serve(peer: Peer, how: Answer, seen: mpsc::UnboundedSender<Seen>) {
    let Ok(mut connection) = h2::server::handshake(peer.stream).await else { return };
    let end = loop {
        match connection.accept().await {
            Some(Ok((request, to))) => {
                let seen = seen.clone();
                tokio::spawn(async move {
                    let (parts, body) = request.into_parts();
                    let request = Request::from_parts(parts, message(body).await);
                    let _ = seen.send(Seen::Call(Box::new(request)));
                    answer(how, to);
                });
            }
            Some(Err(error)) => break Err(error.to_string()),
            None => break Ok(()),
        }
    };
    let _ = seen.send(Seen::End(end));
}

async fn server(how: Answer) -> (Server, mpsc::UnboundedReceiver<Seen>) {
    let (tell, seen) = mpsc::unbounded_channel();
    (Server::scripted(move |peer| serve(peer, how, tell.clone())).await, seen)
}

/// A server that closes connections of HTTP/1 without a byte.
async fn mute(how: Answer) -> Server {
    let (tell, _) = mpsc::unbounded_channel();
    Server::scripted(move |peer| {
        let tell = tell.clone();
        async move {
            let mut first = [0; 3];
            peer.stream.peek(&mut first).await.unwrap();
            if first == *b"PRI" {
                serve(peer, how, tell).await;
            }
        }
    })
    .await
}

async fn called(how: Answer) -> Poll {
    calling(server(how).await.0.address, "").poll(NOW).await
}

#[tokio::test]
async fn a_call_asks_for_the_service_and_ends_in_order() {
    let (server, mut seen) = server(Answer::Message(SERVING, "0")).await;
    let mut app = calling(server.address, "a.B");
    for polls in 1..=3 {
        let poll = app.poll(NOW).await;
        assert_eq!(poll.result, Ok(Health::default()));
        assert_eq!((poll.responses, poll.in_trailers, poll.hung_up), ([0, 1, 0, 0, 0], 0, 0));
        assert_eq!((&*poll.path, poll.is_served()), ("grpc:a.B", true));
        assert_eq!(server.accepted(), polls);
        let Some(Seen::Call(request)) = seen.recv().await else { panic!("no call") };
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "http://patient:5000/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["content-type"], "application/grpc");
        assert_eq!(request.headers()["te"], "trailers");
        assert!(!request.headers().contains_key("grpc-timeout"));
        assert_eq!(request.body(), b"\0\0\0\0\x05\x0a\x03a.B");
        // Nothing stays open, and nothing was reset.
        let deadline = Duration::from_secs(30);
        let end = timeout(deadline, seen.recv()).await.expect("the connection is still open");
        assert!(matches!(end, Some(Seen::End(Ok(())))), "{end:?}");
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning_and_its_count() {
    const NOT_SERVING: Answer = Answer::Message(&[0, 0, 0, 0, 2, 8, 2], "0");
    const STRANGE: Answer = Answer::Message(&[0, 0, 0, 0, 2, 8, 3], "0");
    const LARGE: Answer = Answer::Message(&[7; BODY_LIMIT + 1], "0");
    for (how, heard, error, responses, late) in [
        (NOT_SERVING, Heard::Ill, "", [0, 1, 0, 0, 0], 0),
        (STRANGE, Heard::Unreadable, "not_found", [0, 1, 0, 0, 0], 0),
        (Answer::Message(b"garbage", "0"), Heard::Unreadable, "not_grpc", [0, 1, 0, 0, 0], 0),
        (LARGE, Heard::Unreadable, "too_large", [0, 1, 0, 0, 0], 0),
        (Answer::Late("0"), Heard::Unreadable, "not_grpc", [0, 1, 0, 0, 0], 0),
        // No health service: it lives, and the kernel counts a fault.
        (Answer::Alone("12"), Heard::Unreadable, "not_found", [0, 0, 0, 0, 1], 0),
        (Answer::Late("12"), Heard::Unreadable, "not_found", [0, 1, 0, 0, 1], 1),
        (Answer::Alone("5"), Heard::Unreadable, "not_found", [0, 1, 0, 0, 0], 0),
        (Answer::Late("5"), Heard::Unreadable, "not_found", [0, 1, 0, 0, 0], 0),
        (Answer::Alone("16"), Heard::Unreadable, "refused", [0, 1, 0, 0, 0], 0),
        (Answer::Alone("13"), Heard::Ill, "", [0, 0, 0, 0, 1], 0),
        (Answer::Message(SERVING, "13"), Heard::Ill, "", [0, 1, 0, 0, 1], 1),
        (Answer::Late("14"), Heard::NotNow, "", [0, 1, 0, 0, 1], 1),
        (Answer::Alone("4"), Heard::Blames, "", [0, 0, 0, 0, 1], 0),
        (Answer::Status(200), Heard::Unreadable, "not_grpc", [0, 1, 0, 0, 0], 0),
        (Answer::Status(404), Heard::Unreadable, "not_found", [0, 0, 0, 1, 0], 0),
        (Answer::Status(503), Heard::NotNow, "", [0, 0, 0, 0, 1], 0),
        (Answer::Reset(Reason::REFUSED_STREAM), Heard::NotNow, "", [0; 5], 0),
        (Answer::Reset(Reason::ENHANCE_YOUR_CALM), Heard::Unreadable, "too_often", [0; 5], 0),
        (Answer::Reset(Reason::INTERNAL_ERROR), Heard::Silent, "reset", [0; 5], 0),
    ] {
        let poll = called(how).await;
        let name = poll.result.as_ref().err().map_or("", |error| error.name());
        assert_eq!((poll.heard(), name), (heard, error), "{poll:?}");
        assert_eq!((poll.responses, poll.in_trailers), (responses, late), "{poll:?}");
        let unavailable = u32::from(matches!(how, Answer::Late("14") | Answer::Alone("4")))
            + u32::from(matches!(how, Answer::Status(503)));
        assert_eq!(poll.unavailable, unavailable, "{poll:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_the_call_is_silent() {
    let (server, _) = server(Answer::Never).await;
    let mut app = calling(server.address, "");
    let poll = slow_poll(&mut app).await;
    fails(&poll, Transport::Timeout, [0; 5]);
    assert_eq!((poll.heard(), poll.hung_up), (Heard::Silent, 0));
    let (errors, responses, hung_up) = until_given_up(&mut app).await;
    assert!(!errors.is_empty());
    assert_eq!((responses, hung_up, server.accepted()), ([0; 5], 1, 1), "one connection");
}

#[tokio::test]
async fn a_server_of_http2_alone_is_recognised_once() {
    let (server, _seen) = server(Answer::Message(SERVING, "0")).await;
    let mut app = searching(server.address);
    for accepted in 2..=4 {
        let poll = app.poll(NOW).await;
        assert_eq!(poll.result, Ok(Health::default()));
        assert_eq!((&*poll.path, poll.responses), ("grpc", [0, 1, 0, 0, 0]));
        assert_eq!(server.accepted(), accepted);
    }
    // Another instance has another client, which knows nothing yet.
    assert_eq!(searching(server.address).poll(NOW).await.heard(), Heard::Well);
    assert_eq!(server.accepted(), 6);
}

#[tokio::test]
async fn a_server_that_closes_without_a_byte_is_tried_with_http2() {
    let server = mute(Answer::Alone("12")).await;
    let mut app = searching(server.address);
    for accepted in 2..=4 {
        let poll = app.poll(NOW).await;
        assert_eq!(poll.result.as_ref().unwrap_err().name(), "not_found");
        assert_eq!((&*poll.path, poll.is_served()), ("grpc", true));
        assert_eq!(server.accepted(), accepted);
    }
}

#[tokio::test]
async fn a_server_of_neither_protocol_is_tried_once_a_minute() {
    let server = Server::scripted(|_| async {}).await;
    let mut app = searching(server.address);
    for accepted in 2..=4 {
        let poll = app.poll(NOW).await;
        let name = poll.result.as_ref().unwrap_err().name();
        assert!(matches!(name, "closed" | "reset"), "{name}");
        assert_eq!((&*poll.path, server.accepted()), ("/health", accepted));
    }
}

/// One that spoke HTTP/1 and then hangs up is never called.
#[tokio::test]
async fn a_server_of_http1_is_never_tried_with_http2() {
    let mut server = Server::scripted(|mut peer| async move {
        peer.request().await;
        if peer.number == 0 {
            peer.write(GOOD).await;
        }
    })
    .await;
    let mut app = searching(server.address);
    healthy(&app.poll(NOW).await);
    for accepted in 2..=3 {
        fails(&app.poll(NOW).await, Transport::Closed, [0; 5]);
        assert_eq!(server.accepted(), accepted);
    }
    for _ in 0..3 {
        assert!(server.request().await.starts_with("GET /health HTTP/1.1"));
    }
}

#[tokio::test]
async fn the_wrong_protocol_is_named() {
    let (http2, _seen) = server(Answer::Message(SERVING, "0")).await;
    let poll = probing(http2.address, false, "/health").poll(NOW).await;
    fails(&poll, Transport::Http2, [0; 5]);
    assert_eq!((poll.heard(), http2.accepted()), (Heard::Unreadable, 1));
    let http1 = Server::answering("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let poll = calling(http1.address, "").poll(NOW).await;
    assert_eq!(poll.heard(), Heard::Unreadable, "{poll:?}");
    fails(&poll, Transport::NotHttp2, [0; 5]);
    let nowhere = calling(free_address().await, "").poll(NOW).await;
    fails(&nowhere, Transport::ConnectRefused, [0; 5]);
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// A server that sends `begin`, then `again` for ever, or closes.
async fn sending(begin: Vec<u8>, again: Vec<u8>) -> Server {
    Server::scripted(move |mut peer| {
        let (begin, again) = (begin.clone(), again.clone());
        async move {
            let mut preface = [0; 24];
            let _ = peer.stream.read_exact(&mut preface).await;
            let _ = peer.write(begin).await;
            while !again.is_empty() && peer.write(&again).await {}
        }
    })
    .await
}

/// What a target sends costs a bounded time and a bounded store, and the connection ends.
#[tokio::test]
async fn hostile_frames_are_bounded() {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let open = [settings.clone(), frame(HEADERS, 0, 1, &[0x88])].concat();
    let field = [&[0, 0x7f, 0xff, 0x3e][..], &[b'x'; 16_000]].concat();
    let ok = [settings.clone(), frame(HEADERS, 4, 1, &[0x88])].concat();
    for (what, begin, again) in [
        ("garbage", vec![0xff; 100], vec![]),
        ("text", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), vec![]),
        ("garbage after settings", [settings.clone(), vec![0xee; 100]].concat(), vec![]),
        ("endless garbage", settings.clone(), vec![0xee; 4096]),
        ("endless headers", open.clone(), frame(CONTINUATION, 0, 1, &field)),
        ("endless empty headers", open.clone(), frame(CONTINUATION, 0, 1, &[]).repeat(100)),
        ("endless settings", settings.clone(), settings.repeat(100)),
        ("endless pings", settings.clone(), frame(PING, 0, 0, &[0; 8]).repeat(100)),
        ("endless data", ok.clone(), frame(0, 0, 1, &[0; 16_384])),
        ("endless empty data", ok.clone(), frame(0, 0, 1, &[]).repeat(100)),
        ("endless heads", ok.clone(), frame(HEADERS, 4, 1, &[0x88]).repeat(100)),
        ("a frame beyond the maximum", settings.clone(), frame(0, 0, 1, &[0; 70_000])),
        ("an unknown frame", settings.clone(), frame(0x77, 0, 1, &[0; 16_384])),
        ("a push", settings.clone(), frame(5, 4, 1, &[0, 0, 0, 2, 0x82])),
        (
            "a broken header block",
            [settings.clone(), frame(HEADERS, 4, 1, &[0xff; 64])].concat(),
            vec![],
        ),
        ("closed at once", vec![], vec![]),
        ("closed after settings", settings.clone(), vec![]),
        ("closed in a frame", settings[..5].to_vec(), vec![]),
        ("closed in the headers", open, vec![]),
        ("closed after the head", ok, vec![]),
    ] {
        let server = sending(begin, again).await;
        let mut app = calling(server.address, "");
        let poll = timeout(Duration::from_secs(20), app.poll(NOW)).await.expect(what);
        let error = poll.result.as_ref().expect_err(what).name();
        let is_known =
            matches!(error, "not_http2" | "too_large" | "closed" | "reset" | "timeout" | "agent");
        assert!(is_known, "{what}: {error}");
        assert!(server.accepted() == 1 && poll.latency < WAIT_LIMIT, "{what}: {poll:?}");
    }
}
