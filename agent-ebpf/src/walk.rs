//! The walk through a packet, in functions that the verifier checks once each.
//!
//! A global function of BPF is verified on its own, for all arguments that it may get, and a call
//! of it costs the verifier a few instructions. So a packet may take hundreds of steps and the
//! programs still load in milliseconds, where inlined steps multiply their cases with each other.
//! Kernels from 5.12 on permit pointers to memory as arguments.
//!
//! What such a function finds is in [`Walk`], of which the verifier assumes nothing afterwards.
use aya_ebpf::bindings::__sk_buff;
use paramedic_protocol::{
    Connection, Event, OPEN, Packed, Segment, Way, connection::protocol, http1, http2, latency,
};

use crate::{
    packet::{Ahead, Buffered, Packet, Payload, now},
    tally::Tally,
};

/// Steps through requests of HTTP/1 in one packet: no ordinary client sends a head of hundreds of
/// lines, and a walk through one costs this machine more than it costs the sender.
const HEAD_STEPS: u32 = 256;
/// Steps through one packet. In captures of 20 servers two connections in 96 had longer walks, up to
/// 1,729 steps: 170 small frames that the kernel put into one segment. The verifier follows each
/// round of the loop.
const STEPS: u32 = 1024;

/// A walk through the payload of one packet.
#[repr(C)]
pub struct Walk {
    /// Of the segment: its sequence number.
    pub seq: u32,
    /// Of the segment: its acknowledgement number.
    pub ack: u32,
    /// Of the segment: length of its payload.
    pub len: u32,
    /// Offset of the payload in the packet.
    pub payload: u32,
    /// Where in the payload the walk stands.
    pub at: u32,
    /// 1 on the way of responses.
    pub responses: u32,
    /// What the last step found.
    pub found: Packed,
    /// What was copied of the payload.
    pub ahead: Ahead,
}

const _: () = assert!(size_of::<Walk>() == 32 + 120, "no padding");

impl Walk {
    #[inline(always)]
    fn segment(&self) -> Segment {
        Segment { seq: self.seq, ack: self.ack, len: self.len }
    }

    #[inline(always)]
    fn way(&self) -> Way {
        if self.responses != 0 { Way::Responses } else { Way::Requests }
    }
}

/// Walks through the packet from where the walk stands, and counts what is found.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk(skb: *mut __sk_buff, connection: *mut Connection, walk: *mut Walk) -> u32 {
    // SAFETY: the verifier checks that every caller passes whole values or null.
    let (Some(all), Some(state)) = (unsafe { connection.as_mut() }, unsafe { walk.as_mut() })
    else {
        return 0;
    };
    let is_head = all.protocol == protocol::HTTP1 && state.responses == 0;
    let most = if is_head { HEAD_STEPS } else { STEPS };
    let mut steps = 0;
    while steps < most && state.at < state.len {
        if step(skb, &raw mut *all, &raw mut *state) == 0 {
            break;
        }
        steps += 1;
    }
    let event = all.end(state.way(), &state.segment(), state.at);
    state.found = Packed::of(&event);
    if state.found.what != Packed::NOTHING {
        count(&raw const *all, state.found.what, state.found.number);
    }
    0
}

/// Takes one step and counts what it finds; 0 if the connection is no HTTP any more.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step(skb: *mut __sk_buff, connection: *mut Connection, walk: *mut Walk) -> u32 {
    // SAFETY: as in `walk`.
    let (Some(all), Some(state)) = (unsafe { connection.as_mut() }, unsafe { walk.as_mut() })
    else {
        return 0;
    };
    match (all.protocol, state.way()) {
        (protocol::HTTP1, Way::Requests) => http1_request(skb, &raw mut *all, &raw mut *state),
        (protocol::HTTP1, Way::Responses) => http1_response(skb, &raw mut *all, &raw mut *state),
        (protocol::HTTP2, Way::Requests) => http2_request(skb, &raw mut *all, &raw mut *state),
        (protocol::HTTP2, Way::Responses) => http2_response(skb, &raw mut *all, &raw mut *state),
        _ => return 0,
    };
    if state.found.what != Packed::NOTHING {
        count(&raw const *all, state.found.what, state.found.number);
    }
    1
}

/// Counts what a step found: the two words of a [`Packed`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count(connection: *const Connection, what: u32, number: u32) -> u32 {
    // SAFETY: as in `walk`.
    let Some(connection) = (unsafe { connection.as_ref() }) else { return 0 };
    if let Some(tally) = Tally::of(connection) {
        tally.count(Packed { what, number });
    }
    0
}

/// Counts the requests that get no response because the connection ends: all, as dropped by the
/// target or, if `given_up` is not 0, as given up by the client.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unanswered(connection: *mut Connection, given_up: u32) -> u32 {
    // SAFETY: as in `walk`.
    let Some(all) = (unsafe { connection.as_mut() }) else { return 0 };
    let Some(tally) = Tally::of(all) else { return 0 };
    let now = now();
    let mut index = 0;
    while index < OPEN {
        let began = all.waits(index);
        if began != 0 && given_up != 0 {
            tally.given_up(latency::age(now.wrapping_sub(began)) as u32);
        } else if began != 0 {
            tally.dropped();
        }
        index += 1;
    }
    all.finish();
    0
}

/// One step through requests of HTTP/1.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn http1_request(
    skb: *mut __sk_buff,
    connection: *mut Connection,
    walk: *mut Walk,
) -> u32 {
    one(skb, connection, walk, |connection, segment, payload, at| {
        http1::step(connection, Way::Requests, segment, payload, at)
    })
}

/// One step through responses of HTTP/1.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn http1_response(
    skb: *mut __sk_buff,
    connection: *mut Connection,
    walk: *mut Walk,
) -> u32 {
    one(skb, connection, walk, |connection, segment, payload, at| {
        http1::step(connection, Way::Responses, segment, payload, at)
    })
}

/// One step through requests of HTTP/2.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn http2_request(
    skb: *mut __sk_buff,
    connection: *mut Connection,
    walk: *mut Walk,
) -> u32 {
    one(skb, connection, walk, |connection, segment, payload, at| {
        http2::step(connection, Way::Requests, segment, payload, at)
    })
}

/// One step through responses of HTTP/2.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn http2_response(
    skb: *mut __sk_buff,
    connection: *mut Connection,
    walk: *mut Walk,
) -> u32 {
    one(skb, connection, walk, |connection, segment, payload, at| {
        http2::step(connection, Way::Responses, segment, payload, at)
    })
}

#[inline(always)]
fn one(
    skb: *mut __sk_buff,
    connection: *mut Connection,
    walk: *mut Walk,
    step: impl FnOnce(&mut Connection, &Segment, &Buffered<Payload>, u32) -> (u32, Event),
) -> u32 {
    // SAFETY: as in `walk`.
    let (Some(connection), Some(walk)) = (unsafe { connection.as_mut() }, unsafe { walk.as_mut() })
    else {
        return 0;
    };
    let payload = Buffered {
        source: Payload { packet: Packet { skb }, offset: walk.payload },
        len: walk.len,
        ahead: &raw mut walk.ahead,
    };
    let (at, event) = step(connection, &walk.segment(), &payload, walk.at);
    walk.at = at;
    walk.found = Packed::of(&event);
    0
}
