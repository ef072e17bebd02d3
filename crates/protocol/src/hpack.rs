//! The fields of a header block, as far as they tell of a status. Integers and lengths are decoded,
//! strings are skipped; no table of Huffman codes is needed for the few values that matter.
//!
//! A **tag** is one byte for what an entry of the dynamic table says: a `:status`, a `grpc-status`,
//! or neither.
use crate::window::{Window, word};

/// An entry that says neither.
pub(crate) const OTHER: u8 = 0;
/// A `:status` of 5xx but 502, 503 and 504. That of another class is its class.
const FAILED: u8 = 5;
/// A `:status` that was not understood.
pub(crate) const STATUS_UNKNOWN: u8 = 6;
/// A `:status` of 502, 503 or 504.
const UNAVAILABLE: u8 = 7;
/// No `:status` yet.
pub(crate) const NONE: u8 = 8;
/// A `:status` of 401, 403 or 407.
const DENIED: u8 = 9;
/// A `grpc-status` of 0; the next 16 tags are the other codes.
pub(crate) const GRPC: u8 = 16;
/// A `grpc-status` that was not understood.
pub(crate) const GRPC_UNKNOWN: u8 = 33;

/// A longer string or a larger index is beyond the bounds.
const LONGEST: u32 = 1 << 21;

/// What a response, or the trailers of one, counts as. The first five are the classes of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// 1xx.
    Interim = 0,
    /// 2xx.
    Success = 1,
    /// 3xx.
    Redirection = 2,
    /// 4xx.
    ClientError = 3,
    /// 5xx, or a code of gRPC that is the server's fault.
    ServerError = 4,
    /// The same of the kind of 502, 503 and 504: a backend, or not now.
    Unavailable = 5,
    /// Cannot be told.
    Unknown = 6,
    /// Trailers that say nothing of a fault.
    Fine = 7,
    /// 401, 403 or 407: who asked is not accepted.
    Denied = 8,
}

impl Verdict {
    /// Of a response with these tags.
    #[must_use]
    #[inline(always)]
    pub const fn of(status: u8, grpc: u8) -> Self {
        // gRPC's own codes: UNAVAILABLE is a 503, DEADLINE_EXCEEDED a 504; UNKNOWN, UNIMPLEMENTED,
        // INTERNAL and DATA_LOSS are a 500; the others are the client's.
        match grpc.wrapping_sub(GRPC) {
            14 | 4 => return Self::Unavailable,
            2 | 12 | 13 | 15 => return Self::ServerError,
            17 if status == NONE || status == 2 => return Self::Unknown,
            _ => {}
        }
        match status {
            1 => Self::Interim,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            FAILED => Self::ServerError,
            UNAVAILABLE => Self::Unavailable,
            DENIED => Self::Denied,
            NONE => Self::Fine,
            _ => Self::Unknown,
        }
    }
}

/// The tag of a status of three digits.
#[inline(always)]
pub(crate) const fn status_of(class: u8, tens: u8, ones: u8) -> u8 {
    match class.wrapping_sub(b'0') {
        5 if tens == b'0' && matches!(ones, b'2'..=b'4') => UNAVAILABLE,
        4 if tens == b'0' && matches!(ones, b'1' | b'3' | b'7') => DENIED,
        class @ 1..=5 => class,
        _ => STATUS_UNKNOWN,
    }
}

/// The tag of an entry of the static table.
#[inline(always)]
pub(crate) const fn static_tag(index: u32) -> u8 {
    match index {
        8..=10 => 2,
        11 => 3,
        12 | 13 => 4,
        14 => FAILED,
        _ => OTHER,
    }
}

/// Whether a tag is that of a `:status`.
#[inline(always)]
pub(crate) const fn is_status(tag: u8) -> bool {
    tag >= 1 && tag <= UNAVAILABLE || tag == DENIED
}

/// The tag of a value of `:status`, from its length and its first three bytes.
#[inline(always)]
pub(crate) const fn status_tag(huffman: bool, length: u32, value: [u8; 3]) -> u8 {
    let [first, second, third] = value;
    if !huffman {
        return if length == 3 { status_of(first, second, third) } else { STATUS_UNKNOWN };
    }
    if length == 0 {
        return STATUS_UNKNOWN;
    }
    // The digits' codes: 0 is 00000, 1 is 00001, 2 is 00010, 3 is 011001, 4 is 011010, 5 is 011011.
    match (first >> 3, first >> 2) {
        (0b00001, _) => 1,
        (0b00010, _) => 2,
        (_, 0b01_1001) => 3,
        (_, 0b01_1010) => match (length, first, second, third) {
            (2, 0x68, 0x01, _) | (3, 0x68, 0x0c, 0xff) | (3, 0x68, 0x0e, 0xff) => DENIED,
            _ => 4,
        },
        (_, 0b01_1011) => match (length, first, second, third) {
            (2, 0x6c, 0x02, _) | (3, 0x6c, 0x0c, 0xff) | (3, 0x6c, 0x0d, 0x7f) => UNAVAILABLE,
            _ => FAILED,
        },
        _ => STATUS_UNKNOWN,
    }
}

/// The tag of a value of `grpc-status`, from its length and its first two bytes.
#[inline(always)]
pub(crate) const fn grpc_tag(huffman: bool, length: u32, first: u8, second: u8) -> u8 {
    let code = if huffman {
        match (length, first, second) {
            (1, 0x07, _) => 0,
            (1, 0x0f, _) => 1,
            (1, 0x17, _) => 2,
            (1, 0x67, _) => 3,
            (1, 0x6b, _) => 4,
            (1, 0x6f, _) => 5,
            (1, 0x73, _) => 6,
            (1, 0x77, _) => 7,
            (1, 0x7b, _) => 8,
            (1, 0x7f, _) => 9,
            (2, 0x08, 0x3f) => 10,
            (2, 0x08, 0x7f) => 11,
            (2, 0x08, 0xbf) => 12,
            (2, 0x0b, 0x3f) => 13,
            (2, 0x0b, 0x5f) => 14,
            (2, 0x0b, 0x7f) => 15,
            (2, 0x0b, 0x9f) => 16,
            _ => return GRPC_UNKNOWN,
        }
    } else {
        match (length, first, second) {
            (1, b'0'..=b'9', _) => first - b'0',
            (2, b'1', b'0'..=b'6') => second - b'0' + 10,
            _ => return GRPC_UNKNOWN,
        }
    };
    GRPC + code
}

/// What a name that is written out says, of those that matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Status,
    Grpc,
    Other,
    /// It might be one of those, but does not end within the window.
    Cut,
}

/// The name behind one byte of length.
#[inline(always)]
pub(crate) fn name(window: &Window, huffman: bool, length: u32) -> Name {
    let (wanted, found) = match (huffman, length) {
        (true, 8) | (false, 11) => (length, Name::Grpc),
        (false, 7) => (length, Name::Status),
        _ => return Name::Other,
    };
    if window.len < 1 + wanted {
        return Name::Cut;
    }
    let first = window.high << 8 | window.low >> 56;
    let rest = window.low << 8;
    let same = match (huffman, length) {
        (true, _) => first == 0x9aca_c8b2_1234_da8f,
        (false, 11) => first == word(b"grpc-sta") && rest >> 40 == word(b"tus") >> 40,
        _ => first >> 8 == word(b":status") >> 8,
    };
    if same { found } else { Name::Other }
}

/// A token that does not end within the window.
pub(crate) const CUT: u32 = u32::MAX;
/// Not HPACK, or beyond the bounds.
pub(crate) const BAD: u32 = u32::MAX - 1;

/// An integer with a prefix of `bits`: its value, and the bytes that it takes, or why there is none.
#[inline(always)]
pub(crate) const fn integer(window: &Window, bits: u32) -> (u32, u32) {
    let mask = (1_u32 << bits) - 1;
    let mut value = window.byte(0) as u32 & mask;
    if value < mask {
        return (value, 1);
    }
    let mut index = 1;
    while index < 5 {
        if index >= window.len {
            return (0, CUT);
        }
        let byte = window.byte(index);
        value += (byte as u32 & 127) << (7 * (index - 1));
        index += 1;
        if byte & 128 == 0 {
            return if value > LONGEST { (0, BAD) } else { (value, index) };
        }
    }
    (0, BAD)
}
