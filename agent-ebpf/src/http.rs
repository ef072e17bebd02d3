//! Counts plaintext HTTP messages at the edge of a watched cgroup: HTTP/1.x and HTTP/2.
//!
//! `paramedic_protocol` follows each connection through its segments; the programs here find the
//! connection and the target, run its steps, and count what they find. A connection is remembered
//! from its first message on, by its socket's cookie, and only if it belongs to a target. What has
//! no begin of a message and no connection passes after one read of its first bytes. Blind spots
//! are TLS, and anything behind IPv6 extension headers.
//!
//! Both directions carry requests and responses: a target answers requests, and sends its own to
//! backends. Whose message comes first decides the connection's role. A connection that the target
//! serves is identified by its port. One of the target as a client is identified by its cgroup
//! alone, because a client's port is arbitrary; a target in a shared cgroup has no such key.
//!
//! A packet that needs steps goes on in a program of its own, which continues itself by tail calls:
//! a kernel before 5.17 has no other way to walk far. Between the programs, the packet's control
//! block carries the place.
//!
//! The programs let every packet pass.
use core::{arch::asm, ptr};

use agent_common::scope;
use aya_ebpf::{helpers::bpf_ktime_get_boot_ns, macros::cgroup_skb, programs::SkBuffContext};
use paramedic_protocol::{
    Bytes as _, Connection, Event, Kind, Packed, Segment, Way, connection::protocol,
};

use crate::{
    connections, maps,
    packet::{FIN, Packet, Payload, RST, Tcp},
    tally,
};

const PASS: i32 = 1;
/// Steps of one program: more walk further in one packet, and take the verifier longer, some 10,000
/// instructions each and twice that for the responses of HTTP/2. A program continues itself up to
/// 30 times, which is below the kernel's limit of 33.
const HTTP1_STEPS: u64 = 8;
const HTTP2_ASK_STEPS: u64 = 8;
const HTTP2_ANS_STEPS: u64 = 16;
const ROUNDS: u32 = 30;

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

#[cgroup_skb(egress)]
pub fn http_egress(ctx: SkBuffContext) -> i32 {
    let _ = try_packet(&ctx, Direction::Out);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http_ingress(ctx: SkBuffContext) -> i32 {
    let _ = try_packet(&ctx, Direction::In);
    PASS
}

#[cgroup_skb(egress)]
pub fn http1_ask_out(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::Out, protocol::HTTP1, Way::Requests, HTTP1_STEPS);
    PASS
}

#[cgroup_skb(egress)]
pub fn http1_ans_out(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::Out, protocol::HTTP1, Way::Responses, HTTP1_STEPS);
    PASS
}

#[cgroup_skb(egress)]
pub fn http2_ask_out(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::Out, protocol::HTTP2, Way::Requests, HTTP2_ASK_STEPS);
    PASS
}

#[cgroup_skb(egress)]
pub fn http2_ans_out(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::Out, protocol::HTTP2, Way::Responses, HTTP2_ANS_STEPS);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http1_ask_in(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::In, protocol::HTTP1, Way::Requests, HTTP1_STEPS);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http1_ans_in(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::In, protocol::HTTP1, Way::Responses, HTTP1_STEPS);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http2_ask_in(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::In, protocol::HTTP2, Way::Requests, HTTP2_ASK_STEPS);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http2_ans_in(ctx: SkBuffContext) -> i32 {
    let _ = try_walk(&ctx, Direction::In, protocol::HTTP2, Way::Responses, HTTP2_ANS_STEPS);
    PASS
}

/// Most packets end here.
#[inline(always)]
fn try_packet(ctx: &SkBuffContext, direction: Direction) -> Option<()> {
    let packet = Packet::new(ctx);
    let tcp = packet.segment()?;
    let ends = tcp.flags & (FIN | RST) != 0;
    if tcp.len == 0 && !ends {
        return None;
    }
    let cookie = packet.cookie();
    let payload = Payload { packet, offset: tcp.payload };
    let connection = match connections::find(cookie) {
        Some(connection) => connection,
        None if tcp.len == 0 => return None,
        None => begin(packet, &tcp, &payload, cookie, direction)?,
    };
    // SAFETY: a whole map value, which outlives the program run. Another CPU may work on the other
    // direction meanwhile, see `Connection`: nothing but counts depends on what it reads.
    let connection = unsafe { &mut *connection };
    let way = way(connection, direction);
    if tcp.len != 0 {
        let segment = Segment { seq: tcp.seq, ack: tcp.ack, len: tcp.len, now: 1 };
        let (at, event) = connection.begin(way, &segment, &payload);
        if let Event::NotUnderstood(count) = event {
            tally::not_understood(connection, count);
        }
        if let Some(at) = at {
            connection.slot = slot(packet, &tcp, connection, direction)?;
            Place { at, round: 0 }.keep(packet);
            go_on(ctx, direction, connection.protocol, way);
            // Only if the program is missing.
            let _ = connection.end(way, &segment, at);
        }
    }
    if ends {
        end(connection, cookie, way, tcp.flags);
    }
    Some(())
}

/// A new connection, if this is the first message of one that belongs to a target.
#[inline(always)]
fn begin(
    packet: Packet,
    tcp: &Tcp,
    payload: &Payload,
    cookie: u64,
    direction: Direction,
) -> Option<*mut Connection> {
    let (high, low) = payload.load(0, if tcp.len < 16 { tcp.len } else { 16 })?;
    let kind = Kind::of(high, low, tcp.len)?;
    let out = direction == Direction::Out;
    let serves = match kind {
        Kind::Request | Kind::Preface => !out,
        Kind::Response => out,
        Kind::Frames => {
            let (own, other) = ports(tcp, direction);
            if maps::lookup_port(packet.cgroup(), own).is_some() {
                true
            } else if own < connections::EPHEMERAL && other >= connections::EPHEMERAL {
                true
            } else if own >= connections::EPHEMERAL && other < connections::EPHEMERAL {
                false
            } else {
                // Who serves cannot be told.
                return None;
            }
        }
    };
    let role = if serves { connections::SERVES } else { connections::CALLS };
    let slot = slot_of(packet, tcp, role, direction)?;
    if cookie == 0 || !out && packet.is_for_listener() {
        // The connection has no socket of its own yet.
        if kind == Kind::Request {
            tally::lone_request(slot);
        }
        return None;
    }
    let connection = connections::add(cookie)?;
    // SAFETY: as in `try_packet`.
    let fresh = unsafe { &mut *connection };
    fresh.slot = slot;
    fresh.role = role;
    fresh.start(kind, &Segment { seq: tcp.seq, ack: tcp.ack, len: tcp.len, now: 1 });
    Some(connection)
}

/// The target's own port and the peer's.
#[inline(always)]
fn ports(tcp: &Tcp, direction: Direction) -> (u16, u16) {
    match direction {
        Direction::Out => (tcp.source, tcp.destination),
        Direction::In => (tcp.destination, tcp.source),
    }
}

#[inline(always)]
fn slot(packet: Packet, tcp: &Tcp, connection: &Connection, direction: Direction) -> Option<u32> {
    slot_of(packet, tcp, connection.role, direction)
}

#[inline(always)]
fn slot_of(packet: Packet, tcp: &Tcp, role: u8, direction: Direction) -> Option<u32> {
    if role == connections::CALLS {
        return maps::slot(packet.cgroup(), scope::UPSTREAM);
    }
    maps::traffic_slot(packet.cgroup(), ports(tcp, direction).0)
}

/// The direction of a packet within its connection.
#[inline(always)]
fn way(connection: &Connection, direction: Direction) -> Way {
    if (connection.role == connections::SERVES) == (direction == Direction::Out) {
        Way::Responses
    } else {
        Way::Requests
    }
}

/// An end of a connection. It is forgotten when both directions have ended, or at a reset.
#[inline(always)]
fn end(connection: &mut Connection, cookie: u64, way: Way, flags: u8) {
    connection.ended |= if way == Way::Responses { 1 } else { 2 };
    if flags & RST != 0 || connection.ended == 3 {
        connections::remove(cookie);
    } else if way == Way::Responses {
        connection.finish();
    }
}

/// The steps of one program, for one protocol and one way: the verifier follows no more cases than
/// those of a part of `paramedic_protocol`.
#[inline(always)]
fn try_walk(
    ctx: &SkBuffContext,
    direction: Direction,
    protocol: u8,
    way: Way,
    most: u64,
) -> Option<()> {
    let packet = Packet::new(ctx);
    let tcp = packet.segment()?;
    let cookie = packet.cookie();
    // SAFETY: as in `try_packet`.
    let connection = unsafe { &mut *connections::find(cookie)? };
    let payload = Payload { packet, offset: tcp.payload };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let segment = Segment { seq: tcp.seq, ack: tcp.ack, len: tcp.len, now };
    let tally = tally::Tally::of(connection)?;
    let Place { mut at, round } = Place::kept(packet);
    let mut steps = 0_u64;
    while steps < most && at < segment.len {
        let (next, event) = if protocol == protocol::HTTP1 {
            paramedic_protocol::http1::step(connection, way, &segment, &payload, at)
        } else {
            paramedic_protocol::http2::step(connection, way, &segment, &payload, at)
        };
        // By way of the control block, the verifier sees one case instead of as many as led here.
        let found = Packed::of(&event);
        Place { at: next, round }.keep(packet);
        keep_event(packet, found);
        at = Place::kept(packet).at;
        tally.count(kept_event(packet));
        if connection.protocol != protocol {
            break;
        }
        // SAFETY: counts; in assembly, where the compiler cannot count in a way that the verifier
        // does not follow.
        unsafe { asm!("{steps} += 1", steps = inout(reg) steps) };
    }
    if at < segment.len && round < ROUNDS && connection.protocol != protocol::OTHER {
        Place { at, round: round + 1 }.keep(packet);
        go_on(ctx, direction, connection.protocol, way);
    }
    tally.count(Packed::of(&connection.end(way, &segment, at)));
    if tcp.flags & (FIN | RST) != 0 {
        end(connection, cookie, way, tcp.flags);
    }
    Some(())
}

/// Goes on in the program that walks this protocol and way, and comes back only if there is none.
#[inline(always)]
fn go_on(ctx: &SkBuffContext, direction: Direction, protocol: u8, way: Way) {
    let index = u32::from(protocol) * 2 + u32::from(way == Way::Responses);
    // SAFETY: nothing is left to be dropped.
    unsafe {
        match direction {
            Direction::Out => maps::EGRESS.tail_call(ctx, index),
            Direction::In => maps::INGRESS.tail_call(ctx, index),
        }
    }
}

/// Where a packet's walk stands, in its control block.
struct Place {
    at: u32,
    round: u32,
}

impl Place {
    #[inline(always)]
    fn keep(&self, packet: Packet) {
        // SAFETY: fields of the program's own context that it may write. Volatile: the next program
        // reads them.
        unsafe {
            ptr::write_volatile(&raw mut (*packet.skb).cb[0], self.at);
            ptr::write_volatile(&raw mut (*packet.skb).cb[1], self.round);
        }
    }

    #[inline(always)]
    fn kept(packet: Packet) -> Self {
        // SAFETY: as in `keep`.
        unsafe {
            Self {
                at: ptr::read_volatile(&raw const (*packet.skb).cb[0]),
                round: ptr::read_volatile(&raw const (*packet.skb).cb[1]),
            }
        }
    }
}

#[inline(always)]
fn keep_event(packet: Packet, event: Packed) {
    // SAFETY: as in `Place::keep`.
    unsafe {
        ptr::write_volatile(&raw mut (*packet.skb).cb[2], event.what);
        ptr::write_volatile(&raw mut (*packet.skb).cb[3], event.number);
    }
}

#[inline(always)]
fn kept_event(packet: Packet) -> Packed {
    // SAFETY: as in `Place::keep`.
    unsafe {
        Packed {
            what: ptr::read_volatile(&raw const (*packet.skb).cb[2]),
            number: ptr::read_volatile(&raw const (*packet.skb).cb[3]),
        }
    }
}
