//! What servers write in HTTP/1 without their requests, against the conversation itself.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
use paramedic_protocol::{Event, Verdict};

#[path = "support/written.rs"]
mod support;

use support::Written;

/// Responses by class, and how many were not understood.
fn counted(calls: &[&str]) -> ([u32; 5], u32) {
    let mut written = Written::default();
    for call in calls {
        written.call(call.as_bytes());
    }
    sum(&written)
}

fn sum(written: &Written) -> ([u32; 5], u32) {
    let (mut classes, mut lost) = ([0; 5], 0);
    for (_, event) in &written.events {
        match event {
            Event::Response(response) => match response.verdict() {
                Verdict::Unavailable => classes[4] += 1,
                Verdict::Denied => classes[3] += 1,
                class if class <= Verdict::ServerError => classes[class as usize] += 1,
                other => panic!("{other:?}"),
            },
            Event::NotUnderstood(count) => lost += count,
            _ => {}
        }
    }
    (classes, lost)
}

const LURE: &str = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn lengths_lead_from_one_response_to_the_next() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let calls =
        [OK, EMPTY, chunked, "26\r\n", LURE, "\r\n0\r\n\r\n", LURE, "HTTP/1.1 503 x\r\n", "\r\n"];
    assert_eq!(counted(&calls[..7]), ([0, 3, 0, 0, 1], 0));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(counted(&[interim, OK, interim, OK]), ([2, 2, 0, 0, 0], 0));
    let both = [OK, OK, LURE].concat();
    assert_eq!(counted(&[&both, OK]), ([0, 3, 0, 0, 1], 0));
}

#[test]
fn a_body_that_begins_like_a_response_is_a_body() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n";
    assert_eq!(counted(&[head, LURE, LURE, EMPTY]), ([0, 2, 0, 0, 0], 0));
    let endless = "HTTP/1.0 200 OK\r\nServer: x\r\n\r\n";
    let seen = counted(&[endless, "begin", LURE, LURE]);
    assert_eq!(seen, ([0, 1, 0, 0, 0], 2), "told, and not counted");
}

#[test]
fn behind_a_response_without_its_body_the_count_is_lost_until_it_is_sure() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n";
    // Two of them fill the length, the second not exactly.
    assert_eq!(counted(&[head, OK, OK, OK, LURE]), ([0, 2, 0, 0, 1], 1));
    // Where a chunk belongs there cannot be a response.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(counted(&[chunked, OK, chunked, LURE]), ([0, 3, 0, 0, 1], 0));
    assert_eq!(counted(&[chunked, "what", OK]), ([0, 2, 0, 0, 0], 1));
}

#[test]
fn what_a_client_writes_is_not_counted() {
    let post = "POST / HTTP/1.1\r\nContent-Length: 38\r\n\r\n";
    assert_eq!(counted(&[post, LURE, LURE]), ([0; 5], 0));
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(counted(&[preface, LURE]), ([0; 5], 0));
    // A stream of HTTP/2 that was met later: `:method: GET`, then `:status: 500` as no server has.
    for (fields, expected) in [([0x82, 0x8e], [0; 5]), ([0x8e, 0x82], [0, 0, 0, 0, 1])] {
        let mut written = Written::default();
        written.call(&[&[0, 0, 2, 1, 5, 0, 0, 0, 1], fields.as_slice()].concat());
        assert_eq!(sum(&written), (expected, 0));
    }
}

#[test]
fn after_an_upgrade_it_is_no_http() {
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    assert_eq!(counted(&[upgrade, LURE, LURE]), ([1, 0, 0, 0, 0], 0));
}

/// A random response, and what is to be counted of it.
fn response(expected: &mut [u32; 5]) -> String {
    let body = LURE.repeat(fastrand::usize(..4)) + &"z".repeat(fastrand::usize(..40));
    let cookie = "c".repeat(fastrand::usize(..60));
    let status = [200, 201, 204, 302, 304, 404, 500, 503][fastrand::usize(..8)];
    expected[status / 100 - 1] += 1;
    let mut response = format!("HTTP/1.1 {status} Reason\r\nServer: {cookie}\r\n");
    if matches!(status, 204 | 304) {
        response += "\r\n";
    } else if fastrand::bool() {
        response += &format!("content-length: {}\r\nA: b\r\n\r\n{body}", body.len());
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
    response
}

#[test]
fn calls_of_any_size_are_counted_exactly() {
    for seed in 0..1_000 {
        fastrand::seed(seed);
        let (mut expected, mut all) = ([0; 5], String::new());
        for _ in 0..fastrand::u32(1..20) {
            all += &response(&mut expected);
        }
        let mut written = Written::default();
        // The very first bytes must tell what it is.
        let (first, rest) = all.as_bytes().split_at(17);
        written.call(first);
        for piece in rest.chunks(fastrand::usize(1..300)) {
            written.call(piece);
        }
        assert_eq!(sum(&written), (expected, 0), "seed {seed}");
    }
}

#[test]
fn without_bodies_nothing_wrong_is_counted_and_the_loss_is_told() {
    let mut right = 0;
    for seed in 0..1_000 {
        fastrand::seed(seed);
        let (mut written, mut expected) = (Written::default(), [0; 5]);
        for _ in 0..50 {
            let status = [200, 404, 500][fastrand::usize(..3)];
            expected[status / 100 - 1] += 1;
            let length = fastrand::usize(..400);
            let mut text = format!("HTTP/1.1 {status} Reason\r\nContent-Length: {length}\r\n\r\n");
            if fastrand::u8(..8) != 0 {
                text += &"z".repeat(length);
            }
            written.call(text.as_bytes());
        }
        let (classes, lost) = sum(&written);
        for (counted, expected) in classes.iter().zip(expected) {
            assert!(*counted <= expected, "seed {seed}");
        }
        let missing = 50 - classes.iter().sum::<u32>();
        assert!(lost <= missing, "seed {seed}");
        right += 50 - missing;
    }
    assert!(right > 35_000, "{right} of 50,000");
}

#[test]
fn any_bytes_end_in_bounded_steps() {
    for seed in 0..2_000 {
        fastrand::seed(seed);
        let mut written = Written::default();
        written.call(OK.as_bytes());
        for _ in 0..20 {
            let mut bytes: Vec<u8> =
                (0..fastrand::usize(1..100)).map(|_| fastrand::u8(..)).collect();
            if fastrand::bool() {
                bytes.splice(0..0, OK.bytes());
            }
            let before = written.events.len();
            written.call(&bytes);
            assert!(written.events.len() - before < 200);
        }
    }
}
