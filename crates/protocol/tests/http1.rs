//! Conversations in HTTP/1.x against a simple oracle: the conversation itself.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
use paramedic_protocol::{Event, Verdict, Way, connection::protocol};

mod support;

use support::Seen;

/// Plays both sides of a connection: what they write, in whatever segments.
struct Talk {
    seen: Seen,
    now: u64,
}

impl Talk {
    fn new() -> Self {
        // Near the ends of their ranges.
        let seen = Seen { ends: [u32::MAX - 70, 0x7fff_fff0], ..Seen::default() };
        Self { seen, now: 1_000 }
    }

    fn send(&mut self, way: Way, payload: &[u8]) {
        self.now += 1_000;
        let seq = self.seen.ends[usize::from(way == Way::Responses)];
        self.seen.feed(way, seq, payload, self.now);
    }

    fn client(&mut self, payload: impl AsRef<[u8]>) -> &mut Self {
        self.send(Way::Requests, payload.as_ref());
        self
    }

    fn server(&mut self, payload: impl AsRef<[u8]>) -> &mut Self {
        self.send(Way::Responses, payload.as_ref());
        self
    }

    /// In segments of at most `size`.
    fn in_pieces(&mut self, way: Way, payload: &[u8], size: usize) {
        for piece in payload.chunks(size) {
            self.send(way, piece);
        }
    }

    fn classes(&self) -> [u32; 5] {
        let mut classes = [0; 5];
        for (way, event) in &self.seen.events {
            if let Event::Response(response) = event {
                assert_eq!(*way, Way::Responses);
                match response.verdict() {
                    Verdict::Unavailable => classes[4] += 1,
                    Verdict::Denied => classes[3] += 1,
                    class if class <= Verdict::ServerError => classes[class as usize] += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        classes
    }

    fn timed(&self) -> usize {
        let is_timed =
            |(_, event): &&(Way, Event)| matches!(event, Event::Response(r) if r.waited > 0);
        self.seen.events.iter().filter(is_timed).count()
    }

    fn requests(&self) -> u32 {
        self.seen.requests().0
    }

    /// How long each response took.
    fn waits(&self) -> Vec<u64> {
        let waited = |(_, event): &(Way, Event)| match event {
            Event::Response(response) => Some(response.waited),
            _ => None,
        };
        self.seen.events.iter().filter_map(waited).collect()
    }

    /// Since when the oldest request waits.
    fn oldest(&self) -> Option<u64> {
        self.seen.connection.as_ref().unwrap().waiting().min()
    }

    fn waiting(&self) -> u32 {
        self.seen.connection.as_ref().unwrap().waiting().count() as u32
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_body_that_begins_like_a_message_is_a_body() {
    let mut talk = Talk::new();
    talk.client(GET).server("HTTP/1.1 200 OK\r\nContent-Length: 78\r\n\r\n");
    talk.server("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    talk.server("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    talk.client("POST / HTTP/1.1\r\nContent-Length: 28\r\n\r\n").client(GET).client("x");
    talk.server(EMPTY).client(GET).server("HTTP/1.1 503 Busy\r\n\r\n");
    assert_eq!((talk.classes(), talk.requests()), ([0, 2, 0, 0, 1], 3));
    assert_eq!((talk.timed(), talk.waiting()), (3, 0));
    assert_eq!(talk.seen.not_understood(), 0);
}

#[test]
fn interim_responses_are_no_answers() {
    let mut talk = Talk::new();
    talk.client("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    talk.server("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!((talk.timed(), talk.waiting()), (0, 1));
    talk.client("body").server(EMPTY);
    talk.client(GET);
    talk.server("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n");
    talk.server("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n");
    assert_eq!((talk.classes(), talk.timed()), ([4, 1, 0, 1, 0], 2));
}

/// As Tomcat and hypercorn write it.
#[test]
fn a_status_line_may_have_no_reason() {
    for end in [" \r\n", "\r\n", "\n"] {
        let mut talk = Talk::new();
        talk.client("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
        talk.server(format!("HTTP/1.1 100{end}\r\n")).client("body");
        let length = "Content-Length: 3\r\n\r\nok\n";
        talk.server(format!("HTTP/1.1 200{end}{length}"));
        talk.client([GET, GET].concat());
        talk.server(format!("HTTP/1.1 404{end}{length}HTTP/1.1 500{end}{length}"));
        talk.client(GET).server(EMPTY);
        assert_eq!((talk.classes(), talk.requests()), ([1, 2, 0, 1, 1], 4), "{end:?}");
        assert_eq!((talk.seen.not_understood(), talk.waiting()), (0, 0), "{end:?}");
    }
}

#[test]
fn no_http_follows_an_upgrade_or_a_tunnel() {
    let mut talk = Talk::new();
    talk.client("GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    talk.server("HTTP/1.1 101 Switching Protocols\r\n\r\n").server(EMPTY).client(GET).server(EMPTY);
    assert_eq!((talk.classes(), talk.requests(), talk.waiting()), ([1, 0, 0, 0, 0], 1, 0));

    let mut talk = Talk::new();
    talk.client("CONNECT a:443 HTTP/1.1\r\n\r\n").server("HTTP/1.1 407 No\r\n\r\n");
    talk.client("CONNECT a:443 HTTP/1.1\r\n\r\n").server("HTTP/1.1 200 OK\r\n\r\n");
    talk.client(GET).server(EMPTY);
    assert_eq!((talk.classes(), talk.requests()), ([0, 1, 0, 1, 0], 2));
    assert_eq!(talk.seen.connection.unwrap().protocol, protocol::OTHER);
}

#[test]
fn pipelined_messages_in_one_buffer_are_all_seen() {
    let mut talk = Talk::new();
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    talk.client([GET, GET, head, GET, GET, GET].concat());
    assert_eq!((talk.requests(), talk.waiting()), (6, 6));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-ENCODING: chunked\r\n\r\n\
        26\r\nHTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n\r\na;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
    let answers = [
        &ok("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
        chunked,
        "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\n\r\n",
        EMPTY,
        "HTTP/1.1 503 Busy\r\ncontent-length:   0 \r\n\r\n",
    ];
    talk.server(answers.concat());
    assert_eq!((talk.classes(), talk.timed(), talk.waiting()), ([0, 4, 1, 0, 1], 6, 0));
    talk.client(GET).server(ok("x")).client(GET).server(ok("y"));
    assert_eq!((talk.classes(), talk.requests()), ([0, 6, 1, 0, 1], 8));
    assert_eq!(talk.seen.not_understood(), 0);
}

#[test]
fn what_lengths_do_not_reach_is_not_understood_until_the_next_turn() {
    let mut talk = Talk::new();
    talk.client([GET, GET, GET].concat());
    // Without a length it would last until the end of the connection.
    talk.server("HTTP/1.1 200 OK\r\n\r\nsome").server(EMPTY).server(EMPTY);
    assert_eq!((talk.classes(), talk.seen.not_understood()), ([0, 1, 0, 0, 0], 0));
    talk.client([GET, GET].concat()).server([EMPTY, EMPTY].concat());
    assert_eq!((talk.classes(), talk.seen.not_understood()), ([0, 3, 0, 0, 0], 2));
    assert_eq!((talk.requests(), talk.waiting()), (5, 0));
}

/// Otherwise a service of uploads would seem to leave its clients waiting for as long as they send.
#[test]
fn an_upload_waits_from_its_last_piece_on() {
    let mut talk = Talk::new();
    talk.client("PUT /big HTTP/1.1\r\nContent-Length: 9000\r\n\r\n");
    assert_eq!(talk.oldest(), Some(talk.now));
    for _ in 0..6 {
        talk.client([b'x'; 1_500]);
        assert_eq!(talk.oldest(), Some(talk.now));
    }
    let whole = talk.now;
    talk.seen.feed(Way::Requests, talk.seen.ends[0].wrapping_sub(1_500), &[b'x'; 1_500], whole + 5);
    assert_eq!(talk.oldest(), Some(whole), "sent again");
    talk.server(EMPTY);
    assert_eq!((talk.waits(), talk.waiting()), (vec![talk.now - whole], 0));
    // The next one begins anew.
    talk.client("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(talk.oldest(), Some(talk.now));
    talk.server(EMPTY).client(GET);
    assert_eq!(talk.oldest(), Some(talk.now));
}

#[test]
fn a_client_that_does_not_end_its_request_holds_the_connection() {
    let second = 1_000_000_000;
    let held = |talk: &Talk, later| {
        talk.seen.connection.as_ref().unwrap().is_held_by_client(talk.now + later)
    };
    let mut head = Talk::new();
    head.client("GET / HTTP/1.1\r\nX-Slow: ");
    assert_eq!((held(&head, 0), held(&head, second)), (false, true));
    head.client("a").client("a");
    assert!(held(&head, second));
    head.client("\r\n\r\n");
    assert!(!held(&head, second), "the server's turn");
    head.server(EMPTY);
    assert!(!held(&head, 60 * second), "it is idle");

    let mut crumbs = Talk::new();
    crumbs.client("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n");
    for _ in 0..4 {
        assert!(!held(&crumbs, second));
        crumbs.client("x");
    }
    assert!(held(&crumbs, 0));
    crumbs.server("HTTP/1.1 408 Request Timeout\r\n\r\n");
    assert!(!held(&crumbs, 0));

    let mut upload = Talk::new();
    upload.client("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..50 {
        upload.client([b'x'; 1_400]);
    }
    assert!(!held(&upload, 60 * second), "an upload");
}

#[test]
fn every_method_is_a_request_on_a_connection_of_http() {
    let mut talk = Talk::new();
    for method in ["GET", "BREW", "PROPFIND", "VERSION-CONTROL", "QUERY", "DELETE", "TRACE"] {
        talk.client(format!("{method} / HTTP/1.1\r\n\r\n")).server(EMPTY);
    }
    talk.client("{\"no\": \"request\"}").server("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!((talk.requests(), talk.seen.not_understood()), (7, 1));
    assert_eq!(talk.classes(), [0, 7, 0, 1, 0]);
}

#[test]
fn a_connection_met_at_a_response_is_followed_from_there() {
    let mut talk = Talk::new();
    talk.server(ok("HTTP/1.1 500 ")).client(GET).server(EMPTY);
    assert_eq!((talk.classes(), talk.requests(), talk.timed()), ([0, 2, 0, 0, 0], 1, 1));
}

#[test]
fn a_response_before_the_end_of_the_request_does_no_harm() {
    let mut talk = Talk::new();
    talk.client("POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\n");
    talk.server("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    talk.client("the rest of the body").client("and more");
    talk.client(GET).server(EMPTY);
    assert_eq!((talk.classes(), talk.requests()), ([0, 1, 0, 1, 0], 2));
}

#[test]
fn more_requests_than_are_noted_are_counted_untimed() {
    let mut talk = Talk::new();
    talk.client(GET.repeat(20));
    assert_eq!((talk.seen.requests(), talk.waiting()), ((20, 16), 16));
    talk.server(EMPTY.repeat(20));
    assert_eq!((talk.classes(), talk.timed(), talk.waiting()), ([0, 20, 0, 0, 0], 16, 0));
}

#[test]
fn gaps_cost_what_they_hide_and_no_more() {
    let mut talk = Talk::new();
    talk.client(GET).server(ok("a"));
    // A whole exchange passes unseen.
    let [requests, responses] = talk.seen.ends;
    talk.seen.ends = [requests.wrapping_add(99), responses.wrapping_add(999)];
    talk.client(GET).server("HTTP/1.1 500 Oh\r\n\r\n").client(GET).server(EMPTY);
    assert_eq!((talk.classes(), talk.requests()), ([0, 2, 0, 0, 1], 3));
}

#[test]
fn a_bound_costs_what_is_behind_it() {
    let mut talk = Talk::new();
    talk.seen.bound = 4;
    let long = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(400));
    for _ in 0..3 {
        talk.client(&long).server(ok(&"y".repeat(99)));
    }
    assert_eq!((talk.classes(), talk.requests()), ([0, 3, 0, 0, 0], 3));
}

/// A random exchange, and what is to be counted of it.
fn exchange(expected: &mut [u32; 5]) -> (String, String) {
    let lure = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let body = lure.repeat(fastrand::usize(..4)) + &"z".repeat(fastrand::usize(..40));
    let method = ["GET", "HEAD", "POST", "DELETE", "PUT"][fastrand::usize(..5)];
    let cookie = "c".repeat(fastrand::usize(..60));
    let sent = if method.starts_with('P') { body.as_str() } else { "" };
    let length = match sent.is_empty() {
        true => String::new(),
        false => format!("CONTENT-length: {}\r\n", sent.len()),
    };
    let request = format!("{method} /{cookie} HTTP/1.1\r\nHost: a\r\n{length}\r\n{sent}");
    let mut response = String::new();
    if fastrand::u8(..8) == 0 {
        expected[0] += 1;
        response += "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    }
    let status = [200, 201, 204, 302, 304, 404, 500, 503][fastrand::usize(..8)];
    expected[status / 100 - 1] += 1;
    let reason = [" Reason", " OK", " ", ""][fastrand::usize(..4)];
    let server = if fastrand::bool() { format!("Server: {cookie}\r\n") } else { String::new() };
    response += &format!("HTTP/1.1 {status}{reason}\r\n{server}");
    if matches!(status, 204 | 304) {
        response += "\r\n";
    } else if method == "HEAD" || fastrand::bool() {
        let body = if method == "HEAD" { "" } else { &body };
        response += &format!("Content-Length: {}\r\nA: b\r\n\r\n{body}", body.len());
    } else {
        response += "Transfer-Encoding: chunked\r\n\r\n";
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (chunk, others) = rest.split_at(fastrand::usize(1..=rest.len()));
            response += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
            rest = others;
        }
        response += "0\r\n\r\n";
    }
    (request, response)
}

#[test]
fn turns_are_counted_exactly_in_any_segments() {
    for seed in 0..400 {
        fastrand::seed(seed);
        let mut talk = Talk::new();
        let mut expected = [0; 5];
        let count = fastrand::u32(1..20);
        for index in 0..count {
            let (request, response) = exchange(&mut expected);
            // Cut anywhere; the very first bytes must tell what it is.
            let least = if index == 0 { 17 } else { 1 };
            talk.in_pieces(Way::Requests, request.as_bytes(), fastrand::usize(least..200));
            talk.in_pieces(Way::Responses, response.as_bytes(), fastrand::usize(1..200));
        }
        assert_eq!((talk.classes(), talk.requests()), (expected, count), "seed {seed}");
        assert_eq!((talk.timed(), talk.waiting()), (count as usize, 0), "seed {seed}");
        assert_eq!(talk.seen.not_understood(), 0, "seed {seed}");
    }
}

#[test]
fn pipelines_are_counted_exactly_in_any_segments() {
    for seed in 0..400 {
        fastrand::seed(seed);
        let mut talk = Talk::new();
        let mut expected = [0; 5];
        let mut count = 0;
        for _ in 0..fastrand::u32(1..6) {
            let (mut requests, mut responses) = (String::new(), String::new());
            for _ in 0..fastrand::u32(1..8) {
                let (request, response) = loop {
                    let mut candidate = [0; 5];
                    let exchange = exchange(&mut candidate);
                    // Nobody pipelines what has a body.
                    if !exchange.0.starts_with('P') {
                        for (sum, more) in expected.iter_mut().zip(candidate) {
                            *sum += more;
                        }
                        break exchange;
                    }
                };
                requests += &request;
                responses += &response;
                count += 1;
            }
            talk.in_pieces(Way::Requests, requests.as_bytes(), fastrand::usize(17..900));
            talk.in_pieces(Way::Responses, responses.as_bytes(), fastrand::usize(1..900));
        }
        assert_eq!((talk.classes(), talk.requests()), (expected, count), "seed {seed}");
        assert_eq!((talk.timed(), talk.waiting()), (count as usize, 0), "seed {seed}");
        assert_eq!(talk.seen.not_understood(), 0, "seed {seed}");
    }
}

#[test]
fn any_bytes_end_in_bounded_steps() {
    for seed in 0..2_000 {
        fastrand::seed(seed);
        let mut talk = Talk::new();
        talk.client(GET);
        for _ in 0..20 {
            let mut bytes: Vec<u8> =
                (0..fastrand::usize(1..100)).map(|_| fastrand::u8(..)).collect();
            if fastrand::bool() {
                bytes.splice(0..0, ok("x").bytes());
            }
            let way = if fastrand::bool() { Way::Requests } else { Way::Responses };
            talk.send(way, &bytes);
            assert!(talk.seen.most_steps < 400);
        }
    }
}
