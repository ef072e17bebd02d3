//! Follows one TCP connection and says where its HTTP messages are: HTTP/1.x and HTTP/2, requests
//! and responses, from the segments of both directions as they pass.
//!
//! The kernel runs this code for each packet of a watched target, so it is written for the kernel's
//! verifier: fixed state of whole numbers ([`Connection`]), steps of bounded size, and looks at the
//! packet of at most [`WINDOW`] bytes ([`Bytes`]). The caller bounds the number of steps. Nothing
//! here keeps or returns a byte of a payload.
//!
//! ```text
//! let mut at = connection.begin(way, &segment, &bytes)?;     // most packets end here
//! while at < segment.len {                                   // as often as the bound permits
//!     let (next, event) = connection.step(way, &segment, &bytes, at);
//!     at = next;
//! }
//! connection.end(way, &segment, at);
//! ```
//!
//! **HTTP/1** is followed by turns ([`http1`]), **HTTP/2** by frames and by the lengths within
//! header blocks ([`http2`]). Of a server whose plaintext alone is seen, as it goes into TLS,
//! [`written`] follows the responses. What cannot be told is reported as such: a status that refers to a
//! table from before the connection was seen is *unknown*, a message whose begin was not found is
//! *not understood*.
#![no_std]

pub mod connection;
mod hpack;
pub mod http1;
pub mod http2;
pub mod latency;
mod open;
mod side;
mod window;
pub mod written;

pub use connection::{Connection, Kind, Segment, Way};
pub use hpack::Verdict;
pub use open::{OPEN, Open};
pub use side::Side;
pub use window::first_of;

/// Most bytes of the packet that one step looks at.
pub const WINDOW: u32 = 16;

/// A TCP segment's payload, which may be anywhere, and the time.
pub trait Bytes {
    /// `count` bytes (1 to 16) from offset `at` of the payload: as big-endian words, with zeros
    /// behind them. `None` if they are not all there.
    fn load(&self, at: u32, count: u32) -> Option<(u64, u64)>;

    /// The offset of the first line feed from offset `at` on, if it is found soon: how far is looked
    /// is the implementation's choice.
    fn line_feed(&self, at: u32) -> Option<u32>;

    /// The clock in nanoseconds, never 0. It is read for the few packets that begin a message: in
    /// the kernel that costs as much as a step.
    fn now(&self) -> u64;

    /// Nothing; but the kernel's verifier must forget here what it knows of the side's values, and
    /// read them again. It follows each combination of branches otherwise, and there are more than
    /// it permits.
    #[inline(always)]
    fn settle(&self, _: &mut Side) {}
}

/// A payload in memory, at a time.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// The time in nanoseconds, not 0.
    pub now: u64,
}

impl Bytes for Slice<'_> {
    fn line_feed(&self, at: u32) -> Option<u32> {
        let rest = self.bytes.get(at as usize..)?;
        let found = rest.iter().take(64).position(|byte| *byte == b'\n')?;
        Some(at + found as u32)
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn load(&self, at: u32, count: u32) -> Option<(u64, u64)> {
        let (at, count) = (at as usize, count as usize);
        let mut bytes = [0; WINDOW as usize];
        bytes.get_mut(..count)?.copy_from_slice(self.bytes.get(at..at.checked_add(count)?)?);
        let all = u128::from_be_bytes(bytes);
        Some(((all >> 64) as u64, all as u64))
    }
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing to count.
    Nothing,
    /// Requests began: one, or those that a gap hid too.
    Requests {
        /// How many.
        count: u32,
        /// Whether the last of them was noted, so that its response can be timed.
        timed: bool,
    },
    /// A response's head ended.
    Response(Response),
    /// Trailers ended.
    Trailers(Response),
    /// A request was given up by its client, in HTTP/2.
    GivenUp {
        /// Nanoseconds that it had waited.
        waited: u64,
    },
    /// A request was given up by the server, in HTTP/2.
    Dropped,
    /// Messages were not understood.
    NotUnderstood(u32),
}

/// An event in a few words, as it can be kept where the verifier does not follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Packed {
    /// Which event, and its small values.
    pub what: u32,
    /// A number of messages, or a bucket of [`latency`] and one.
    pub number: u32,
}

impl Packed {
    /// Nothing to count.
    pub const NOTHING: u32 = 0;
    /// Requests; the second byte is 1 if the last is timed.
    pub const REQUESTS: u32 = 1;
    /// A response; the second byte is the tag of its status, the third that of its code of gRPC.
    pub const RESPONSE: u32 = 2;
    /// Trailers, likewise.
    pub const TRAILERS: u32 = 3;
    /// Messages that were not understood.
    pub const NOT_UNDERSTOOD: u32 = 4;
    /// A request was given up by its client; the number is [`latency::age`] of the time it waited.
    pub const GIVEN_UP: u32 = 5;
    /// A request was given up by the server.
    pub const DROPPED: u32 = 6;

    /// Packs an event.
    #[must_use]
    #[inline(always)]
    pub const fn of(event: &Event) -> Self {
        match event {
            Event::Nothing => Self { what: Self::NOTHING, number: 0 },
            Event::Requests { count, timed } => {
                Self { what: Self::REQUESTS | (*timed as u32) << 8, number: *count }
            }
            Event::Response(head) => Self {
                what: Self::RESPONSE | (head.status as u32) << 8 | (head.grpc as u32) << 16,
                number: if head.waited == 0 { 0 } else { latency::bucket(head.waited) as u32 + 1 },
            },
            Event::Trailers(end) => Self {
                what: Self::TRAILERS | (end.status as u32) << 8 | (end.grpc as u32) << 16,
                number: 0,
            },
            Event::NotUnderstood(count) => Self { what: Self::NOT_UNDERSTOOD, number: *count },
            Event::GivenUp { waited } => {
                Self { what: Self::GIVEN_UP, number: latency::age(*waited) as u32 }
            }
            Event::Dropped => Self { what: Self::DROPPED, number: 0 },
        }
    }
}

/// A response's head or trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP/2: the stream.
    pub stream: u32,
    /// Tag of the status; see [`Verdict`].
    pub status: u8,
    /// Tag of the code of gRPC; see [`Verdict`].
    pub grpc: u8,
    /// Nanoseconds since its request; 0 if that was not noted.
    pub waited: u64,
}

impl Response {
    /// What to count it as.
    #[must_use]
    #[inline(always)]
    pub const fn verdict(&self) -> Verdict {
        Verdict::of(self.status, self.grpc)
    }
}
