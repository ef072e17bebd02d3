//! Where kernels differ, and why. Whatever is not in these tables must be the same on every kernel.

use super::steps::Layout;

/// A signal that this kernel has by another mechanism than the best.
pub(super) struct Lesser {
    pub(super) series: &'static str,
    pub(super) signal: &'static str,
    pub(super) mechanism: &'static str,
    pub(super) why: &'static str,
}

/// Empty: Debian's 6.1 is recent enough to have what was added after its release (a task in the
/// tracepoint `mark_victim`, February 2025).
pub(super) const LESSER: &[Lesser] = &[];

/// The best mechanism of each signal, which every kernel has that is not in [`LESSER`].
pub(super) const BEST: [(&str, &str); 8] = [
    ("http_responses", "cgroup_skb"),
    ("http_requests", "cgroup_skb"),
    ("tcp_resets_received", "tp_btf"),
    ("tcp_resets_sent", "tp_btf"),
    ("tcp_retransmits", "tp_btf"),
    ("cpu_throttling", "fentry"),
    ("oom_kills", "tp_btf"),
    ("tls_responses", "uprobe"),
];

/// What takes a mechanism's place where it is refused.
pub(super) fn next(signal: &str, mechanism: &str) -> &'static str {
    match (signal, mechanism) {
        ("cpu_throttling", "fentry") => "kprobe",
        ("cpu_throttling", "kprobe") => "hrtimer",
        ("cpu_throttling", "hrtimer") | ("oom_kills", _) => "poll",
        (_, "tp_btf") => "tracepoint",
        _ => "none",
    }
}

/// A v1 controller that this kernel lacks: it stays in cgroup2.
pub(super) struct NoV1 {
    pub(super) series: &'static str,
    pub(super) controller: &'static str,
    pub(super) why: &'static str,
}

pub(super) const NO_V1: [NoV1; 1] = [NoV1 {
    series: "6.12",
    controller: "memory",
    why: "Debian builds 6.12 without CONFIG_MEMCG_V1",
}];

/// Tests that are left out of the machines, of all or of some.
pub(super) struct LeftOut {
    /// What the names of these tests begin with.
    pub(super) tests: &'static str,
    pub(super) series: Option<&'static str>,
    pub(super) layout: Option<Layout>,
    pub(super) why: &'static str,
}

impl LeftOut {
    pub(super) fn is_of(&self, series: &str, layout: Layout) -> bool {
        self.series.is_none_or(|one| one == series) && self.layout.is_none_or(|one| one == layout)
    }
}

pub(super) const LEFT_OUT: [LeftOut; 9] = [
    LeftOut {
        tests: "foreign::",
        series: None,
        layout: None,
        why: "the machines have no python3 and no nginx, and these tests do not depend on the kernel",
    },
    LeftOut {
        tests: "grpc::",
        series: None,
        layout: None,
        why: "the machines have no python3; `protocol::` tests how gRPC is counted",
    },
    LeftOut {
        tests: "serving::",
        series: None,
        layout: None,
        why: "the machines have no python3, and every kernel's /proc shows the serving process in the same way",
    },
    LeftOut {
        tests: "tls::",
        series: None,
        layout: None,
        why: "the machines have no servers that speak TLS; that the programs load there is tested",
    },
    LeftOut {
        tests: "command_line::",
        series: None,
        layout: None,
        why: "the agent prints the same on every kernel, except for `check`, which is a step of its own",
    },
    LeftOut {
        tests: "cluster::",
        series: None,
        layout: None,
        why: "the API server's answers do not depend on the kernel; `slices::` tests how containers are found",
    },
    LeftOut {
        tests: "held_back::",
        series: None,
        layout: None,
        why: "what keeps the agent from healing is in its own files",
    },
    LeftOut {
        tests: "protocol::every_recorded",
        series: None,
        layout: None,
        why: "the recordings are not in the machines, but for one of each server",
    },
    LeftOut {
        tests: "process::this_tests_own_memory_is_read",
        series: Some("6.12"),
        layout: Some(Layout::V1),
        why: "without cgroup2 no hierarchy has the memory controller there (see above)",
    },
];
