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
//! The programs let every packet pass.
use agent_common::scope;
use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use paramedic_protocol::{Bytes as _, Connection, Event, Kind, Packed, Segment, Way};

use crate::{
    connections, maps,
    packet::{Ahead, FIN, Packet, Payload, RST, Tcp},
    tally,
    walk::{self, Walk},
};

const PASS: i32 = 1;

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
        let segment = Segment { seq: tcp.seq, ack: tcp.ack, len: tcp.len };
        let (at, event) = connection.begin(way, &segment, &payload);
        if let Event::NotUnderstood(count) = event {
            tally::not_understood(connection, count);
        }
        if let Some(at) = at {
            let mut walk = Walk {
                seq: tcp.seq,
                ack: tcp.ack,
                len: tcp.len,
                payload: tcp.payload,
                at,
                responses: u32::from(way == Way::Responses),
                found: Packed::default(),
                ahead: Ahead::default(),
            };
            walk::walk(packet.skb, connection, &raw mut walk);
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
    let slot = slot(packet, tcp, role, direction)?;
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
    fresh.start(kind, &Segment { seq: tcp.seq, ack: tcp.ack, len: tcp.len });
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
fn slot(packet: Packet, tcp: &Tcp, role: u8, direction: Direction) -> Option<u32> {
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

/// An end of a connection, which is forgotten when both directions have ended, or at a reset. What
/// waits for a response gets none if the target ends, or if the client resets. After the client's
/// end alone the response may still come.
#[inline(always)]
fn end(connection: &mut Connection, cookie: u64, way: Way, flags: u8) {
    let by_target = way == Way::Responses;
    let client_has_ended = connection.ended & 2 != 0;
    let reset = flags & RST != 0;
    if by_target || reset {
        walk::unanswered(connection, u32::from(!by_target || client_has_ended));
    }
    connection.ended |= if by_target { 1 } else { 2 };
    if reset || connection.ended == 3 {
        connections::remove(cookie);
    }
}
