//! The state of one direction.

/// What one direction of a connection remembers between packets. The protocol decides what a field
/// means; a change of protocol begins with a new one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Bytes of a token that the last segment cut.
    pub carry: [u64; 2],
    /// HTTP/2: bytes of a frame header that the last segment cut. HTTP/1: when the last piece of the
    /// request's body came, if it came in pieces.
    pub frame: u64,
    /// Sequence number of the next byte to look at.
    pub next: u32,
    /// HTTP/1: the acknowledgement number of this side's last message; the other side's next
    /// message begins there, if the peers take turns.
    pub turn: u32,
    /// HTTP/1: where the last message or the last mistake was; the next message is behind it.
    pub floor: u32,
    /// HTTP/1: length of the response's body or chunk; number of pieces of the request's body.
    /// HTTP/2: bytes of the block left in this frame.
    pub left: u32,
    /// HTTP/2: bytes of a string still to skip.
    pub skip: u32,
    /// HTTP/2: insertions into the dynamic table seen.
    pub inserted: u32,
    /// HTTP/2: stream of the block.
    pub stream: u32,
    /// Within a step: a number that was read.
    pub value: u32,
    /// Within a step: what was found, or how many bytes were used.
    pub used: u32,
    /// One of the protocol's modes.
    pub mode: u8,
    /// Number of bytes in `carry`.
    pub held: u8,
    /// Number of bytes in `frame`.
    pub frame_held: u8,
    /// HTTP/2: padding behind the block.
    pub padding: u8,
    /// The protocol's flags.
    pub flags: u8,
    /// HTTP/2: what the current field is about.
    pub field: u8,
    /// HTTP/2: tag of the block's status. HTTP/1: what the head is the head of.
    pub status: u8,
    /// HTTP/2: tag of the block's code of gRPC.
    pub grpc: u8,
    /// HTTP/2: 1 if the block refers to entries from before the connection was seen.
    pub unknown: u8,
    /// HTTP/2: 1 if the current field enters the dynamic table.
    pub inserts: u8,
    /// Within a step: number of bytes in the window.
    pub window: u8,
    /// Within a step: the ninth byte of a frame header, or a tag.
    pub byte: u8,
}

const _: () = assert!(size_of::<Side>() == 72);

impl Side {
    #[inline(always)]
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline(always)]
    pub(crate) const fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    #[inline(always)]
    pub(crate) const fn clear(&mut self, flag: u8) {
        self.flags &= !flag;
    }
}
