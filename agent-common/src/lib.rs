//! Records that Paramedic's eBPF programs and its agent exchange through maps.
//!
//! They have integers only and no implicit padding, and their sizes are asserted at compile time:
//! different compilers build the two sides for different targets. Nothing here interprets the
//! numbers; the module `features` does.
#![no_std]

/// The kinds of identity that a [`Key`] can name.
///
/// One target has up to five keys, because traffic may be narrowed to a port, and the CPU
/// controller's cgroup may be in another hierarchy (cgroup v1) with its own id.
pub mod scope {
    /// HTTP responses and requests, resets, retransmits: cgroup2 id and local port (0: any).
    pub const TRAFFIC: u16 = 0;
    /// What the target does as a client (requests, responses, failed connects): cgroup2 id, port 0.
    pub const UPSTREAM: u16 = 1;
    /// CPU throttling: id of the cgroup in the hierarchy of the CPU controller, port 0.
    pub const CPU: u16 = 2;
    /// OOM kills: cgroup2 id, port 0.
    pub const MEMORY: u16 = 3;
    /// What its processes write into TLS: cgroup2 id, port 0.
    pub const TLS: u16 = 4;
}

/// Identifies one watched cgroup in the kernel, optionally narrowed to a local TCP port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// The cgroup's id: the inode number of its directory.
    pub cgroup: u64,
    /// Local TCP port in host byte order; 0 is any.
    pub port: u16,
    /// One of [`scope`].
    pub scope: u16,
    /// Always 0.
    pub padding: u32,
}

impl Key {
    /// A key without hidden padding.
    #[must_use]
    #[inline(always)]
    pub const fn new(cgroup: u64, port: u16, scope: u16) -> Self {
        Self { cgroup, port, scope, padding: 0 }
    }
}

/// The kernel's counts for one target since it was watched; one copy per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// HTTP responses that the target sent, by class: 1xx, 2xx, 3xx, 4xx, 5xx. A response whose code
    /// of gRPC is the server's fault is a 5xx.
    pub responses: [u64; 5],
    /// HTTP requests that reached the target.
    pub requests: u64,
    /// HTTP 5xx responses that the target received as a client.
    pub upstream_5xx: u64,
    /// TCP resets received on the target's connections, without those that refuse a connect.
    pub resets_received: u64,
    /// TCP resets sent from the target's sockets.
    pub resets_sent: u64,
    /// TCP segments retransmitted, without SYNs.
    pub retransmits: u64,
    /// Processes killed by the OOM killer.
    pub oom_kills: u64,
    /// Those of the target's 5xx responses that were 502, 503 or 504: "a backend fails", or "not
    /// now". Like `responses`, they include responses to the agent's own polls.
    pub unavailable: u64,
    /// HTTP requests that the target sent as a client.
    pub upstream_requests: u64,
    /// HTTP responses of any class but 1xx that the target received as a client.
    pub upstream_responses: u64,
    /// Those of them that were 401, 403 or 407: the backend does not accept the target.
    pub upstream_denied: u64,
    /// Refused connects of the target, and retransmitted SYNs of its connects.
    pub connects_failed: u64,
    /// Messages of the target's clients and of its own that were not understood: no request or
    /// response was found where one begins, or a packet was not looked at to its end.
    pub not_understood: u64,
    /// HTTP/2 responses that the target sent whose status, or whose code of gRPC, refers to what the
    /// connection said before it was seen.
    pub unknown: u64,
    /// Those of `responses` and `unknown` that count the trailers of a response whose head was counted
    /// before, with its own class.
    pub in_trailers: u64,
    /// Those of `requests` whose response is not timed.
    pub untimed: u64,
    /// Requests whose connection the target closed without a response. A request whose head was not
    /// complete is none.
    pub dropped: u64,
    /// Requests that the client gave up: it closed the connection, or reset the stream, and got no
    /// response. By the time that they had waited: see [`AGES`].
    pub given_up: [u64; AGES],
}

/// Groups of waiting times: below 1 s, 2 s, 4 s, and so on to 64 s, and longer. A second is 2^30 ns
/// here.
pub const AGES: usize = 8;

impl Counters {
    /// The sum of two copies, field by field.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (sum, responses) in self.responses.iter_mut().zip(other.responses) {
            *sum = sum.wrapping_add(responses);
        }
        self.requests = self.requests.wrapping_add(other.requests);
        self.upstream_5xx = self.upstream_5xx.wrapping_add(other.upstream_5xx);
        self.resets_received = self.resets_received.wrapping_add(other.resets_received);
        self.resets_sent = self.resets_sent.wrapping_add(other.resets_sent);
        self.retransmits = self.retransmits.wrapping_add(other.retransmits);
        self.oom_kills = self.oom_kills.wrapping_add(other.oom_kills);
        self.unavailable = self.unavailable.wrapping_add(other.unavailable);
        self.upstream_requests = self.upstream_requests.wrapping_add(other.upstream_requests);
        self.upstream_responses = self.upstream_responses.wrapping_add(other.upstream_responses);
        self.upstream_denied = self.upstream_denied.wrapping_add(other.upstream_denied);
        self.connects_failed = self.connects_failed.wrapping_add(other.connects_failed);
        self.not_understood = self.not_understood.wrapping_add(other.not_understood);
        self.unknown = self.unknown.wrapping_add(other.unknown);
        self.in_trailers = self.in_trailers.wrapping_add(other.in_trailers);
        self.untimed = self.untimed.wrapping_add(other.untimed);
        self.dropped = self.dropped.wrapping_add(other.dropped);
        for (sum, given_up) in self.given_up.iter_mut().zip(other.given_up) {
            *sum = sum.wrapping_add(given_up);
        }
        self
    }
}

/// Buckets of [`Latencies`].
pub const BUCKETS: usize = 32;

/// How long the target's responses took, from the first byte of the request to the end of the head
/// of the final response, since it was watched; one copy per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Responses by time; `paramedic_protocol::latency` has the bounds.
    pub buckets: [u64; BUCKETS],
}

impl Latencies {
    /// The sum of two copies, bucket by bucket.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = sum.wrapping_add(count);
        }
        self
    }
}

/// The CPU controller's own counters of one cgroup, in the last snapshot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Bandwidth periods in which the group was throttled (`nr_throttled`).
    pub periods: u64,
    /// Time throttled, summed over CPUs, in ns (`throttled_time`).
    pub nanoseconds: u64,
    /// Length of one bandwidth period in ns; 0 until first seen.
    pub period_ns: u64,
}

/// Why a target woke the agent.
pub mod cause {
    /// The target sent an HTTP 5xx other than 502, 503 and 504.
    pub const HTTP_5XX: u32 = 1;
    /// A TCP reset was sent or received.
    pub const RESET: u32 = 2;
    /// The CPU controller throttled the target.
    pub const THROTTLED: u32 = 3;
    /// The OOM killer chose one of the target's processes.
    pub const OOM_KILL: u32 = 4;
}

/// One ring-buffer record: the first bad event of an armed target since the last sample.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wakeup {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`) at the event.
    pub at_ns: u64,
    /// The target's slot.
    pub slot: u32,
    /// The generation with which the slot was armed, which identifies its owner.
    pub generation: u32,
    /// One of [`cause`].
    pub cause: u32,
    /// Always 0.
    pub padding: u32,
}

/// Marks a kernel offset that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets within kernel structs. The agent reads them from the running kernel's BTF and
/// passes them as read-only data, so that the verifier sees constants. [`ABSENT`] for a missing
/// one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `sock.sk_cgrp_data.cgroup`
    pub sock_cgroup: u32,
    /// `sock.__sk_common.skc_state`
    pub sock_state: u32,
    /// `inet_sock.inet_sport`: survives the unhashing that zeroes `skc_num` before a reset is sent
    pub inet_sport: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
    /// `cfs_rq.tg`
    pub cfs_rq_tg: u32,
    /// `task_group.css.cgroup`
    pub tg_cgroup: u32,
    /// `task_group.cfs_bandwidth`
    pub tg_bandwidth: u32,
    /// `cfs_bandwidth.period_timer`
    pub bandwidth_timer: u32,
    /// `cfs_bandwidth.period`
    pub bandwidth_period: u32,
    /// `cfs_bandwidth.nr_throttled`
    pub bandwidth_nr_throttled: u32,
    /// `cfs_bandwidth.throttled_time`
    pub bandwidth_throttled_time: u32,
    /// `hrtimer.function`
    pub hrtimer_function: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub css_set_dfl: u32,
    /// Offset of `skaddr` in the record of the classic tracepoint `tcp:tcp_receive_reset`
    pub event_receive_reset_sock: u32,
    /// Offset of `skaddr` in the record of the classic tracepoint `tcp:tcp_send_reset`
    pub event_send_reset_sock: u32,
    /// Offset of `skaddr` in the record of the classic tracepoint `tcp:tcp_retransmit_skb`
    pub event_retransmit_sock: u32,
}

impl Offsets {
    /// No offset known.
    pub const NONE: Self = Self {
        sock_cgroup: ABSENT,
        sock_state: ABSENT,
        inet_sport: ABSENT,
        cgroup_kn: ABSENT,
        kn_id: ABSENT,
        cfs_rq_tg: ABSENT,
        tg_cgroup: ABSENT,
        tg_bandwidth: ABSENT,
        bandwidth_timer: ABSENT,
        bandwidth_period: ABSENT,
        bandwidth_nr_throttled: ABSENT,
        bandwidth_throttled_time: ABSENT,
        hrtimer_function: ABSENT,
        task_cgroups: ABSENT,
        css_set_dfl: ABSENT,
        event_receive_reset_sock: ABSENT,
        event_send_reset_sock: ABSENT,
        event_retransmit_sock: ABSENT,
    };
}

const _: () = {
    assert!(size_of::<Key>() == 16);
    assert!(size_of::<Counters>() == 232);
    assert!(size_of::<Latencies>() == 8 * BUCKETS);
    assert!(size_of::<Throttling>() == 24);
    assert!(size_of::<Wakeup>() == 24);
    assert!(size_of::<Offsets>() == 18 * 4);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Counters, Key, Latencies, Offsets, Throttling, Wakeup};

    // SAFETY: `repr(C)`, integers only, no padding (sizes asserted above): any bytes are a value.
    unsafe impl aya::Pod for Key {}
    // SAFETY: as for `Key`.
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as for `Key`.
    unsafe impl aya::Pod for Latencies {}
    // SAFETY: as for `Key`.
    unsafe impl aya::Pod for Throttling {}
    // SAFETY: as for `Key`.
    unsafe impl aya::Pod for Wakeup {}
    // SAFETY: as for `Key`.
    unsafe impl aya::Pod for Offsets {}
}
