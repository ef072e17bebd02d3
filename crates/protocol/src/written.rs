//! Follows what a server writes, where its requests are not seen: the plaintext that goes into TLS.
//!
//! There are no packets: a segment is what one call has written, and its sequence number is the
//! count of the bytes before it. There are no turns either. In HTTP/1 each response is read as if
//! more requests waited, so that the length of its body says where the next one begins. That fails
//! where the length alone does not tell: behind a response to `HEAD`, and where a body lasts until
//! the end of the connection. Then nothing is counted, and the loss is told, until a call begins
//! with a status line where no body can be. Frames of HTTP/2 need no requests.
//!
//! A client's connection is recognised by its first bytes, or by the fields of its requests, and
//! not counted.
use crate::{
    Bytes, Connection, Event, Kind, Segment, Side, Way, connection::protocol, http1, http2,
};

/// The segment of a call that has written `len` bytes.
#[must_use]
#[inline(always)]
pub const fn segment(connection: &Connection, len: u32) -> Segment {
    // Nothing else is known of that side.
    Segment { seq: connection.requests.next, ack: 0, len }
}

/// Prepares an all-zero connection for its first call, of which [`Kind::of`] said what it begins
/// with.
#[inline(always)]
pub const fn start(connection: &mut Connection, kind: Kind) {
    match kind {
        Kind::Response => connection.responses.mode = http1::LINE,
        Kind::Frames => connection.protocol = protocol::HTTP2,
        Kind::Request | Kind::Preface => connection.protocol = protocol::OTHER,
    }
}

/// Begins with a call: the offset to look at first, and what it shows to have been missed.
#[inline(always)]
pub fn begin<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
) -> (Option<u32>, Event) {
    match connection.protocol {
        protocol::HTTP1 => http1::begin_written(connection, segment, bytes),
        protocol::HTTP2 => {
            let at = http2::begin(connection, Way::Responses, segment, bytes);
            let is_lost = connection.responses.mode != http2::SYNCED;
            if is_lost && http1::begins_response(segment, bytes) {
                // What was taken for frames was the middle of a body.
                connection.protocol = protocol::HTTP1;
                connection.responses =
                    Side { next: segment.seq, mode: http1::LINE, ..Side::default() };
                return (Some(0), Event::Nothing);
            }
            (at, Event::Nothing)
        }
        _ => (None, Event::Nothing),
    }
}

/// One step through HTTP/1, as [`Connection::step`].
#[inline(always)]
pub fn http1<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
    at: u32,
) -> (u32, Event) {
    // This one and another.
    connection.asked = connection.answered.wrapping_add(2);
    http1::step(connection, Way::Responses, segment, bytes, at)
}

/// One step through HTTP/2.
#[inline(always)]
pub fn http2<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
    at: u32,
) -> (u32, Event) {
    http2::step(connection, Way::Responses, segment, bytes, at)
}

/// Ends a walk that [`begin`] began.
#[inline(always)]
pub fn end(connection: &mut Connection, segment: &Segment, at: u32) -> Event {
    let event = connection.end(Way::Responses, segment, at);
    if connection.protocol == protocol::HTTP1 && http1::is_lost(&connection.responses) {
        return Event::NotUnderstood(1);
    }
    event
}

/// Passes over what was written, whether it was looked at or not.
#[inline(always)]
pub const fn pass(connection: &mut Connection, segment: &Segment) {
    connection.requests.next = segment.seq.wrapping_add(segment.len);
}
