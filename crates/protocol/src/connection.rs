//! One connection: both directions, and the requests that wait for responses.
use crate::{
    Bytes, Event, http1, http2,
    open::{OPEN, Open},
    side::Side,
    window::begins,
};

/// Tags of the dynamic table: a table of 4,096 bytes has at most 128 entries.
pub(crate) const RING: usize = 128;

/// A direction of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Responses,
}

/// One TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgement number.
    pub ack: u32,
    /// Length of the payload.
    pub len: u32,
}

/// What the first segment of an unknown connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request of HTTP/1.
    Request,
    /// A response of HTTP/1.
    Response,
    /// The preface of a client of HTTP/2.
    Preface,
    /// What may be frames of HTTP/2. Who serves is not told.
    Frames,
}

impl Kind {
    /// Recognises the first 16 bytes of a segment of `len`; zeros stand for those behind its end.
    #[must_use]
    #[inline(always)]
    pub const fn of(high: u64, low: u64, len: u32) -> Option<Self> {
        if begins(high, b"PRI * HT") {
            return Some(Self::Preface);
        }
        if http1::is_status_line(high, (low >> 32) as u32) {
            return Some(Self::Response);
        }
        if http1::is_known_request(high) || http1::may_become_request(high, len) {
            return Some(Self::Request);
        }
        if http2::may_start(high, (low >> 56) as u8) {
            return Some(Self::Frames);
        }
        None
    }
}

/// The protocols, in [`Connection::protocol`].
pub mod protocol {
    /// HTTP/1.x.
    pub const HTTP1: u8 = 0;
    /// HTTP/2.
    pub const HTTP2: u8 = 1;
    /// No HTTP any more: upgraded, or a tunnel.
    pub const OTHER: u8 = 2;
}

/// Everything remembered of a connection. All zero is a new one.
///
/// The directions may run at the same time on two CPUs. Each writes its own side and its own
/// counter; they meet in `open`, whose entries are written by the requests' side while they are
/// free and freed by the responses' side. A change of protocol writes all, and a packet that passes
/// meanwhile may cost one count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// For the caller: whose connection it is.
    pub slot: u32,
    /// For the caller: its role in it.
    pub role: u8,
    /// One of [`protocol`].
    pub protocol: u8,
    /// For the caller: which directions have ended.
    pub ended: u8,
    /// Always 0.
    pub padding: u8,
    /// HTTP/1: requests seen. HTTP/2: the highest stream seen.
    pub asked: u32,
    /// HTTP/1: requests that have their response.
    pub answered: u32,
    /// From the client.
    pub requests: Side,
    /// From the server.
    pub responses: Side,
    /// Requests without a response.
    pub open: [Open; OPEN],
    /// HTTP/2: tag of the responses' insertion n, at n modulo 128.
    pub ring: [u8; RING],
}

const _: () = assert!(size_of::<Connection>() == 16 + 2 * 72 + 256 + 128);

impl Default for Connection {
    fn default() -> Self {
        Self {
            slot: 0,
            role: 0,
            protocol: protocol::HTTP1,
            ended: 0,
            padding: 0,
            asked: 0,
            answered: 0,
            requests: Side::default(),
            responses: Side::default(),
            open: [Open::default(); OPEN],
            ring: [0; RING],
        }
    }
}

impl Connection {
    /// Prepares an all-zero connection for its first segment, of which [`Kind::of`] said what it
    /// begins with.
    #[inline(always)]
    pub const fn start(&mut self, kind: Kind, segment: &Segment) {
        match kind {
            Kind::Frames => self.protocol = protocol::HTTP2,
            Kind::Preface => {
                self.protocol = protocol::HTTP2;
                self.responses.next = segment.ack;
                self.responses.mode = http2::SYNCED;
            }
            Kind::Request => {
                self.requests.next = segment.seq;
                self.requests.mode = http1::LINE;
                // Whatever passes before the response begins is not of interest.
                self.responses.floor = segment.ack.wrapping_sub(1);
            }
            Kind::Response => {
                self.responses.next = segment.seq;
                self.responses.mode = http1::LINE;
                self.requests.floor = segment.ack.wrapping_sub(1);
            }
        }
    }

    /// Begins with a segment: the offset to look at first; `None` if there is nothing to look at.
    /// The event is of messages that the segment shows to have been missed.
    #[inline(always)]
    pub fn begin<B: Bytes + ?Sized>(
        &mut self,
        way: Way,
        segment: &Segment,
        bytes: &B,
    ) -> (Option<u32>, Event) {
        match self.protocol {
            protocol::HTTP1 => http1::begin(self, way, segment, bytes),
            protocol::HTTP2 => (http2::begin(self, way, segment, bytes), Event::Nothing),
            _ => (None, Event::Nothing),
        }
    }

    /// One step from offset `at`: the offset to go on from, which may lie beyond the segment, and
    /// what was found.
    #[inline(always)]
    pub fn step<B: Bytes + ?Sized>(
        &mut self,
        way: Way,
        segment: &Segment,
        bytes: &B,
        at: u32,
    ) -> (u32, Event) {
        match self.protocol {
            protocol::HTTP1 => http1::step(self, way, segment, bytes, at),
            protocol::HTTP2 => http2::step(self, way, segment, bytes, at),
            _ => (segment.len, Event::Nothing),
        }
    }

    /// Ends with a segment at the offset where the steps ended: within the segment if the caller's
    /// bound was reached.
    #[inline(always)]
    pub fn end(&mut self, way: Way, segment: &Segment, at: u32) -> Event {
        match self.protocol {
            protocol::HTTP1 => http1::end(self, way, segment, at),
            protocol::HTTP2 => http2::end(self, way, segment, at),
            _ => Event::Nothing,
        }
    }

    /// The server's direction has ended: what waits will get no response.
    #[inline(always)]
    pub fn finish(&mut self) {
        self.forget();
    }

    #[inline(always)]
    pub(crate) const fn side(&mut self, way: Way) -> &mut Side {
        match way {
            Way::Requests => &mut self.requests,
            Way::Responses => &mut self.responses,
        }
    }
}
