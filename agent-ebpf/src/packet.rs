//! Reads a packet: its TCP header, and its payload wherever that is.
use core::{arch::asm, mem::MaybeUninit, ptr};

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::bpf_ktime_get_boot_ns,
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use paramedic_protocol::{Bytes, Side, WINDOW};

const TCP: u8 = 6;
/// The bits of an IPv4 fragment header that are non-zero in all but the first fragment.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Flags of a TCP header.
pub const FIN: u8 = 1;
pub const RST: u8 = 4;
/// State of a listening socket.
const LISTEN: u32 = 10;

/// A packet from its network header on.
#[derive(Clone, Copy)]
pub struct Packet {
    pub skb: *mut __sk_buff,
}

/// Of one TCP segment, what matters.
#[derive(Clone, Copy)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// Offset of the payload in the packet.
    pub payload: u32,
    /// Length of the payload.
    pub len: u32,
}

impl Packet {
    #[inline(always)]
    pub fn new(ctx: &SkBuffContext) -> Self {
        Self { skb: ctx.as_ptr().cast() }
    }

    /// Id of the cgroup of the packet's socket.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        // SAFETY: the program's own context.
        unsafe { bpf_skb_cgroup_id(self.skb) }
    }

    /// What names the packet's socket, and so its connection; 0 without one.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: the program's own context.
        unsafe { bpf_get_socket_cookie(self.skb.cast()) }
    }

    /// Whether the packet completes a connection: its socket is the listening one then, not the
    /// connection's.
    #[inline(always)]
    pub fn is_for_listener(self) -> bool {
        // SAFETY: fields of the program's own context and of the socket that it refers to, which
        // the verifier checks.
        unsafe {
            let socket = (*self.skb).__bindgen_anon_2.sk;
            !socket.is_null() && (*socket).state == LISTEN
        }
    }

    /// The segment, if this is TCP.
    #[inline(always)]
    pub fn segment(self) -> Option<Tcp> {
        // SAFETY: fields of the program's own context, which the verifier turns into the bounds of
        // the linear part; every access below is behind a comparison with `end`.
        let (data, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        // The usual packets: IPv4 without options, IPv6 without extension headers.
        if data + 60 <= end && byte(data) >> 4 == 6 {
            return self.transport(data + 40, 40, byte(data + 6) == TCP);
        }
        if data + 40 <= end && byte(data) == 0x45 {
            let whole = half(data + 6) & FRAGMENT_OFFSET == 0;
            return self.transport(data + 20, 20, whole && byte(data + 9) == TCP);
        }
        self.unusual()
    }

    /// Reads a TCP header in the linear part: 20 bytes at `at`, checked by the caller.
    #[inline(always)]
    fn transport(self, at: usize, offset: u32, is_tcp: bool) -> Option<Tcp> {
        if !is_tcp {
            return None;
        }
        let (payload, len) = self.payload(offset, byte(at + 12))?;
        Some(Tcp {
            source: half(at),
            destination: half(at + 2),
            seq: full(at + 4),
            ack: full(at + 8),
            flags: byte(at + 13),
            payload,
            len,
        })
    }

    /// The same with copies: for IPv4 options, and headers outside the linear part.
    #[inline(always)]
    fn unusual(self) -> Option<Tcp> {
        let version: u8 = self.load(0)?;
        let (transport, protocol) = match version >> 4 {
            4 => {
                let fragment: u16 = self.load(6)?;
                if u16::from_be(fragment) & FRAGMENT_OFFSET != 0 {
                    return None;
                }
                (u32::from(version & 0xf) * 4, self.load::<u8>(9)?)
            }
            6 => (40, self.load::<u8>(6)?),
            _ => return None,
        };
        if protocol != TCP {
            return None;
        }
        let [source, destination]: [u16; 2] = self.load(transport)?;
        let [seq, ack]: [u32; 2] = self.load(transport + 4)?;
        let [length, flags]: [u8; 2] = self.load(transport + 12)?;
        let (payload, len) = self.payload(transport, length)?;
        Some(Tcp {
            source: u16::from_be(source),
            destination: u16::from_be(destination),
            seq: u32::from_be(seq),
            ack: u32::from_be(ack),
            flags,
            payload,
            len,
        })
    }

    /// Offset and length of the payload.
    #[inline(always)]
    fn payload(self, transport: u32, length: u8) -> Option<(u32, u32)> {
        // SAFETY: a field of the program's own context.
        let whole = unsafe { (*self.skb).len };
        let payload = transport + u32::from(length >> 4) * 4;
        Some((payload, whole.checked_sub(payload)?))
    }

    /// Copies integers from anywhere in the packet. The constant length satisfies the verifier.
    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> Option<T> {
        let mut bytes = MaybeUninit::<T>::uninit();
        let size = size_of::<T>() as u32;
        // SAFETY: the destination has this size, and the helper checks the source.
        let result =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, bytes.as_mut_ptr().cast(), size) };
        // SAFETY: filled by the helper, and any bytes are integers.
        (result == 0).then(|| unsafe { bytes.assume_init() })
    }
}

/// The payload of a packet, wherever it is: of outgoing packets it is usually in page fragments,
/// outside the linear part.
pub struct Payload {
    pub packet: Packet,
    pub offset: u32,
}

/// What can be copied piece by piece.
pub trait Source {
    /// Copies `size` bytes from offset `from`, for which there is room at `to`; whether that was
    /// possible.
    fn copy(&self, from: u32, to: *mut u64, size: u64) -> bool;
}

impl Source for Payload {
    #[inline(always)]
    fn copy(&self, from: u32, to: *mut u64, size: u64) -> bool {
        let from = self.offset.wrapping_add(from);
        // SAFETY: the caller has room for this size, and the helper checks the source.
        unsafe { bpf_skb_load_bytes(self.packet.skb.cast(), from, to.cast(), size as u32) == 0 }
    }
}

impl Bytes for Payload {
    #[inline(always)]
    fn load(&self, at: u32, count: u32) -> Option<(u64, u64)> {
        first(self, at, count)
    }

    #[inline(always)]
    fn line_feed(&self, _: u32) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn settle(&self, side: &mut Side) {
        forget(side);
    }
}

/// `count` bytes, 1 to 16, from offset `at`, as big-endian words with zeros behind them.
#[inline(always)]
fn first(source: &impl Source, at: u32, count: u32) -> Option<(u64, u64)> {
    let mut bytes = [0_u64; 2];
    let mut size = u64::from(count.wrapping_sub(1));
    // SAFETY: changes nothing, since a count is 1 to 16; said in assembly, where the compiler
    // cannot take the bounds away before the verifier sees them.
    unsafe { asm!("{size} &= 15", "{size} += 1", size = inout(reg) size) };
    let copied = source.copy(at, bytes.as_mut_ptr(), size);
    copied.then(|| (u64::from_be(bytes[0]), u64::from_be(bytes[1])))
}

/// A payload as a walk needs it. A copy (from page fragments, or from a process) costs as much as a
/// step, so one copy serves several of them.
pub struct Buffered<S> {
    pub source: S,
    /// Length of the payload.
    pub len: u32,
    /// What is copied.
    pub ahead: *mut Ahead,
}

/// Bytes of a payload that were copied.
#[repr(C)]
#[derive(Default)]
pub struct Ahead {
    /// The last 16 are never read as more than what a read drags along.
    bytes: [u64; (AHEAD + WINDOW) as usize / 8],
    /// Where in the payload they are from.
    begin: u32,
    /// How many there are.
    count: u32,
}

/// Most bytes that are copied at once.
const AHEAD: u32 = 96;
/// Words of 8 bytes that are searched for the end of a line.
const LOOK: u32 = 8;

impl<S: Source> Buffered<S> {
    /// Copies the bytes from `at` on: as many as there is room for.
    #[inline(always)]
    fn copy(&self, ahead: &mut Ahead, at: u32) -> Option<()> {
        let rest = self.len.wrapping_sub(at);
        if at >= self.len {
            return None;
        }
        let mut size = u64::from(if rest < AHEAD { rest } else { AHEAD }).wrapping_sub(1);
        // SAFETY: changes nothing but the one that was taken away, since there are 1 to 96 bytes;
        // said in assembly, where the compiler cannot take the bounds away before the verifier
        // sees them. An older one learns no lower bound from a comparison with 0.
        unsafe { asm!("{size} &= 127", "{size} += 1", size = inout(reg) size) };
        if size > u64::from(AHEAD) {
            return None;
        }
        let copied = self.source.copy(at, ahead.bytes.as_mut_ptr(), size);
        ahead.begin = at;
        ahead.count = size as u32;
        copied.then_some(())
    }
}

impl<S: Source> Bytes for Buffered<S> {
    #[inline(always)]
    fn load(&self, at: u32, count: u32) -> Option<(u64, u64)> {
        // SAFETY: it is a part of the caller's walk, and no other reference to it exists now.
        let ahead = unsafe { &mut *self.ahead };
        if at.wrapping_sub(ahead.begin).saturating_add(count) > ahead.count {
            self.copy(ahead, at)?;
            if count > ahead.count {
                return None;
            }
        }
        let mut skip = u64::from(at.wrapping_sub(ahead.begin));
        // SAFETY: changes nothing, since what is skipped was copied; as above.
        unsafe { asm!("{skip} &= 127", skip = inout(reg) skip) };
        if skip > u64::from(AHEAD) {
            return None;
        }
        // SAFETY: behind the last byte that may be skipped there are 16 more.
        let from = unsafe { ahead.bytes.as_ptr().cast::<u8>().add(skip as usize) } as usize;
        let (high, low) = (double(from), double(from + 8));
        Some(match count {
            16.. => (high, low),
            9.. => (high, low & u64::MAX << (128 - 8 * count)),
            _ => (high & u64::MAX << (64 - 8 * count), 0),
        })
    }

    #[inline(always)]
    fn line_feed(&self, at: u32) -> Option<u32> {
        // SAFETY: as in `load`.
        let ahead = unsafe { &*self.ahead };
        let begin = at.wrapping_sub(ahead.begin);
        let mut word = 0;
        while word < LOOK {
            let mut skip = u64::from(begin.wrapping_add(8 * word));
            // SAFETY: as in `load`.
            unsafe { asm!("{skip} &= 127", skip = inout(reg) skip) };
            if skip + 8 > u64::from(ahead.count) || skip > u64::from(AHEAD) {
                return None;
            }
            // SAFETY: as in `load`.
            let from = unsafe { ahead.bytes.as_ptr().cast::<u8>().add(skip as usize) } as usize;
            if let Some(index) = paramedic_protocol::first_of(double(from), b'\n') {
                return Some(at.wrapping_add(8 * word + index));
            }
            word += 1;
        }
        None
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn settle(&self, side: &mut Side) {
        forget(side);
    }
}

/// The clock since boot, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Makes the verifier forget what it knows of the side's values.
#[inline(always)]
fn forget(side: &mut Side) {
    // SAFETY: does nothing; the compiler must assume that it changes the side. An instruction all
    // the same, since the kernel refuses information on lines without any.
    unsafe { asm!("{side} = {side}", side = inout(reg) ptr::from_mut(side) => _) };
}

/// A byte of the linear part, checked by the caller.
#[inline(always)]
fn byte(at: usize) -> u8 {
    // SAFETY: the caller compared with the end of the linear part, or the verifier refuses.
    unsafe { ptr::read(at as *const u8) }
}

/// A big-endian half word of the linear part, checked by the caller.
#[inline(always)]
fn half(at: usize) -> u16 {
    u16::from_be_bytes([byte(at), byte(at + 1)])
}

/// A big-endian word of the linear part, checked by the caller.
#[inline(always)]
fn full(at: usize) -> u32 {
    // SAFETY: as for `byte`; the header is aligned to 4 bytes, and need not be here.
    u32::from_be(unsafe { ptr::read_unaligned(at as *const u32) })
}

/// A big-endian double word, checked by the caller.
#[inline(always)]
fn double(at: usize) -> u64 {
    let word: u64;
    // SAFETY: as for `byte`. In assembly, because the compiler would read byte by byte what may not
    // be aligned; the kernel permits it on the architectures that do.
    unsafe {
        asm!("{word} = *(u64 *)({at} + 0)", word = lateout(reg) word, at = in(reg) at,
            options(pure, readonly, nostack));
    }
    u64::from_be(word)
}
