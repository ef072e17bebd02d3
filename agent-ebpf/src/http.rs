//! Counts plaintext HTTP/1.x messages at the edge of a watched cgroup.
//!
//! A message is recognised by the first bytes of the packet that it begins in. A message that does
//! not begin a packet is not seen: the second of two pipelined responses in one buffer, a status
//! line written in pieces, TLS, HTTP/2, and anything behind IPv6 extension headers. A retransmitted
//! first packet counts twice.
//!
//! Both directions carry requests and responses: a target answers requests, and sends its own to
//! backends. A response that leaves the target and a request that reaches it are its own traffic,
//! identified by its port. A request that leaves it and a response that reaches it are calls of its
//! backends, identified by its cgroup alone, because a client's port is arbitrary. A target in a
//! shared cgroup has no such key, and costs one look-up.
//!
//! A 502, 503 or 504 means that a backend fails, or "not now": it is counted separately and does
//! not wake the agent. The periodic sample sees it early enough for the soft remedy that it permits
//! at most.
//!
//! The programs let every packet pass. Ordinary packets (acknowledgements, bulk data) pass after
//! one read of their head.
use core::{arch::asm, mem::MaybeUninit, ptr};

use agent_common::{cause, scope};
use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_cgroup_id, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};

use crate::maps;

const PASS: i32 = 1;
const TCP: u8 = 6;
/// The bits of an IPv4 fragment header that are non-zero in all but the first fragment.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Bytes that identify a message: `HTTP/1.1 200`.
const HEAD: u32 = 12;
/// The class of 5xx.
const SERVER_ERROR: usize = 4;

#[cgroup_skb(egress)]
pub fn http_egress(ctx: SkBuffContext) -> i32 {
    let _ = try_egress(Packet::new(&ctx));
    PASS
}

#[cgroup_skb(ingress)]
pub fn http_ingress(ctx: SkBuffContext) -> i32 {
    let _ = try_ingress(Packet::new(&ctx));
    PASS
}

#[inline(always)]
fn try_egress(packet: Packet) -> Option<()> {
    let segment = packet.segment()?;
    let Some(class) = segment.head.response_class() else {
        if !segment.head.is_request() {
            return None;
        }
        let slot = maps::slot(packet.cgroup(), scope::UPSTREAM)?;
        // SAFETY: only the address is taken.
        maps::count(slot, |counters| unsafe { &raw mut (*counters).upstream_requests });
        return Some(());
    };
    let slot = maps::traffic_slot(packet.cgroup(), segment.source)?;
    let counters = maps::counters(slot)?;
    let mut index = class;
    // SAFETY: changes nothing, since a class is below 5; said in assembly, where the compiler
    // cannot take the bound away before the verifier sees it.
    unsafe { asm!("{index} &= 7", index = inout(reg) index) };
    // SAFETY: only an address within the array is taken.
    maps::add(unsafe { (&raw mut (*counters).responses).cast::<u64>().add(index) });
    if class == SERVER_ERROR {
        if segment.head.is_unavailable() {
            // SAFETY: only the address is taken.
            maps::add(unsafe { &raw mut (*counters).unavailable });
        } else {
            maps::wake(slot, cause::HTTP_5XX);
        }
    }
    Some(())
}

#[inline(always)]
fn try_ingress(packet: Packet) -> Option<()> {
    let segment = packet.segment()?;
    if segment.head.is_request() {
        let slot = maps::traffic_slot(packet.cgroup(), segment.destination)?;
        // SAFETY: only the address is taken.
        maps::count(slot, |counters| unsafe { &raw mut (*counters).requests });
        return Some(());
    }
    // A 1xx is not the final response.
    let class = segment.head.response_class().filter(|class| *class > 0)?;
    let counters = maps::counters(maps::slot(packet.cgroup(), scope::UPSTREAM)?)?;
    // SAFETY: only addresses are taken.
    unsafe {
        maps::add(&raw mut (*counters).upstream_responses);
        if class == SERVER_ERROR {
            maps::add(&raw mut (*counters).upstream_5xx);
        }
    }
    Some(())
}

/// One TCP segment with a payload.
struct Segment {
    source: u16,
    destination: u16,
    head: Head,
}

/// The first bytes of a payload, as big-endian words.
struct Head {
    first: u64,
    rest: u32,
}

impl Head {
    /// The class of an HTTP/1.x response, 0 for 1xx to 4 for 5xx.
    #[inline(always)]
    fn response_class(&self) -> Option<usize> {
        let [space, class, tens, ones] = self.rest.to_be_bytes();
        let digit = |byte: u8| byte.is_ascii_digit();
        let class = class.wrapping_sub(b'1');
        let known = self.first >> 8 == word(b"HTTP/1.") >> 8
            && digit(self.first as u8)
            && space == b' '
            && class < 5
            && digit(tens)
            && digit(ones);
        known.then_some(class as usize)
    }

    /// For a response of class 5xx: whether it is a 502, 503 or 504.
    #[inline(always)]
    fn is_unavailable(&self) -> bool {
        let [_, _, tens, ones] = self.rest.to_be_bytes();
        tens == b'0' && matches!(ones, b'2'..=b'4')
    }

    #[inline(always)]
    fn is_request(&self) -> bool {
        // Most packets that are not requests leave at the first letter.
        match (self.first >> 56) as u8 {
            b'G' => self.begins(b"GET "),
            b'P' => self.begins(b"POST ") || self.begins(b"PUT ") || self.begins(b"PATCH "),
            b'H' => self.begins(b"HEAD "),
            b'D' => self.begins(b"DELETE "),
            b'O' => self.begins(b"OPTIONS "),
            b'C' => self.begins(b"CONNECT "),
            b'T' => self.begins(b"TRACE "),
            _ => false,
        }
    }

    #[inline(always)]
    fn begins<const N: usize>(&self, method: &[u8; N]) -> bool {
        self.first >> (64 - 8 * N) == word(method) >> (64 - 8 * N)
    }
}

/// Up to 8 bytes as the leading bytes of a big-endian word.
const fn word<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut word = [0; 8];
    let mut i = 0;
    while i < N {
        word[i] = bytes[i];
        i += 1;
    }
    u64::from_be_bytes(word)
}

/// A packet from its network header on.
#[derive(Clone, Copy)]
struct Packet {
    skb: *mut __sk_buff,
}

impl Packet {
    #[inline(always)]
    fn new(ctx: &SkBuffContext) -> Self {
        Self { skb: ctx.as_ptr().cast() }
    }

    /// Id of the cgroup of the packet's socket.
    #[inline(always)]
    fn cgroup(self) -> u64 {
        // SAFETY: the program's own context.
        unsafe { bpf_skb_cgroup_id(self.skb) }
    }

    /// The segment, if this is TCP with enough payload to classify.
    #[inline(always)]
    fn segment(self) -> Option<Segment> {
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
    fn transport(self, at: usize, offset: u32, is_tcp: bool) -> Option<Segment> {
        if !is_tcp {
            return None;
        }
        let payload = offset + u32::from(byte(at + 12) >> 4) * 4;
        let head = self.head(payload)?;
        Some(Segment { source: half(at), destination: half(at + 2), head })
    }

    /// The same with copies: for IPv4 options, and headers outside the linear part.
    #[inline(always)]
    fn unusual(self) -> Option<Segment> {
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
        let length: u8 = self.load(transport + 12)?;
        let head = self.head(transport + u32::from(length >> 4) * 4)?;
        Some(Segment { source: u16::from_be(source), destination: u16::from_be(destination), head })
    }

    /// The first bytes of the payload, wherever they are: of outgoing packets they are usually in
    /// page fragments, outside the linear part.
    #[inline(always)]
    fn head(self, payload: u32) -> Option<Head> {
        // SAFETY: a field of the program's own context.
        let length = unsafe { (*self.skb).len };
        if length < payload + HEAD {
            return None;
        }
        let [high, low, rest]: [u32; 3] = self.load(payload)?;
        Some(Head {
            first: u64::from(u32::from_be(high)) << 32 | u64::from(u32::from_be(low)),
            rest: u32::from_be(rest),
        })
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
