//! Replays captures of 20 servers: whole, in other segments, sent twice, and from their middle.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{collections::HashMap, fs::File, path::Path};

use flate2::read::GzDecoder;
use paramedic_protocol::{Event, Verdict, Way};
use serde::Deserialize;

mod support;
#[path = "support/written.rs"]
mod written;

use support::Seen;
use written::Written;

#[derive(Deserialize)]
struct Capture {
    connections: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    segments: Vec<Packet>,
    truth: Vec<Stream>,
    requests: u32,
}

#[derive(Deserialize)]
struct Packet {
    dir: String,
    seq: u32,
    t: f64,
    payload: String,
}

#[derive(Deserialize)]
struct Stream {
    stream: u32,
    status: Vec<u16>,
    grpc_status: Option<u8>,
}

/// A packet with its bytes.
#[derive(Clone)]
struct Raw {
    way: Way,
    seq: u32,
    at: u64,
    payload: Vec<u8>,
}

impl Raw {
    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.payload.len() as u32)
    }
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

/// Every recorded connection, with the name of its capture.
fn connections() -> Vec<(String, Vec<Raw>, Recorded)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "gz"));
    paths.sort();
    assert_eq!(paths.len(), 94);
    let mut all = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let capture: Capture =
            serde_json::from_reader(GzDecoder::new(File::open(&path).unwrap())).unwrap();
        for recorded in capture.connections {
            let packets = recorded.segments.iter().map(|packet| Raw {
                way: if packet.dir == "c" { Way::Requests } else { Way::Responses },
                seq: packet.seq,
                at: 1 + (packet.t * 1e9) as u64,
                payload: decode(&packet.payload),
            });
            all.push((name.clone(), packets.collect(), recorded));
        }
    }
    all
}

fn replay<'a>(packets: impl Iterator<Item = &'a Raw> + Clone) -> Seen {
    let mut seen = Seen::default();
    for way in [Way::Requests, Way::Responses] {
        let first = packets.clone().find(|packet| packet.way == way);
        seen.ends[usize::from(way == Way::Responses)] = first.map_or(0, |packet| packet.seq);
    }
    for packet in packets {
        seen.feed(packet.way, packet.seq, &packet.payload, packet.at);
    }
    seen
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Judgement {
    right: u32,
    unknown: u32,
    wrong: u32,
    missing: u32,
}

impl Judgement {
    fn plus(&mut self, other: &Self) {
        self.right += other.right;
        self.unknown += other.unknown;
        self.wrong += other.wrong;
        self.missing += other.missing;
    }
}

fn verdict(status: u16, grpc: u8) -> Verdict {
    match (grpc, status) {
        (4 | 14, _) | (_, 502..=504) => Verdict::Unavailable,
        (2 | 12 | 13 | 15, _) | (_, 500..) => Verdict::ServerError,
        (_, 401 | 403 | 407) => Verdict::Denied,
        (_, 400..) => Verdict::ClientError,
        (_, 300..) => Verdict::Redirection,
        (_, 200..) => Verdict::Success,
        _ => Verdict::Interim,
    }
}

/// Heads and codes of gRPC against the truth.
fn judge(truth: &[Stream], seen: &Seen) -> (Judgement, Judgement) {
    let mut heads: HashMap<u32, Vec<(Verdict, u8)>> = HashMap::new();
    let mut codes: HashMap<u32, u8> = HashMap::new();
    for (_, event) in &seen.events {
        match event {
            Event::Response(head) if head.stream != 0 => {
                heads.entry(head.stream).or_default().push((head.verdict(), head.grpc));
                if head.grpc != 0 {
                    codes.insert(head.stream, head.grpc - 16);
                }
            }
            Event::Trailers(end) if end.grpc != 0 => {
                codes.insert(end.stream, end.grpc - 16);
            }
            _ => {}
        }
    }
    let (mut head, mut grpc) = (Judgement::default(), Judgement::default());
    for stream in truth {
        let found = heads.remove(&stream.stream).unwrap_or_default();
        // A response that is trailers alone has one block, with both.
        let code = |grpc: u8| stream.grpc_status.filter(|_| grpc != 0).unwrap_or(0);
        // What was not seen came first.
        let unseen = stream.status.len().saturating_sub(found.len());
        for (index, status) in stream.status.iter().enumerate() {
            match index.checked_sub(unseen).and_then(|index| found.get(index)) {
                None => head.missing += 1,
                Some((Verdict::Unknown, _)) => head.unknown += 1,
                Some((found, grpc)) if *found == verdict(*status, code(*grpc)) => head.right += 1,
                Some(_) => head.wrong += 1,
            }
        }
        // What may have been a head or trailers is unknown.
        let more = found.iter().skip(stream.status.len());
        head.wrong += more.filter(|found| found.0 != Verdict::Unknown).count() as u32;
        match (stream.grpc_status, codes.remove(&stream.stream)) {
            (None, None | Some(17)) => {}
            (Some(_), None) => grpc.missing += 1,
            (Some(_), Some(17)) => grpc.unknown += 1,
            (Some(code), Some(found)) if code == found => grpc.right += 1,
            _ => grpc.wrong += 1,
        }
    }
    for (stream, found) in heads {
        assert_eq!(found, [], "stream {stream}, of which the truth knows nothing");
    }
    (head, grpc)
}

/// The requests of HTTP/1 that ask for an upgrade, which the truth does not count. A server that
/// speaks first speaks nothing but HTTP/2.
fn upgrades(packets: &[Raw]) -> u32 {
    if packets.first().is_some_and(|packet| packet.way == Way::Responses) {
        return 0;
    }
    let is_request = |packet: &&Raw| {
        packet.way == Way::Requests
            && (packet.payload.starts_with(b"GET ") || packet.payload.starts_with(b"POST "))
    };
    packets.iter().filter(is_request).count() as u32
}

/// Of one capture the truth has statuses that the reference does not resolve either: 35 of 606.
const UNRESOLVED: &str = "tomcat-tbl.json.gz";

#[test]
fn whole_connections_are_counted_exactly() {
    let (mut heads, mut codes) = (0, 0);
    let mut most = 0;
    for (name, packets, recorded) in connections() {
        let seen = replay(packets.iter());
        let (head, grpc) = judge(&recorded.truth, &seen);
        if name == UNRESOLVED {
            assert_eq!((head.unknown, head.wrong, head.missing), (35, 0, 0), "{name}");
        } else {
            let exact = Judgement { right: head.right, ..Judgement::default() };
            assert_eq!(head, exact, "{name}");
        }
        let exact = Judgement { right: grpc.right, ..Judgement::default() };
        assert_eq!(grpc, exact, "{name}");
        assert_eq!(seen.requests().0, recorded.requests + upgrades(&packets), "{name}");
        assert_eq!(seen.not_understood(), 0, "{name}");
        heads += head.right;
        codes += grpc.right;
        most = most.max(seen.most_steps);
    }
    println!("{heads} heads and {codes} codes of gRPC; at most {most} steps for a packet");
    assert_eq!((heads, codes), (28_820, 2_520));
}

/// The bytes of each direction in other segments, of `sizes`, in the order of their ends.
fn resegmented(packets: &[Raw], mut size: impl FnMut() -> usize) -> Vec<Raw> {
    let mut all = Vec::new();
    let mut held: [Option<Raw>; 2] = [None, None];
    let mut begun = [false; 2];
    for packet in packets {
        // Neither direction waits for the other.
        all.extend(held[usize::from(packet.way == Way::Requests)].take());
        let mut rest = match held[usize::from(packet.way == Way::Responses)].take() {
            Some(mut before) if before.end() == packet.seq => {
                before.payload.extend_from_slice(&packet.payload);
                before
            }
            before => {
                all.extend(before);
                packet.clone()
            }
        };
        rest.at = packet.at;
        // What each side says first arrives whole.
        let is_first =
            !std::mem::replace(&mut begun[usize::from(packet.way == Way::Responses)], true);
        loop {
            let wanted = if is_first { usize::MAX } else { size() };
            if rest.payload.len() <= wanted {
                break;
            }
            let tail = rest.payload.split_off(wanted);
            let seq = rest.seq.wrapping_add(wanted as u32);
            all.push(rest);
            rest = Raw { way: packet.way, seq, at: packet.at, payload: tail };
        }
        // Some of it waits for what follows.
        if fastrand::bool() && rest.payload.len() < 2000 {
            held[usize::from(packet.way == Way::Responses)] = Some(rest);
        } else {
            all.push(rest);
        }
    }
    all.extend(held.into_iter().flatten());
    all
}

fn exact_in_other_segments(name: &str, packets: &[Raw], recorded: &Recorded, how: &str) {
    let seen = replay(packets.iter());
    let (head, grpc) = judge(&recorded.truth, &seen);
    assert_eq!((head.wrong, head.missing), (0, 0), "{name} {how}");
    assert_eq!(head.unknown, if name == UNRESOLVED { 35 } else { 0 }, "{name} {how}");
    assert_eq!((grpc.unknown, grpc.wrong, grpc.missing), (0, 0, 0), "{name} {how}");
    assert_eq!(seen.requests().0, recorded.requests, "{name} {how}");
}

/// Captures that begin with HTTP/1 are told by the begin of their first packet.
fn is_upgrade(name: &str) -> bool {
    name.contains("upgrade")
}

#[test]
fn other_segments_make_no_difference() {
    fastrand::seed(1);
    for (name, packets, recorded) in connections() {
        if is_upgrade(&name) {
            continue;
        }
        let mss = resegmented(&packets, || 1448);
        exact_in_other_segments(&name, &mss, &recorded, "by MSS");
        for most in [40, 600, 5000] {
            let random = resegmented(&packets, || fastrand::usize(1..most));
            exact_in_other_segments(&name, &random, &recorded, "at random");
        }
    }
}

#[test]
fn one_byte_at_a_time_makes_no_difference() {
    for (name, packets, recorded) in connections() {
        if packets.iter().map(|packet| packet.payload.len()).sum::<usize>() > 40_000 {
            continue;
        }
        if !is_upgrade(&name) {
            let single = resegmented(&packets, || 1);
            exact_in_other_segments(&name, &single, &recorded, "byte by byte");
        }
    }
}

#[test]
fn what_is_sent_twice_is_counted_once() {
    fastrand::seed(2);
    for (name, packets, recorded) in connections() {
        let mut twice = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            twice.push(packet.clone());
            if fastrand::u8(..4) == 0 {
                // With something that went before it, or a part of it.
                let earlier = &packets[index.saturating_sub(fastrand::usize(..3))];
                let part = fastrand::usize(..earlier.payload.len().max(1));
                let mut again = earlier.clone();
                again.seq = again.seq.wrapping_add(part as u32);
                again.payload.drain(..part);
                twice.push(again);
            }
        }
        let seen = replay(twice.iter());
        let (head, grpc) = judge(&recorded.truth, &seen);
        assert_eq!((head.wrong, head.missing), (0, 0), "{name}");
        assert_eq!(head.unknown, if name == UNRESOLVED { 35 } else { 0 }, "{name}");
        assert_eq!((grpc.unknown, grpc.wrong, grpc.missing), (0, 0, 0), "{name}");
        assert_eq!(seen.requests().0, recorded.requests + upgrades(&packets), "{name}");
    }
}

/// From its middle on, a connection tells less, and nothing wrong.
#[test]
fn what_is_met_later_is_unknown_or_right() {
    fastrand::seed(3);
    let (mut heads, mut codes) = (Judgement::default(), Judgement::default());
    for (name, packets, recorded) in connections() {
        for _ in 0..4 {
            let skipped = fastrand::usize(1..packets.len().max(2));
            let seen = replay(packets.iter().skip(skipped));
            let (head, grpc) = judge(&recorded.truth, &seen);
            assert_eq!((head.wrong, grpc.wrong), (0, 0), "{name} from {skipped}: {head:?}");
            heads.plus(&head);
            codes.plus(&grpc);
        }
    }
    println!("heads {heads:?}, codes {codes:?}");
    assert!(heads.unknown * 5 < heads.right, "{heads:?}");
}

/// Lost segments cost what they carry, and what refers to it.
#[test]
fn what_is_lost_leads_to_nothing_wrong() {
    fastrand::seed(4);
    let mut heads = Judgement::default();
    for (name, packets, recorded) in connections() {
        let kept = packets.iter().filter(|_| fastrand::u8(..50) != 0);
        let seen = replay(kept);
        let (head, grpc) = judge(&recorded.truth, &seen);
        assert_eq!((head.wrong, grpc.wrong), (0, 0), "{name}: {head:?}");
        heads.plus(&head);
    }
    println!("{heads:?}");
}

/// What the server writes, as of TLS, in calls of other sizes than its segments.
#[test]
fn the_servers_side_alone_is_enough() {
    fastrand::seed(5);
    let mut heads = 0;
    for (name, packets, recorded) in connections() {
        // Those begin in HTTP/1.
        if is_upgrade(&name) || upgrades(&packets) > 0 {
            continue;
        }
        let mut written = Written::default();
        let mut next = None;
        for packet in packets.iter().filter(|packet| packet.way == Way::Responses) {
            let again = next.map_or(0, |next: u32| next.wrapping_sub(packet.seq)) as usize;
            let new = packet.payload.get(again..).unwrap_or_default();
            if !new.is_empty() {
                let size = if next.is_some() { fastrand::usize(1..3000) } else { usize::MAX };
                new.chunks(size).for_each(|call| written.call(call));
                next = Some(packet.end());
            }
        }
        let (head, grpc) =
            judge(&recorded.truth, &Seen { events: written.events, ..Seen::default() });
        assert_eq!((head.wrong, head.missing), (0, 0), "{name}");
        assert_eq!(head.unknown, if name == UNRESOLVED { 35 } else { 0 }, "{name}");
        assert_eq!((grpc.unknown, grpc.wrong, grpc.missing), (0, 0, 0), "{name}");
        heads += head.right;
    }
    assert!(heads > 20_000, "{heads}");
}
