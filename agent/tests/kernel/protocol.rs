//! Messages that do not begin packets, bodies that look like messages, HTTP/2 and gRPC: real
//! sockets, and conversations that were recorded with 20 servers.
use std::{collections::BTreeMap, fs, io::Read as _, net::TcpStream, path::Path};

use agent_common::Counters;
use flate2::read::GzDecoder;
use paramedic_probes::{Kernel, Slot};
use serde::Deserialize;

use crate::kernel::{
    counters, eventually, load,
    patient::{Part, Patient, Script, reset},
    target,
};

/// Plays a script between a watched process and this one, and returns what was counted.
fn played(kernel: &mut Kernel, patient: &mut Patient, script: &Script) -> (Counters, Slot) {
    let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    script.write(file.path());
    let address = patient.ask(&format!("play 127.0.0.1:0 {}", file.path().display()));
    let mut stream = TcpStream::connect(&address).unwrap();
    script.play(&mut stream, Client).unwrap();
    (counters(kernel, slot), slot)
}

fn conversation(lines: &[(Part, &str)]) -> (Counters, Kernel, Slot) {
    let (mut kernel, mut patient) = (load(1), Patient::start());
    let script = Script::new(lines.iter().map(|(part, line)| (*part, line.as_bytes().to_vec())));
    let (counted, slot) = played(&mut kernel, &mut patient, &script);
    (counted, kernel, slot)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LURE: &str = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";
const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
use Part::{Client, Server};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_body_that_begins_like_a_response_is_a_body() {
    let (counted, ..) = conversation(&[
        (Client, GET),
        (Server, "HTTP/1.1 200 OK\r\nContent-Length: 78\r\n\r\n"),
        (Server, LURE),
        (Server, LURE),
        (Client, "POST / HTTP/1.1\r\nContent-Length: 28\r\n\r\n"),
        (Client, GET),
        (Server, NONE),
    ]);
    let expected = Counters { requests: 2, responses: [0, 2, 0, 0, 0], ..Counters::default() };
    assert_eq!(counted, expected);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn pipelined_responses_in_one_buffer_and_messages_in_pieces_are_counted() {
    let many = [GET, GET, GET].concat();
    let answers = ["HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n", LURE, LURE, NONE].concat();
    let (counted, ..) = conversation(&[
        (Client, &many),
        (Server, &answers),
        (Client, "GE"),
        (Client, "T / HTT"),
        (Client, "P/1.1\r\n\r\n"),
        (Server, "HTTP"),
        (Server, "/1.1 40"),
        (Server, "4 Not Found\r\n\r\n"),
    ]);
    let expected = Counters { requests: 4, responses: [0, 2, 0, 1, 1], ..Counters::default() };
    assert_eq!(counted, expected);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn after_an_upgrade_it_is_no_http() {
    let (counted, ..) = conversation(&[
        (Client, "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
        (Server, "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (Server, LURE),
        (Client, GET),
        (Server, LURE),
    ]);
    let expected = Counters { requests: 1, responses: [1, 0, 0, 0, 0], ..Counters::default() };
    assert_eq!(counted, expected);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_are_timed_and_what_waits_is_told() {
    let (mut kernel, mut patient) = (load(1), Patient::start());
    let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = Script::new([
        (Client, GET.into()),
        (Server, "HTTP/1.1 100 Continue\r\n\r\n".into()),
        (Server, NONE.into()),
        (Client, "GET / HTTP/1.1\r\n".into()),
        (Client, "\r\n".into()),
        (Client, "never sent".into()),
        (Server, NONE.into()),
    ]);
    script.write(file.path());
    let address = patient.ask(&format!("play 127.0.0.1:0 {}", file.path().display()));
    let mut stream = TcpStream::connect(&address).unwrap();
    let before = paramedic_host::clock::now();
    Script::new([(Client, GET.into())]).play(&mut stream, Client).unwrap();
    eventually("the response", || (counters(&kernel, slot).responses[1] == 1).then_some(()));
    assert_eq!(kernel.latencies(slot).unwrap().buckets.iter().sum::<u64>(), 1);
    assert_eq!(kernel.waiting(paramedic_host::clock::now()).unwrap().of(slot).requests, 0);
    let mut send = |text: &str| {
        Script::new([(Client, text.into())]).play(&mut stream, Client).unwrap();
    };
    send("GET / HTTP/1.1\r\n");
    let waiting = kernel.waiting(paramedic_host::clock::now()).unwrap().of(slot);
    assert_eq!(waiting.requests, 0, "a head that is not complete waits for its client");
    send("\r\n");
    let waiting = kernel.waiting(paramedic_host::clock::now()).unwrap().of(slot);
    assert_eq!(waiting.requests, 1);
    assert!(waiting.oldest.is_some_and(|oldest| oldest > before));
    drop(stream);
    eventually("the end of the connection", || {
        (kernel.waiting(paramedic_host::clock::now()).unwrap().of(slot).requests == 0).then_some(())
    });
    kernel.unwatch(slot).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn requests_without_a_response_are_told_apart_by_who_ended_them() {
    let (mut kernel, mut patient) = (load(1), Patient::start());
    // What the server reads before it closes, what the client sends, and what it does then.
    type End = fn(TcpStream);
    let closes: End = |stream| drop(stream);
    let resets: End = |stream| reset(&stream);
    let waits: End = |mut stream| assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    for (name, reads, sends, then, dropped, given_up) in [
        ("the server closes", GET, GET, waits, 1, 0),
        (
            "the server closes an incomplete head",
            "GET / HTTP",
            "GET / HTTP/1.1\r\nA: ",
            waits,
            0,
            0,
        ),
        ("the client resets", "GET / HTTP/1.1\r\nHost: a\r\n\r\n more", GET, resets, 0, 1),
        ("the client closes", "GET / HTTP/1.1\r\nHost: a\r\n\r\n more", GET, closes, 0, 1),
    ] {
        let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        Script::new([(Client, reads.into())]).write(file.path());
        let address = patient.ask(&format!("play 127.0.0.1:0 {}", file.path().display()));
        let mut stream = TcpStream::connect(&address).unwrap();
        Script::new([(Client, sends.into())]).play(&mut stream, Client).unwrap();
        eventually(name, || (counters(&kernel, slot).requests == 1).then_some(()));
        then(stream);
        eventually(name, || {
            let counted = counters(&kernel, slot);
            ((counted.dropped, counted.given_up[0]) == (dropped, given_up)).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        let counted = counters(&kernel, slot);
        assert_eq!((counted.dropped, counted.given_up.iter().sum()), (dropped, given_up), "{name}");
        kernel.unwatch(slot).unwrap();
    }
}

macro_rules! recordings {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            include_bytes!(concat!("../../../crates/protocol/fixtures/", $name, ".json.gz")),
        )),*]
    };
}

#[derive(Deserialize)]
struct Capture {
    connections: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    segments: Vec<Packet>,
    truth: Vec<Stream>,
    requests: u64,
}

#[derive(Deserialize)]
struct Packet {
    dir: String,
    seq: u32,
    payload: String,
}

#[derive(Deserialize)]
struct Stream {
    status: Vec<u16>,
    grpc_status: Option<u8>,
}

fn decode(base64: &str) -> Vec<u8> {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for letter in base64.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// What was written, without what was sent again.
fn script(recorded: &Recorded) -> Script {
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    let mut lines = Vec::new();
    for packet in &recorded.segments {
        let mut payload = decode(&packet.payload);
        let next = next.entry(&packet.dir).or_insert(packet.seq);
        let again = next.wrapping_sub(packet.seq);
        assert!(again < 1 << 31, "a gap");
        payload.drain(..(again as usize).min(payload.len()));
        *next = next.wrapping_add(u32::try_from(payload.len()).unwrap());
        if !payload.is_empty() {
            lines.push((if packet.dir == "c" { Client } else { Server }, payload));
        }
    }
    Script::new(lines)
}

/// What is to be counted; the class of a 200 whose trailers tell of a fault is counted first.
fn expected(recorded: &Recorded) -> Counters {
    let mut counters = Counters { requests: recorded.requests, ..Counters::default() };
    for stream in &recorded.truth {
        for status in &stream.status {
            counters.responses[usize::from(status / 100 - 1)] += 1;
            counters.unavailable += u64::from(matches!(status, 502..=504));
        }
        match stream.grpc_status {
            Some(4 | 14) => counters.unavailable += 1,
            Some(2 | 12 | 13 | 15) => {}
            _ => continue,
        }
        counters.responses[4] += 1;
        counters.in_trailers += 1;
    }
    counters
}

/// The same conversation with each of these servers.
const WITH_EACH: [(&str, &[u8]); 19] = recordings![
    "apache-httpx",
    "caddy-httpx",
    "envoy-grpc-grpc1",
    "envoy-httpx",
    "go-httpx",
    "granian-httpx",
    "grpcgo-grpc1",
    "grpcio-grpc1",
    "grpcjs-grpc1",
    "grpclib-grpc1",
    "h2o-httpx",
    "haproxy-httpx",
    "hypercorn-httpx",
    "jetty-httpx",
    "lighttpd-httpx",
    "nghttpx-httpx",
    "nginx-httpx",
    "node-httpx",
    "varnish-httpx",
];

/// Plays a recording, and compares what is counted with what was recorded. Returns the number of its
/// connections, and how many of them were not walked to the end.
fn replay(kernel: &mut Kernel, patient: &mut Patient, name: &str, recording: &[u8]) -> [usize; 2] {
    let capture: Capture = serde_json::from_reader(GzDecoder::new(recording)).unwrap();
    let mut beyond = 0;
    for recorded in &capture.connections {
        let (mut counted, slot) = played(kernel, patient, &script(recorded));
        let mut expected = expected(recorded);
        // Responses that are trailers alone are counted once.
        let alone = expected.in_trailers - counted.in_trailers;
        expected.responses[1] -= alone;
        expected.in_trailers = counted.in_trailers;
        (counted.untimed, counted.retransmits) = (0, 0);
        if counted.not_understood == 0 {
            assert_eq!(counted, expected, "{name}");
        } else {
            // Hundreds of responses in one packet are not walked to the end: what is behind the
            // bound is missing or unknown, and nothing is wrong.
            beyond += 1;
            for (counted, expected) in counted.responses.iter().zip(expected.responses) {
                assert!(*counted <= expected, "{name}: {counted:?}");
            }
            assert!(counted.unavailable <= expected.unavailable, "{name}");
        }
        kernel.unwatch(slot).unwrap();
    }
    [capture.connections.len(), beyond]
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_recorded_conversation_with_each_server_is_counted_exactly() {
    let (mut kernel, mut patient) = (load(1), Patient::start());
    for (name, recording) in WITH_EACH {
        let [_, beyond] = replay(&mut kernel, &mut patient, name, recording);
        assert_eq!(beyond, 0, "{name}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_recorded_conversation_in_http2_is_counted_exactly() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/protocol/fixtures");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut kernel, mut patient) = (load(1), Patient::start());
    let (mut all, mut beyond) = (0, Vec::new());
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Those begin in HTTP/1; of the other one the reference leaves some unknown, too.
        if name.contains("upgrade") || name.starts_with("tomcat-tbl") {
            continue;
        }
        let [of_all, of_beyond] =
            replay(&mut kernel, &mut patient, name, &fs::read(&path).unwrap());
        all += of_all;
        if of_beyond > 0 {
            beyond.push(name.to_owned());
        }
    }
    println!("{all} connections; not walked to the end: {beyond:?}");
    assert!(beyond.len() < all / 20, "of {all}: {beyond:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_head_of_hundreds_of_lines_costs_a_bounded_walk_and_no_later_count() {
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", "a:\n".repeat(2_000));
    let (counted, ..) = conversation(&[
        (Client, head.as_str()),
        (Server, NONE),
        (Client, GET),
        (Server, NONE),
        (Client, GET),
        (Server, LURE),
    ]);
    let expected = Counters { requests: 3, responses: [0, 2, 0, 0, 1], ..Counters::default() };
    assert_eq!(counted, expected);
}
