//! HTTP/1.x by turns.
//!
//! Peers take turns: a client sends its next request when it has the whole response, and then its
//! packet acknowledges exactly that much. So the acknowledgement number of a request's packet is
//! the sequence number at which its response begins, and the one of a response's packet is where
//! the next request begins. That says where the messages are without a look at their bodies and
//! lengths: a body that begins like a status line is a body, a message in pieces is found at its
//! first byte, and a packet that is sent again is passed over by its sequence number. It costs a
//! comparison, where headers would cost a step for each 16 bytes of each head.
//!
//! Heads are read where turns do not suffice:
//! - of requests without a body (`GET`, `HEAD` and others), to see whether another request follows
//!   in the same packet;
//! - of responses while further requests wait, which is pipelining: the length of the body says
//!   where the next one begins (`Content-Length`, chunks, none after `HEAD`, 204 and 304);
//! - of interim responses, to find what follows.
//!
//! Where neither turns nor lengths lead to a message, the side waits until the peers take turns
//! again. Requests that are still without a response then were answered by something that was not
//! recognised: *not understood*. Not seen at all are requests behind one whose head is longer than
//! the caller's bound, or behind one with a body, in the same packet.
use crate::{
    Bytes, Event, Response, Segment, Way,
    connection::{Connection, protocol},
    hpack, http2,
    open::{OPEN, Open},
    side::Side,
    window::{Window, begins, word},
};

/// In the body of a message, until it is this side's turn again. The initial mode.
const BODY: u8 = 0;
/// A message begins at `next`.
pub(crate) const LINE: u8 = 1;
/// A header line begins at `next`.
const HEADER: u8 = 2;
/// Within a header line.
const WITHIN: u8 = 3;
/// In the value of `Content-Length`.
const LENGTH: u8 = 4;
/// In a line with a chunk's size.
const CHUNK: u8 = 5;
/// Behind a chunk's size in its line.
const CHUNK_END: u8 = 6;
/// A request that turned up where nobody waited for it: only a known method is one.
const DOUBTFUL: u8 = 7;

/// `Content-Length` was seen.
const SIZED: u8 = 1;
/// `Transfer-Encoding` was seen.
const CHUNKED: u8 = 2;
/// The lines are a trailer.
const TRAILER: u8 = 4;
/// `Upgrade: h2c` was seen.
const H2C: u8 = 8;
/// The body has no end but that of the connection, or is too long to find it.
const ENDLESS: u8 = 16;

/// What the head of a response says of its body, in `Side::status`.
const ORDINARY: u8 = 0;
const BODILESS: u8 = 1;
const INTERIM: u8 = 2;
const UPGRADE: u8 = 3;

/// Kinds of requests, in the last bits of `Open::id`; the others are 0.
const HEAD: u32 = 1;
const CONNECT: u32 = 2;

/// Bytes that identify a response: `HTTP/1.1 200`.
const STATUS_LINE: u32 = 12;
/// A longer body cannot be told from a shorter one by sequence numbers.
const LONGEST: u32 = 1 << 30;

/// Whether the last request's head was begun and has not ended.
#[inline(always)]
pub(crate) const fn is_in_head(requests: &Side) -> bool {
    matches!(requests.mode, HEADER | WITHIN | LENGTH)
}

/// Whether the last request's body comes in crumbs: in some pieces of a few bytes.
#[inline(always)]
pub(crate) const fn comes_in_crumbs(requests: &Side) -> bool {
    const SOME: u32 = 4;
    const FEW: u32 = 64;
    let bytes = requests.next.wrapping_sub(requests.floor);
    // The first packet, with the head, does not count as a piece, but its bytes count here.
    requests.left >= SOME && bytes / requests.left < FEW
}

/// Whether 12 bytes begin a response.
#[inline(always)]
pub(crate) const fn is_status_line(high: u64, low: u32) -> bool {
    let [space, class, tens, ones] = low.to_be_bytes();
    high >> 8 == word(b"HTTP/1.") >> 8
        && (high as u8).is_ascii_digit()
        && space == b' '
        && class.wrapping_sub(b'1') < 5
        && tens.is_ascii_digit()
        && ones.is_ascii_digit()
}

/// Whether 8 bytes begin a request with one of the usual methods.
#[inline(always)]
pub(crate) const fn is_known_request(high: u64) -> bool {
    // Most packets that are not requests leave at the first letter.
    match (high >> 56) as u8 {
        b'G' => begins(high, b"GET "),
        b'P' => begins(high, b"POST ") || begins(high, b"PUT ") || begins(high, b"PATCH "),
        b'H' => begins(high, b"HEAD "),
        b'D' => begins(high, b"DELETE "),
        b'O' => begins(high, b"OPTIONS "),
        b'C' => begins(high, b"CONNECT "),
        b'T' => begins(high, b"TRACE "),
        _ => false,
    }
}

/// Whether the first `len` bytes, fewer than 8, may begin such a request.
#[inline(always)]
pub(crate) const fn may_become_request(high: u64, len: u32) -> bool {
    const METHODS: [u64; 10] = [
        word(b"PRI * HT"),
        word(b"GET "),
        word(b"POST "),
        word(b"PUT "),
        word(b"PATCH "),
        word(b"HEAD "),
        word(b"DELETE "),
        word(b"OPTIONS "),
        word(b"CONNECT "),
        word(b"TRACE "),
    ];
    if len == 0 || len > 7 {
        return false;
    }
    let mut index = 0;
    let mut found = false;
    while index < METHODS.len() {
        found |= (high ^ METHODS[index]) >> (64 - 8 * len) == 0;
        index += 1;
    }
    found
}

#[inline(always)]
pub(crate) fn begin<B: Bytes + ?Sized>(
    connection: &mut Connection,
    way: Way,
    segment: &Segment,
    bytes: &B,
) -> (Option<u32>, Event) {
    match way {
        Way::Requests => (begin_request(connection, segment, bytes), Event::Nothing),
        Way::Responses => begin_response(connection, segment),
    }
}

/// The offset of `next` in the segment.
#[inline(always)]
fn offset(side: &Side, segment: &Segment) -> Option<u32> {
    let at = side.next.wrapping_sub(segment.seq);
    (at < segment.len).then_some(at)
}

/// Whether `seq` is behind `other`.
#[inline(always)]
const fn is_behind(seq: u32, other: u32) -> bool {
    (seq.wrapping_sub(other) as i32) > 0
}

#[inline(always)]
fn begin_request<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
) -> Option<u32> {
    let waiting = connection.asked != connection.answered;
    let turn = connection.responses.turn;
    let side = &mut connection.requests;
    if side.mode != BODY {
        if !is_behind(segment.seq, side.next) {
            return offset(side, segment);
        }
        // Bytes are missing.
        side.mode = BODY;
        side.held = 0;
    }
    if waiting {
        take_body(side, segment, bytes);
        return None;
    }
    if is_behind(segment.seq, turn) {
        if !is_behind(segment.seq, side.floor) {
            return None;
        }
        // The response did not wait for the end of the request, or bytes are missing.
        side.mode = DOUBTFUL;
        side.next = segment.seq;
        return Some(0);
    }
    side.next = turn;
    let at = offset(side, segment)?;
    side.mode = LINE;
    Some(at)
}

/// More of a request's body: the server owes a response from its last piece on.
#[inline(always)]
fn take_body<B: Bytes + ?Sized>(side: &mut Side, segment: &Segment, bytes: &B) {
    let end = segment.seq.wrapping_add(segment.len);
    if side.has(SIZED | CHUNKED) && is_behind(end, side.next) {
        side.next = end;
        side.left = side.left.wrapping_add(1);
        side.frame = bytes.now();
    }
}

#[inline(always)]
fn begin_response(connection: &mut Connection, segment: &Segment) -> (Option<u32>, Event) {
    let waiting = connection.asked.wrapping_sub(connection.answered);
    let newest = connection.requests.turn;
    let oldest = connection.open[connection.answered as usize % OPEN];
    let side = &mut connection.responses;
    if side.mode != BODY {
        if !is_behind(segment.seq, side.next) {
            return (offset(side, segment), Event::Nothing);
        }
        // Bytes are missing.
        side.mode = BODY;
        side.held = 0;
        side.floor = segment.seq.wrapping_sub(1);
    }
    if waiting == 0 {
        return (None, Event::Nothing);
    }
    let mut taken_over = false;
    if oldest.at != 0
        && oldest.id >> 2 == connection.answered & (u32::MAX >> 2)
        && is_behind(oldest.turn, side.floor)
    {
        side.next = oldest.turn;
    } else if is_behind(newest, side.floor) {
        side.next = newest;
        taken_over = true;
    } else {
        return (None, Event::Nothing);
    }
    if is_behind(segment.seq, side.next) {
        // Its begin was not seen.
        side.floor = segment.seq;
        return (None, Event::Nothing);
    }
    let Some(at) = offset(side, segment) else { return (None, Event::Nothing) };
    side.mode = LINE;
    if !taken_over {
        return (Some(at), Event::Nothing);
    }
    // The requests of the newest turn remain.
    let mut remain = 0;
    let mut index = 0;
    while index < 16 {
        let open = &mut connection.open[index];
        if open.turn != newest {
            open.at = 0;
        } else if open.at != 0 {
            remain += 1;
        }
        index += 1;
    }
    if remain == 0 || remain > waiting {
        remain = 1;
    }
    connection.answered = connection.asked.wrapping_sub(remain);
    (Some(at), Event::NotUnderstood(waiting - remain))
}

/// One step of a connection in HTTP/1; see [`Connection::step`].
#[inline(always)]
pub fn step<B: Bytes + ?Sized>(
    connection: &mut Connection,
    way: Way,
    segment: &Segment,
    bytes: &B,
    at: u32,
) -> (u32, Event) {
    let more = segment.len.wrapping_sub(at);
    let side = connection.side(way);
    // Where the window begins; before the segment, if something was carried.
    side.value = at.wrapping_sub(u32::from(side.held) & 15);
    let Some(window) = Window::read(side, bytes, at, more) else {
        return lose(side, segment);
    };
    // Until a step finds that it has not seen enough.
    side.held = 0;
    let is_request = way == Way::Requests && (side.mode == LINE || side.mode == DOUBTFUL);
    let sought = if is_request { b' ' } else { b'\n' };
    side.used = window.find(sought).unwrap_or(NOWHERE);
    bytes.settle(side);
    let (mode, found, begin) = (side.mode, side.used, side.value);
    match mode {
        LINE | DOUBTFUL => match way {
            Way::Requests => return request(connection, segment, &window, bytes, found),
            Way::Responses => return response(connection, segment, &window, bytes, found),
        },
        HEADER => header(side, &window, found),
        WITHIN if found == NOWHERE => {
            // In the window there is none: as far as it reaches, the line goes on.
            let behind = begin.wrapping_add(window.len);
            side.used = match bytes.line_feed(behind) {
                Some(end) => {
                    side.mode = HEADER;
                    end.wrapping_sub(begin).wrapping_add(1) & !FLAGS
                }
                None => window.len,
            };
        }
        WITHIN => side.used = line(side, &window, found),
        LENGTH | CHUNK | CHUNK_END => digit(side, window.byte(0)),
        _ => return (segment.len, Event::Nothing),
    }
    bytes.settle(side);
    let (used, flags) = (side.used & !FLAGS, side.used & FLAGS);
    if flags == CUT {
        return (carry(side, segment, &window), Event::Nothing);
    }
    if flags == BAD {
        return lose(side, segment);
    }
    let at = begin.wrapping_add(used);
    if flags == CHUNK_BEGIN {
        // Behind the chunk's data is an empty line.
        let at = at.wrapping_add(2).wrapping_add(side.left);
        side.left = 0;
        return (at, Event::Nothing);
    }
    if flags != HEAD_END {
        return (at, Event::Nothing);
    }
    match way {
        Way::Requests => {
            if side.has(SIZED | CHUNKED) {
                side.mode = BODY;
                return (segment.len, Event::Nothing);
            }
            side.mode = LINE;
            (at, Event::Nothing)
        }
        Way::Responses => (body(connection, segment, at), Event::Nothing),
    }
}

/// What a step found, in `Side::used`, together with the bytes of the window that it used: the head
/// or trailer ends behind them.
const HEAD_END: u32 = 1 << 8;
/// A chunk begins behind them.
const CHUNK_BEGIN: u32 = 2 << 8;
/// The segment cuts what the step must see whole.
const CUT: u32 = 3 << 8;
/// It is not what it should be.
const BAD: u32 = 4 << 8;
const FLAGS: u32 = 7 << 8;
/// Not found within the window.
const NOWHERE: u32 = 99;

/// Keeps a window that the segment has cut.
#[inline(always)]
const fn carry(side: &mut Side, segment: &Segment, window: &Window) -> u32 {
    side.held = (window.len & 15) as u8;
    segment.len
}

/// Waits for this side's turn.
#[inline(always)]
const fn lose(side: &mut Side, segment: &Segment) -> (u32, Event) {
    side.mode = BODY;
    side.held = 0;
    (segment.len, Event::Nothing)
}

/// A request's first line.
#[inline(always)]
fn request<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    window: &Window,
    bytes: &B,
    space: u32,
) -> (u32, Event) {
    let side = &mut connection.requests;
    let begin = side.value;
    let first = window.byte(0);
    // Some clients end a body with an additional empty line.
    if first == b'\r' || first == b'\n' {
        return (begin.wrapping_add(1), Event::Nothing);
    }
    if begins(window.high, b"PRI * HT") {
        connection.become_http2();
        connection.responses.next = segment.ack;
        connection.responses.mode = http2::SYNCED;
        connection.requests.next = segment.seq.wrapping_add(begin).wrapping_add(24);
        connection.requests.mode = http2::SYNCED;
        return (begin.wrapping_add(24), Event::Nothing);
    }
    let is_cut = space == NOWHERE || window.len < 8 && begins(window.high, b"PRI ");
    if is_cut && window.len < 16 && side.mode == LINE && first.is_ascii_uppercase() {
        return (carry(side, segment, window), Event::Nothing);
    }
    side.byte = method(window.high, space);
    bytes.settle(side);
    let (mode, method) = (side.mode, side.byte);
    // The rest of a body whose response did not wait for it.
    let may_be_body = side.has(SIZED | CHUNKED);
    if mode == DOUBTFUL && method & KNOWN == 0 || may_be_body && method == 0 {
        return lose(side, segment);
    }
    let begin = side.value;
    side.floor = segment.seq.wrapping_add(begin);
    side.turn = segment.ack;
    side.flags = 0;
    side.left = 0;
    side.frame = 0;
    if method & NO_BODY != 0 {
        side.value = begin.wrapping_add(first_line(side, window));
    } else {
        side.flags = SIZED;
        side.mode = BODY;
        side.value = segment.len;
    }
    bytes.settle(side);
    let at = side.value;
    let number = connection.asked;
    connection.asked = number.wrapping_add(1);
    if method == 0 {
        // Whatever it is, something may answer it.
        return (at, Event::NotUnderstood(1));
    }
    let id = number << 2 | u32::from(method & KIND);
    let timed = connection.note(number, Open { at: bytes.now(), id, turn: segment.ack });
    (at, Event::Requests { count: 1, timed })
}

/// What [`method`] tells: the kind of the request, in its last bits.
const KIND: u8 = 3;
/// One of the usual methods.
const KNOWN: u8 = 4;
/// Nothing usually follows the head.
const NO_BODY: u8 = 8;
/// A method.
const METHOD: u8 = 16;

/// Of a first line with this begin and its first space there; 0 if it begins with no method.
#[inline(always)]
const fn method(high: u64, space: u32) -> u8 {
    if !is_known_request(high) {
        return if is_token(high, space) { METHOD | NO_BODY } else { 0 };
    }
    match (high >> 56) as u8 {
        b'P' => METHOD | KNOWN,
        b'C' => METHOD | KNOWN | CONNECT as u8,
        b'H' => METHOD | KNOWN | NO_BODY | HEAD as u8,
        _ => METHOD | KNOWN | NO_BODY,
    }
}

/// Whether the bytes before `space` can be a method.
#[inline(always)]
const fn is_token(high: u64, space: u32) -> bool {
    const UPPER: u64 = 0x4040_4040_4040_4040;
    const BITS: u64 = 0xe0e0_e0e0_e0e0_e0e0;
    if space < 3 || space == NOWHERE {
        return false;
    }
    // Longer ones are told by their first letters; `VERSION-CONTROL` has seven.
    let count = if space < 7 { space } else { 7 };
    ((high ^ UPPER) & BITS) >> (64 - 8 * count) == 0
}

/// A response's first line. Without a reason it ends within the window, at `end`.
#[inline(always)]
fn response<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    window: &Window,
    bytes: &B,
    end: u32,
) -> (u32, Event) {
    let side = &mut connection.responses;
    if window.len < STATUS_LINE {
        // As many bytes as there are must be those of a status line.
        let count = if window.len < 7 { window.len } else { 7 };
        let differ = window.high ^ word(b"HTTP/1.");
        if differ >> (64 - 8 * count) == 0 {
            return (carry(side, segment, window), Event::Nothing);
        }
    }
    side.floor = segment.seq.wrapping_add(side.value);
    if window.len < STATUS_LINE || !is_status_line(window.high, (window.low >> 32) as u32) {
        return lose(side, segment);
    }
    let [_, class, tens, ones] = ((window.low >> 32) as u32).to_be_bytes();
    side.byte = hpack::status_of(class, tens, ones);
    side.flags = 0;
    side.status = match (class, tens, ones) {
        (b'1', b'0', b'1') => UPGRADE,
        (b'1', ..) => INTERIM,
        (b'2' | b'3', b'0', b'4') => BODILESS,
        _ => ORDINARY,
    };
    side.value = side.value.wrapping_add(line(side, window, end));
    bytes.settle(side);
    let (status, behind, is_success) = (side.byte, side.value, side.byte == 2);
    let mut answer = Response { stream: 0, status, grpc: 0, waited: 0 };
    if side.status >= INTERIM {
        return (behind, Event::Response(answer));
    }
    side.turn = segment.ack;
    let number = connection.answered;
    let whole_at = connection.requests.frame;
    let open = &mut connection.open[number as usize % OPEN];
    let waiting = connection.asked != number;
    if waiting {
        connection.answered = number.wrapping_add(1);
        if open.at != 0 && open.id >> 2 == number & (u32::MAX >> 2) {
            let is_last = connection.asked.wrapping_sub(number) == 1;
            let since = if is_last && whole_at != 0 { whole_at } else { open.at };
            answer.waited = bytes.now().wrapping_sub(since).max(1);
            open.at = 0;
            let kind = open.id & 3;
            if kind == HEAD {
                side.status = BODILESS;
            }
            if kind == CONNECT && is_success {
                connection.protocol = protocol::OTHER;
                connection.forget();
                return (segment.len, Event::Response(answer));
            }
        }
    }
    if connection.asked == connection.answered {
        connection.responses.mode = BODY;
        return (segment.len, Event::Response(answer));
    }
    (behind, Event::Response(answer))
}

/// Behind the head of a response: where the next message begins.
#[inline(always)]
fn body(connection: &mut Connection, segment: &Segment, at: u32) -> u32 {
    let side = &mut connection.responses;
    side.mode = LINE;
    if side.has(TRAILER) || side.status == INTERIM || side.status == BODILESS {
        return at;
    }
    if side.status == UPGRADE {
        if connection.requests.has(H2C) {
            connection.upgrade(segment.seq.wrapping_add(at));
            return at;
        }
        connection.protocol = protocol::OTHER;
        connection.forget();
        return segment.len;
    }
    if side.has(CHUNKED) {
        side.mode = CHUNK;
        side.left = 0;
        return at;
    }
    if side.has(SIZED) && side.left < LONGEST {
        return at.wrapping_add(side.left);
    }
    side.set(ENDLESS);
    side.mode = BODY;
    segment.len
}

/// Where to look at what a server writes, whose requests are not seen; see [`crate::written`].
#[inline(always)]
pub(crate) fn begin_written<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
) -> (Option<u32>, Event) {
    let side = &mut connection.responses;
    let at = offset(side, segment);
    // No chunk begins like a response: the response before it was one without a body, to `HEAD`.
    let is_chunk = side.mode == CHUNK && side.left == 0 && at == Some(0);
    if side.mode != BODY && !is_chunk {
        return (at, Event::Nothing);
    }
    if !begins_response(segment, bytes) {
        return (at.filter(|_| is_chunk), Event::Nothing);
    }
    if side.mode == BODY && side.has(ENDLESS) {
        return (None, Event::NotUnderstood(1));
    }
    side.mode = LINE;
    side.next = segment.seq;
    side.held = 0;
    (Some(0), Event::Nothing)
}

/// Whether a segment begins with a status line.
#[inline(always)]
pub(crate) fn begins_response<B: Bytes + ?Sized>(segment: &Segment, bytes: &B) -> bool {
    if segment.len < STATUS_LINE {
        return false;
    }
    let Some((high, low)) = bytes.load(0, STATUS_LINE) else { return false };
    is_status_line(high, (low >> 32) as u32)
}

/// Whether the next response's begin is not known, although there may be one.
#[inline(always)]
pub(crate) const fn is_lost(side: &Side) -> bool {
    side.mode == BODY && !side.has(ENDLESS)
}

/// The begin of a header line, whose end is at `end`.
#[inline(always)]
fn header(side: &mut Side, window: &Window, end: u32) {
    /// Makes letters lower-case, and changes no other byte that matters here into a letter.
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let first = window.byte(0);
    let (high, low) = (window.high | LOWER, window.low | LOWER);
    side.used = if first == b'\n' {
        HEAD_END | 1
    } else if first == b'\r' {
        if window.len < 2 { CUT } else { HEAD_END | 2 }
    } else if end != NOWHERE {
        if high == word(b"upgrade:") && window.low >> 32 == word(b" h2c") >> 32 {
            side.set(H2C);
        }
        end + 1
    } else if window.len < 16 {
        CUT
    } else if high == word(b"content-") && low >> 8 == word(b"length:") >> 8 {
        side.set(SIZED);
        side.left = 0;
        side.mode = LENGTH;
        15
    } else {
        if high == word(b"transfer") && low == word(b"-encodin") {
            side.set(CHUNKED);
        }
        side.mode = WITHIN;
        16
    };
}

/// Passes over a line that has begun and ends at `end`: the bytes used.
#[inline(always)]
const fn line(side: &mut Side, window: &Window, end: u32) -> u32 {
    if end == NOWHERE {
        side.mode = WITHIN;
        return window.len;
    }
    side.mode = HEADER;
    end + 1
}

/// Passes over a request's first line that begins with the window.
#[inline(always)]
fn first_line(side: &mut Side, window: &Window) -> u32 {
    // `GET / HTTP/1.1` ends with the window; what is shorter is as good as not there.
    let end = if window.low as u8 == b'\n' && window.len == 16 { 15 } else { NOWHERE };
    line(side, window, end)
}

/// One byte of a number.
#[inline(always)]
const fn digit(side: &mut Side, byte: u8) {
    side.used = 1;
    if side.mode == LENGTH {
        if byte.is_ascii_digit() {
            // Too long remains too long.
            if side.left < LONGEST {
                side.left = side.left.wrapping_mul(10).wrapping_add((byte - b'0') as u32);
            }
        } else if byte == b'\n' {
            side.mode = HEADER;
        } else if byte != b' ' && byte != b'\t' {
            side.mode = WITHIN;
        }
        return;
    }
    if byte == b'\n' {
        if side.left != 0 {
            side.mode = CHUNK;
            side.used = CHUNK_BEGIN | 1;
        } else {
            side.set(TRAILER);
            side.mode = HEADER;
        }
        return;
    }
    if side.mode == CHUNK_END || byte == b'\r' {
        return;
    }
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b';' | b' ' | b'\t' => {
            side.mode = CHUNK_END;
            return;
        }
        _ => {
            side.used = BAD;
            return;
        }
    };
    if side.left >= LONGEST >> 4 {
        side.used = BAD;
        return;
    }
    side.left = side.left << 4 | digit as u32;
}

#[inline(always)]
pub(crate) fn end(connection: &mut Connection, way: Way, segment: &Segment, at: u32) -> Event {
    let side = connection.side(way);
    if at < segment.len {
        // The bound was reached: the turns say where it goes on.
        side.mode = BODY;
        side.held = 0;
    }
    side.next = segment.seq.wrapping_add(at);
    Event::Nothing
}
