//! Up to 16 bytes in two registers. BPF has no cheap way to index bytes by a variable.
use crate::{Bytes, Side, WINDOW};

/// The first `len` bytes are meaningful, those behind them are zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) len: u32,
}

impl Window {
    /// What the side has carried, and what fits behind it: at most `most` bytes of the payload from
    /// `at` on. It remains in the side's `carry`.
    #[inline(always)]
    pub(crate) fn read<B: Bytes + ?Sized>(
        side: &mut Side,
        bytes: &B,
        at: u32,
        most: u32,
    ) -> Option<Self> {
        let held = u32::from(side.held) & 15;
        let room = WINDOW - held;
        let count = if most < room { most } else { room };
        let (mut high, mut low) = bytes.load(at, count)?;
        if held != 0 {
            (high, low) = behind(high, low, held);
            high |= side.carry[0];
            low |= side.carry[1];
        }
        side.carry = [high, low];
        side.window = (held + count) as u8;
        bytes.settle(side);
        Some(Self { high: side.carry[0], low: side.carry[1], len: u32::from(side.window) & 31 })
    }

    /// The byte at `index`, below 8.
    #[inline(always)]
    pub(crate) const fn byte(&self, index: u32) -> u8 {
        (self.high >> (56 - 8 * (index & 7))) as u8
    }

    /// Where the first of the meaningful bytes that equal `byte` is.
    #[inline(always)]
    pub(crate) const fn find(&self, byte: u8) -> Option<u32> {
        let index = {
            let high = equal(self.high, byte);
            if high != 0 {
                first(high)
            } else {
                let low = equal(self.low, byte);
                if low == 0 {
                    return None;
                }
                8 + first(low)
            }
        };
        if index < self.len { Some(index) } else { None }
    }
}

/// 16 bytes moved back by `by`, 1 to 15.
#[inline(always)]
pub(crate) const fn behind(high: u64, low: u64, by: u32) -> (u64, u64) {
    let bits = 8 * by;
    if by < 8 {
        (high >> bits, low >> bits | high << ((64 - bits) & 63))
    } else {
        (0, high >> (bits - 64))
    }
}

/// Where the first byte of a word is that equals `byte`.
#[must_use]
#[inline(always)]
pub const fn first_of(word: u64, byte: u8) -> Option<u32> {
    let marks = equal(word, byte);
    if marks == 0 { None } else { Some(first(marks)) }
}

/// The top bit of each byte that equals `byte`, exactly.
#[inline(always)]
const fn equal(word: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let zero = word ^ (byte as u64 * 0x0101_0101_0101_0101);
    !(((zero & LOW) + LOW) | zero | LOW)
}

/// Index of the first byte whose top bit is set. Not by `leading_zeros`, which BPF lacks.
#[inline(always)]
const fn first(marks: u64) -> u32 {
    let mut word = marks;
    let mut index = 0;
    if word >> 32 == 0 {
        index += 4;
        word <<= 32;
    }
    if word >> 48 == 0 {
        index += 2;
        word <<= 16;
    }
    if word >> 56 == 0 {
        index += 1;
    }
    index
}

/// Up to 8 bytes as the leading bytes of a big-endian word.
pub(crate) const fn word<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut word = [0; 8];
    let mut i = 0;
    while i < N {
        word[i] = bytes[i];
        i += 1;
    }
    u64::from_be_bytes(word)
}

/// Whether a word begins with these bytes.
#[inline(always)]
pub(crate) const fn begins<const N: usize>(high: u64, bytes: &[u8; N]) -> bool {
    high >> (64 - 8 * N) == word(bytes) >> (64 - 8 * N)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;

    fn slice(bytes: &[u8]) -> Slice<'_> {
        Slice { bytes, now: 1 }
    }

    #[test]
    fn what_was_carried_comes_first() {
        let text = b"0123456789abcdef";
        for held in 1..16u32 {
            let carry = slice(&text[..held as usize]).load(0, held).unwrap();
            let rest = &slice(&text[held as usize..]);
            let mut side = Side { carry: [carry.0, carry.1], held: held as u8, ..Side::default() };
            let whole = Window::read(&mut side, rest, 0, 99).unwrap();
            assert_eq!((whole.high, whole.low, whole.len), {
                let (high, low) = slice(text).load(0, 16).unwrap();
                (high, low, 16)
            });
        }
    }

    #[test]
    fn a_byte_is_found_where_it_is_first() {
        for at in 0..16 {
            let mut text = *b"\x0b\x01\x00\xffxxxxxxxx\x0b\x09\x0bx";
            text[at] = b'\n';
            text[15] = b'\n';
            let (high, low) = slice(&text).load(0, 16).unwrap();
            assert_eq!(Window { high, low, len: 16 }.find(b'\n'), Some(at as u32));
            assert_eq!(Window { high, low, len: at as u32 }.find(b'\n'), None);
        }
    }
}
