//! Counts TCP resets and retransmits by the socket's own cgroup and local port, and failed connects
//! by the cgroup alone.
//!
//! A reset that a socket in SYN_SENT receives refuses a connect of the target, and a segment that
//! it retransmits is an unanswered SYN. Both count as a failed connect only. The port of such a
//! socket is arbitrary, so a target that owns its whole cgroup would otherwise count them as resets
//! and retransmits of its own connections, which indicate trouble of its *clients*. They indicate
//! trouble of a backend: an excuse, never a symptom, and no reason to wake the agent. A connect
//! that a router or a firewall refuses by ICMP is not seen.
//!
//! The programs never use "current", because these events fire in softirq, in the context of any
//! process. A socket that is not a full socket (in TIME_WAIT, or a request that is not yet
//! accepted) has no cgroup to read, and a reset for a closed port has no socket at all: neither is
//! attributed.
use core::ptr;

use agent_common::{Counters, cause, scope};
use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};

use crate::{
    kernel::{Memory, OFFSETS, Probed, Typed, cgroup_id, offset},
    maps,
};

const SYN_SENT: u8 = 2;
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECV: u8 = 12;

#[derive(Clone, Copy)]
enum Event {
    ResetReceived,
    ResetSent,
    Retransmit,
}

#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn rst_in_btf(ctx: BtfTracePointContext) -> i32 {
    let _ = try_event::<Typed>(ctx.arg(0), Event::ResetReceived);
    0
}

#[btf_tracepoint(function = "tcp_send_reset")]
pub fn rst_out_btf(ctx: BtfTracePointContext) -> i32 {
    let _ = try_event::<Typed>(ctx.arg(0), Event::ResetSent);
    0
}

#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn resend_btf(ctx: BtfTracePointContext) -> i32 {
    let _ = try_event::<Typed>(ctx.arg(0), Event::Retransmit);
    0
}

#[tracepoint(category = "tcp", name = "tcp_receive_reset")]
pub fn rst_in_classic(ctx: TracePointContext) -> u32 {
    let _ = try_classic(&ctx, offset(&OFFSETS.event_receive_reset_sock), Event::ResetReceived);
    0
}

#[tracepoint(category = "tcp", name = "tcp_send_reset")]
pub fn rst_out_classic(ctx: TracePointContext) -> u32 {
    let _ = try_classic(&ctx, offset(&OFFSETS.event_send_reset_sock), Event::ResetSent);
    0
}

#[tracepoint(category = "tcp", name = "tcp_retransmit_skb")]
pub fn resend_classic(ctx: TracePointContext) -> u32 {
    let _ = try_classic(&ctx, offset(&OFFSETS.event_retransmit_sock), Event::Retransmit);
    0
}

#[inline(always)]
fn try_classic(ctx: &TracePointContext, skaddr: usize, event: Event) -> Option<()> {
    // SAFETY: the helper behind it checks the address.
    let socket = unsafe { ctx.read_at::<*const u8>(skaddr) }.ok()?;
    try_event::<Probed>(socket, event)
}

#[inline(always)]
fn try_event<M: Memory>(socket: *const u8, event: Event) -> Option<()> {
    // Newer verifiers require it.
    if socket.is_null() {
        return None;
    }
    // Older ones assume that a tracepoint's argument is never null, and remove the comparison
    // above. On kernels that report resets for closed ports (6.10 and later) but do not mark the
    // argument, a plain load would fault. A checked copy does not, and ends the program here.
    let state: u8 = Probed::read(socket, offset(&OFFSETS.sock_state))?;
    if state == TIME_WAIT || state == NEW_SYN_RECV {
        return None;
    }
    let cgroup = cgroup_id::<M>(M::follow(socket, offset(&OFFSETS.sock_cgroup))?)?;
    if state == SYN_SENT && !matches!(event, Event::ResetSent) {
        let slot = maps::slot(cgroup, scope::UPSTREAM)?;
        // SAFETY: only the address is taken.
        maps::count(slot, |counters| unsafe { &raw mut (*counters).connects_failed });
        return Some(());
    }
    // This is beyond `struct sock`, which is all that the verifier knows of the pointer: a checked
    // copy.
    let port: u16 = Probed::read(socket, offset(&OFFSETS.inet_sport))?;
    let slot = maps::traffic_slot(cgroup, u16::from_be(port))?;
    maps::count(slot, |counters| field(counters, event));
    if !matches!(event, Event::Retransmit) {
        maps::wake(slot, cause::RESET);
    }
    Some(())
}

#[inline(always)]
fn field(counters: *mut Counters, event: Event) -> *mut u64 {
    // SAFETY: `counters` is a whole map value; only addresses are taken.
    unsafe {
        match event {
            Event::ResetReceived => ptr::addr_of_mut!((*counters).resets_received),
            Event::ResetSent => ptr::addr_of_mut!((*counters).resets_sent),
            Event::Retransmit => ptr::addr_of_mut!((*counters).retransmits),
        }
    }
}
