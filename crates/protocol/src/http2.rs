//! HTTP/2: frames by sequence number, and header blocks by their integers and lengths.
//!
//! Of the dynamic table nothing is kept but a ring of one-byte tags: what each of the last 128
//! insertions says of a status. An index is resolved by counting insertions back; evictions do not
//! matter, since an evicted entry cannot be referred to.
//!
//! A connection that is seen from its begin is followed exactly. One that is met later starts at
//! the first segment that begins with a frame, and does not know what the table held before: a
//! reference to that is *unknown*. Lost or reordered segments end the following until then; they
//! never lead to a wrong count.
use crate::{
    Bytes, Connection, Event, Response, Segment, Way,
    connection::{RING, protocol},
    hpack::{
        BAD, CUT, GRPC, GRPC_UNKNOWN, NONE, Name, OTHER, STATUS_UNKNOWN, grpc_tag, integer,
        is_status, name, static_tag, status_tag,
    },
    open::{OPEN, Open},
    side::Side,
    window::{Window, behind, word},
};

/// Modes of a side: not synchronised (the initial one), or at a known place.
pub(crate) const SYNCED: u8 = 1;

const DATA: u32 = 0;
const HEADERS: u32 = 1;
const PRIORITY: u32 = 2;
const RST_STREAM: u32 = 3;
const SETTINGS: u32 = 4;
const PUSH_PROMISE: u32 = 5;
const PING: u32 = 6;
const GOAWAY: u32 = 7;
const WINDOW_UPDATE: u32 = 8;
const CONTINUATION: u32 = 9;

/// Flags of frames.
const END_STREAM: u32 = 1;
const END_HEADERS: u32 = 4;
const PADDED: u32 = 8;
const PRIORITISED: u32 = 0x20;

/// Flags of a side: in a header block.
const BLOCK: u8 = 1;
/// The block ends with its present frame.
const LAST: u8 = 2;
/// No field of the block was seen yet.
const FIRST: u8 = 4;
/// The block is not counted.
const MUTED: u8 = 8;
/// What was taken for a frame is not confirmed by the next one yet.
const TENTATIVE: u8 = 16;
/// The stream ends with the block.
const END: u8 = 128;
/// Within a field: at its name, which is written out.
const NAME: u8 = 32;
/// Within a field: at its value.
const VALUE: u8 = 64;

/// The entries of the static table with which a request begins: `:authority` to `:scheme`. Where
/// only one direction is seen, as of TLS, it may be a client's.
const REQUEST_FIRST: u32 = 1;
const REQUEST_LAST: u32 = 7;

/// What a field is about, in `Side::field`.
const ABOUT_OTHER: u8 = 0;
const ABOUT_STATUS: u8 = 1;
const ABOUT_GRPC: u8 = 2;

/// The tag of an entry from before the connection was seen, or too long ago.
const UNRESOLVED: u8 = 255;

/// In `Side::used`: the frame gave up a stream without a response.
const DROPS: u32 = u32::MAX - 2;

/// Bytes of a frame's header.
const HEADER: u32 = 9;
/// Bytes of a client's preface.
const PREFACE: u32 = 24;

/// A frame's header.
#[derive(Clone, Copy)]
struct Frame {
    length: u32,
    kind: u32,
    flags: u32,
    stream: u32,
}

impl Frame {
    #[inline(always)]
    const fn of(high: u64, last: u8) -> Self {
        Self {
            length: (high >> 40) as u32,
            kind: (high >> 32) as u32 & 0xff,
            flags: (high >> 24) as u32 & 0xff,
            stream: (high as u32 & 0xff_ffff) << 8 | last as u32,
        }
    }

    #[inline(always)]
    const fn is_plausible(self) -> bool {
        let Self { length, kind, flags, stream } = self;
        if stream >> 31 != 0 {
            return false;
        }
        // The flags that a type may carry, its length, and whether it belongs to a stream.
        let odd = stream & 1 == 1;
        match kind {
            DATA => flags & !0x09 == 0 && odd,
            HEADERS => flags & !0x2d == 0 && odd && length <= 0xffff,
            PRIORITY => flags == 0 && stream != 0 && length == 5,
            RST_STREAM => flags == 0 && odd && length == 4,
            SETTINGS => {
                flags & !1 == 0
                    && stream == 0
                    && length.is_multiple_of(6)
                    && (flags == 0 || length == 0)
            }
            PUSH_PROMISE => flags & !0x0c == 0 && stream != 0 && length <= 0xffff,
            PING => flags & !1 == 0 && stream == 0 && length == 8,
            GOAWAY => flags == 0 && stream == 0 && length >= 8,
            WINDOW_UPDATE => flags == 0 && length == 4,
            CONTINUATION => flags & !END_HEADERS == 0 && odd && length <= 0xffff,
            // ALTSVC, ORIGIN, PRIORITY_UPDATE
            0x0a | 0x0c | 0x10 => length <= 16384,
            _ => false,
        }
    }
}

/// Whether a segment that begins with these 9 bytes may begin with a frame.
#[inline(always)]
pub(crate) const fn may_start(high: u64, last: u8) -> bool {
    let frame = Frame::of(high, last);
    // Longer ones are too easy to mistake, and the middle of a block is of no use.
    frame.length <= 0xffff && frame.kind != CONTINUATION && frame.is_plausible()
}

impl Connection {
    /// Everything so far was HTTP/1.
    #[inline(always)]
    pub(crate) fn become_http2(&mut self) {
        self.forget();
        self.requests = Side::default();
        self.responses = Side::default();
        self.asked = 0;
        self.answered = 0;
        self.protocol = protocol::HTTP2;
    }

    /// The server has agreed to an upgrade: its first frame is at `next`. The request that asked
    /// for it is stream 1.
    #[inline(always)]
    pub(crate) fn upgrade(&mut self, next: u32) {
        let at = self.open[self.answered as usize % OPEN].at;
        self.become_http2();
        self.asked = 1;
        self.open[0] = Open { at, id: 1, turn: 0 };
        self.responses.next = next;
        self.responses.mode = SYNCED;
    }
}

/// Whether the segment begins with a frame: one that is followed by another, or ends exactly with
/// the segment, or ends beyond it, and then is tentative.
#[inline(always)]
fn synchronise<B: Bytes + ?Sized>(
    connection: &mut Connection,
    way: Way,
    segment: &Segment,
    bytes: &B,
) -> Option<u32> {
    let side = connection.side(way);
    let count = if segment.len < HEADER { segment.len } else { HEADER };
    let (high, low) = bytes.load(0, count)?;
    // Its first bytes alone suffice: no frame to start at begins with them.
    let differs = high ^ word(b"PRI * HT");
    if way == Way::Requests && differs >> (64 - 8 * if count < 8 { count } else { 8 }) == 0 {
        *side = Side { next: segment.seq.wrapping_add(PREFACE), mode: SYNCED, ..Side::default() };
        return (segment.len > PREFACE).then_some(PREFACE);
    }
    if count < HEADER || !may_start(high, (low >> 56) as u8) {
        return None;
    }
    let end = HEADER + Frame::of(high, 0).length;
    let mut flags = 0;
    if end.wrapping_add(HEADER) <= segment.len {
        let (high, low) = bytes.load(end, HEADER)?;
        if !Frame::of(high, (low >> 56) as u8).is_plausible() {
            return None;
        }
    } else if end != segment.len {
        flags = TENTATIVE;
    }
    *side = Side { next: segment.seq, mode: SYNCED, flags, ..Side::default() };
    Some(0)
}

#[inline(always)]
pub(crate) fn begin<B: Bytes + ?Sized>(
    connection: &mut Connection,
    way: Way,
    segment: &Segment,
    bytes: &B,
) -> Option<u32> {
    let side = connection.side(way);
    if side.mode == SYNCED {
        let at = side.next.wrapping_sub(segment.seq);
        if (at as i32) >= 0 {
            return (at < segment.len).then_some(at);
        }
        // Bytes are missing.
        side.mode = 0;
    }
    synchronise(connection, way, segment, bytes)
}

#[inline(always)]
pub(crate) fn end(connection: &mut Connection, way: Way, segment: &Segment, at: u32) -> Event {
    let side = connection.side(way);
    if at < segment.len {
        // The bound was reached.
        side.mode = 0;
        return Event::NotUnderstood(1);
    }
    side.next = segment.seq.wrapping_add(at);
    Event::Nothing
}

/// Gives up until a segment begins with a frame.
#[inline(always)]
const fn lose(side: &mut Side, segment: &Segment) -> u32 {
    side.mode = 0;
    side.flags = 0;
    segment.len
}

/// One step of a connection in HTTP/2; see [`Connection::step`].
#[inline(always)]
pub fn step<B: Bytes + ?Sized>(
    connection: &mut Connection,
    way: Way,
    segment: &Segment,
    bytes: &B,
    at: u32,
) -> (u32, Event) {
    if way == Way::Requests {
        let side = &mut connection.requests;
        let at = header(side, segment, bytes, at);
        if side.used == CUT {
            return (at, Event::Nothing);
        }
        if side.used == BAD {
            return (lose(side, segment), Event::Nothing);
        }
        let frame = Frame::of(side.frame, side.byte);
        return request_frame(connection, bytes, frame, at);
    }
    let next = response_step(connection, segment, bytes, at);
    let side = &mut connection.responses;
    side.value = next;
    bytes.settle(side);
    if side.used == DROPS {
        side.used = 0;
        return (side.value, Event::Dropped);
    }
    (side.value, block_end(connection, bytes))
}

/// One step in the direction of responses: the offset to go on from.
#[inline(always)]
fn response_step<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
    at: u32,
) -> u32 {
    let side = &mut connection.responses;
    if side.left != 0 {
        if side.skip != 0 {
            // The rest of a string that began in another frame.
            let count = if side.skip < side.left { side.skip } else { side.left };
            side.skip -= count;
            side.left -= count;
            return at.wrapping_add(count);
        }
        return token(connection, segment, bytes, at);
    }
    if side.padding != 0 {
        let count = u32::from(side.padding);
        side.padding = 0;
        return at.wrapping_add(count);
    }
    let at = header(side, segment, bytes, at);
    if side.used == CUT {
        return at;
    }
    if side.used == BAD {
        return lose(side, segment);
    }
    let frame = Frame::of(side.frame, side.byte);
    response_frame(connection, segment, bytes, frame, at)
}

/// Reads a frame's header into `frame` and `byte`, and says in `used` whether it is cut or bad.
#[inline(always)]
fn header<B: Bytes + ?Sized>(side: &mut Side, segment: &Segment, bytes: &B, at: u32) -> u32 {
    let held = u32::from(side.frame_held) & 15;
    let lacking = HEADER.wrapping_sub(held);
    let more = segment.len.wrapping_sub(at);
    let wanted = if more < lacking { more } else { lacking };
    side.value = at.wrapping_add(wanted);
    let Some((mut high, mut low)) = bytes.load(at, wanted) else {
        side.used = BAD;
        return at;
    };
    if held != 0 {
        (high, low) = behind(high, low, held);
        high |= side.frame;
    }
    side.frame = high;
    side.byte = (low >> 56) as u8;
    side.frame_held = if wanted < lacking { (held + wanted) as u8 } else { 0 };
    bytes.settle(side);
    side.used = if side.frame_held != 0 {
        CUT
    } else if Frame::of(side.frame, side.byte).is_plausible() {
        0
    } else {
        BAD
    };
    bytes.settle(side);
    side.value
}

/// A frame from the client: its fields are not looked at.
#[inline(always)]
fn request_frame<B: Bytes + ?Sized>(
    connection: &mut Connection,
    bytes: &B,
    frame: Frame,
    at: u32,
) -> (u32, Event) {
    let behind = at.wrapping_add(frame.length);
    let told = !connection.requests.has(TENTATIVE);
    connection.requests.clear(TENTATIVE);
    if !told {
        return (behind, Event::Nothing);
    }
    let index = frame.stream >> 1;
    if frame.kind == RST_STREAM {
        let began = reset(connection, frame.stream);
        let waited = bytes.now().wrapping_sub(began).max(1);
        let event = if began == 0 { Event::Nothing } else { Event::GivenUp { waited } };
        return (behind, event);
    }
    if frame.kind != HEADERS || frame.stream <= connection.asked {
        return (behind, Event::Nothing);
    }
    // The ids of new streams grow by 2, so that what a gap hid is counted too.
    let last = connection.asked;
    let count = if last == 0 { 1 } else { (frame.stream - last) / 2 };
    connection.asked = frame.stream;
    let timed = connection.note(index, Open { at: bytes.now(), id: frame.stream, turn: 0 });
    (behind, Event::Requests { count, timed })
}

/// A frame from the server.
#[inline(always)]
fn response_frame<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
    frame: Frame,
    at: u32,
) -> u32 {
    let Frame { length, kind, flags, stream } = frame;
    let side = &mut connection.responses;
    if (kind == CONTINUATION) != side.has(BLOCK) {
        return lose(side, segment);
    }
    if kind == CONTINUATION {
        side.left = length;
        side.padding = 0;
        if flags & END_HEADERS != 0 {
            side.set(LAST);
        }
        return at;
    }
    let told = !side.has(TENTATIVE);
    side.clear(TENTATIVE);
    if kind == RST_STREAM && told && reset(connection, stream) != 0 {
        connection.responses.used = DROPS;
    }
    if kind != HEADERS && kind != PUSH_PROMISE {
        return at.wrapping_add(length);
    }
    let side = &mut connection.responses;
    // Before the block stand the length of the padding, and the priority or the promised stream.
    let mut lead = 0;
    let mut padding = 0;
    if flags & PADDED != 0 {
        // Cut from the frame's header: never seen.
        let Some((first, _)) = bytes.load(at, 1) else { return lose(side, segment) };
        padding = (first >> 56) as u32;
        lead = 1;
    }
    if kind == PUSH_PROMISE {
        lead += 4;
    } else if flags & PRIORITISED != 0 {
        lead += 5;
    }
    if lead + padding > length {
        return lose(side, segment);
    }
    side.block();
    side.set(BLOCK | FIRST);
    if flags & END_HEADERS != 0 {
        side.set(LAST);
    }
    if flags & END_STREAM != 0 {
        side.set(END);
    }
    if !told || kind == PUSH_PROMISE {
        side.set(MUTED);
    }
    side.stream = stream;
    side.padding = padding as u8;
    side.left = length - lead - padding;
    at.wrapping_add(lead)
}

/// A stream was given up. Returns when it began, if it waited for a response; else 0.
#[inline(always)]
fn reset(connection: &mut Connection, stream: u32) -> u64 {
    let open = &mut connection.open[(stream >> 1) as usize % OPEN];
    if open.id != stream {
        return 0;
    }
    let began = open.at;
    open.at = 0;
    began
}

impl Side {
    /// Between two blocks.
    #[inline(always)]
    const fn block(&mut self) {
        self.flags = 0;
        self.held = 0;
        self.skip = 0;
        self.field = ABOUT_OTHER;
        self.inserts = 0;
        self.status = NONE;
        self.grpc = 0;
        self.unknown = 0;
    }

    /// The tag of an index; `None` if it was inserted before this was seen, or too long ago.
    #[inline(always)]
    fn entry(&self, ring: &[u8; RING], index: u32) -> Option<u8> {
        if index <= 61 {
            return Some(static_tag(index));
        }
        let back = index - 62;
        if back >= self.inserted || back >= RING as u32 {
            return None;
        }
        Some(ring[self.inserted.wrapping_sub(back) as usize % RING])
    }

    /// A whole field says this.
    #[inline(always)]
    const fn say(&mut self, tag: u8) {
        if is_status(tag) {
            self.status = tag;
        } else if tag >= GRPC {
            self.grpc = tag;
        }
        self.clear(FIRST);
    }
}

/// The next token of a block.
#[inline(always)]
fn token<B: Bytes + ?Sized>(
    connection: &mut Connection,
    segment: &Segment,
    bytes: &B,
    at: u32,
) -> u32 {
    let more = segment.len.wrapping_sub(at);
    let side = &mut connection.responses;
    let held = u32::from(side.held) & 15;
    let most = if side.left < more { side.left } else { more };
    let Some(window) = Window::read(side, bytes, at, most) else {
        return lose(side, segment);
    };
    let fresh = window.len.wrapping_sub(held);
    let first = window.byte(0);
    let bits = if side.has(NAME | VALUE) || first >= 0x80 {
        7
    } else if first >= 0x40 {
        6
    } else if first >= 0x20 {
        5
    } else {
        4
    };
    (side.value, side.used) = integer(&window, bits);
    bytes.settle(side);
    if side.used < BAD {
        if side.has(NAME) {
            name_token(side, &window);
        } else if side.has(VALUE) {
            value_token(side, &mut connection.ring, &window, bytes);
        } else {
            field_token(side, &connection.ring, first, bytes);
        }
        bytes.settle(side);
    }
    if side.used == BAD {
        return lose(side, segment);
    }
    if side.used == CUT {
        if window.len >= 16 {
            return lose(side, segment);
        }
        side.held = window.len as u8;
        side.left = side.left.wrapping_sub(fresh);
        if side.left == 0 && side.padding == 0 && side.has(LAST) {
            // The block ends within a token.
            return lose(side, segment);
        }
        return at.wrapping_add(fresh);
    }
    side.held = 0;
    let mut used = side.used;
    if used < held {
        // What was looked at ahead is a part of the string.
        let ahead = held - used;
        if side.skip < ahead {
            return lose(side, segment);
        }
        side.skip -= ahead;
        used = held;
    }
    side.used = used - held;
    bytes.settle(side);
    let used = side.used;
    side.left = side.left.wrapping_sub(used);
    // The string, as far as this frame has it: it may end in a later segment.
    let count = if side.skip < side.left { side.skip } else { side.left };
    side.skip -= count;
    side.left -= count;
    if side.skip != 0 && side.has(LAST) {
        return lose(side, segment);
    }
    at.wrapping_add(used).wrapping_add(count)
}

/// The begin of a field.
#[inline(always)]
fn field_token<B: Bytes + ?Sized>(side: &mut Side, ring: &[u8; RING], first: u8, bytes: &B) {
    let index = side.value;
    if first & 0xe0 == 0x20 {
        // The table's size: evictions do not matter.
        return;
    }
    if first < 0x80 {
        side.inserts = u8::from(first >= 0x40);
        if index == 0 {
            side.set(NAME);
            return;
        }
    } else if index == 0 {
        side.used = BAD;
        return;
    }
    if side.has(FIRST) && matches!(index, REQUEST_FIRST..=REQUEST_LAST) {
        side.set(MUTED);
    }
    side.byte = side.entry(ring, index).unwrap_or(UNRESOLVED);
    bytes.settle(side);
    let tag = side.byte;
    if first < 0x80 {
        let names_status = matches!(index, 8..=14) || is_status(tag);
        side.field = if names_status {
            // Some name it by 8, others by 14.
            ABOUT_STATUS
        } else if tag >= GRPC && tag != UNRESOLVED {
            ABOUT_GRPC
        } else {
            ABOUT_OTHER
        };
        side.set(VALUE);
    } else if tag == UNRESOLVED {
        side.unknown = 1;
        if side.has(FIRST) {
            // Maybe a status, maybe a trailer.
            side.status = STATUS_UNKNOWN;
        }
        side.clear(FIRST);
    } else {
        side.say(tag);
    }
}

/// A name that is written out.
#[inline(always)]
fn name_token(side: &mut Side, window: &Window) {
    let huffman = window.byte(0) & 0x80 != 0;
    let found = name(window, huffman, side.value);
    if found == Name::Cut {
        side.used = CUT;
        return;
    }
    side.clear(NAME);
    side.set(VALUE);
    side.field = match found {
        Name::Status => ABOUT_STATUS,
        Name::Grpc => ABOUT_GRPC,
        _ => ABOUT_OTHER,
    };
    side.skip = side.value;
}

/// A value.
#[inline(always)]
fn value_token<B: Bytes + ?Sized>(
    side: &mut Side,
    ring: &mut [u8; RING],
    window: &Window,
    bytes: &B,
) {
    let huffman = window.byte(0) & 0x80 != 0;
    let length = side.value;
    side.byte = OTHER;
    if side.field != ABOUT_OTHER {
        let needed = if length < 3 { length } else { 3 };
        if side.used != 1 {
            // Far longer than a status.
            side.byte = if side.field == ABOUT_STATUS { STATUS_UNKNOWN } else { GRPC_UNKNOWN };
        } else if window.len < 1 + needed {
            side.used = CUT;
            return;
        } else {
            // Bytes behind a shorter value are of the next field, and not compared.
            let value = [window.byte(1), window.byte(2), window.byte(3)];
            side.byte = if side.field == ABOUT_STATUS {
                status_tag(huffman, length, value)
            } else {
                grpc_tag(huffman, length, value[0], value[1])
            };
        }
        bytes.settle(side);
    }
    let tag = side.byte;
    if side.inserts != 0 {
        side.inserted = side.inserted.wrapping_add(1);
        ring[side.inserted as usize % RING] = tag;
    }
    side.say(tag);
    side.clear(VALUE);
    side.field = ABOUT_OTHER;
    side.inserts = 0;
    side.skip = length;
}

/// If the block has ended, what it was.
#[inline(always)]
fn block_end<B: Bytes + ?Sized>(connection: &mut Connection, bytes: &B) -> Event {
    let side = &mut connection.responses;
    if side.left != 0 || side.padding != 0 || !side.has(LAST) {
        return Event::Nothing;
    }
    let (muted, ends) = (side.has(MUTED), side.has(END));
    let Side { stream, status, grpc, unknown, .. } = *side;
    side.block();
    if muted {
        return Event::Nothing;
    }
    let open = &mut connection.open[(stream >> 1) as usize % OPEN];
    let noted = open.id == stream;
    let mut answer = Response { stream, status, grpc, waited: 0 };
    if unknown != 0 && grpc == 0 && (status == NONE || ends && status == 2) {
        // The code may be among what could not be resolved.
        answer.grpc = GRPC_UNKNOWN;
    }
    let is_trailer =
        status == NONE || (status == STATUS_UNKNOWN && unknown != 0 && noted && open.at == 0);
    if is_trailer {
        answer.status = NONE;
        answer.grpc = if grpc == 0 && unknown != 0 { GRPC_UNKNOWN } else { grpc };
        return Event::Trailers(answer);
    }
    if status != 1 && noted && open.at != 0 {
        answer.waited = bytes.now().wrapping_sub(open.at).max(1);
        open.at = 0;
    }
    Event::Response(answer)
}
