//! Where kernels differ, and why. Whatever is not in these tables must be the same on every kernel.

use xtask::arch::Arch;

use super::{kernels::Kernel, steps::Layout};

/// A signal that this kernel has by another mechanism than the best; `none` if it lacks it.
pub(super) struct Lesser {
    pub(super) series: &'static str,
    pub(super) arch: Option<Arch>,
    pub(super) signal: &'static str,
    pub(super) mechanism: &'static str,
    pub(super) why: &'static str,
}

impl Lesser {
    pub(super) fn is_of(&self, kernel: &Kernel, signal: &str) -> bool {
        self.series == kernel.series
            && self.arch.is_none_or(|arch| arch == kernel.arch)
            && self.signal == signal
    }
}

const fn lesser(
    series: &'static str,
    arch: Option<Arch>,
    signal: &'static str,
    mechanism: &'static str,
    why: &'static str,
) -> Lesser {
    Lesser { series, arch, signal, mechanism, why }
}

/// Not among them is what Debian's kernels are recent enough to have, although it was added after
/// their releases: a task in the tracepoint `mark_victim`, and the cgroup of a socket at a fixed
/// place.
pub(super) const LESSER: &[Lesser] = &[
    lesser("5.10", None, "http_responses", "none", POINTERS),
    lesser("5.10", None, "http_requests", "none", POINTERS),
    lesser("5.10", None, "tls_responses", "none", POINTERS),
    lesser("5.10", Some(Arch::Arm64), "tcp_resets_received", "none", OLD),
    lesser("5.10", Some(Arch::Arm64), "tcp_resets_sent", "none", OLD),
    lesser("5.10", Some(Arch::Arm64), "tcp_retransmits", "none", OLD),
    lesser("5.10", Some(Arch::Arm64), "oom_kills", "poll", OLD),
    lesser("5.10", Some(Arch::Arm64), "cpu_throttling", "kprobe", DIRECT_CALLS),
    lesser("6.1", Some(Arch::Arm64), "cpu_throttling", "kprobe", DIRECT_CALLS),
];

const POINTERS: &str = "functions take pointers from 5.12 on";
const OLD: &str = "Debian's last one for arm64, 5.10.223, has not what later ones were given of newer \
                   kernels";
const DIRECT_CALLS: &str = "arm64 attaches fentry programs from 6.4 on";

/// Programs that a kernel refuses, by what their names begin with.
struct Refuses {
    series: &'static str,
    arch: Option<Arch>,
    programs: &'static [&'static str],
    why: &'static str,
}

const REFUSES: &[Refuses] = &[
    Refuses {
        series: "5.10",
        arch: None,
        programs: &["http_", "ssl_write", "go_write"],
        why: POINTERS,
    },
    Refuses {
        series: "5.10",
        arch: Some(Arch::Arm64),
        programs: &["rst_", "resend_", "oom_victim", "throttle_entry"],
        why: OLD,
    },
];

/// Why this kernel refuses the program, if it is known to.
pub(super) fn refuses(kernel: &Kernel, program: &str) -> Option<&'static str> {
    let of_kernel = |refuses: &&Refuses| {
        refuses.series == kernel.series
            && refuses.arch.is_none_or(|arch| arch == kernel.arch)
            && refuses.programs.iter().any(|name| program.starts_with(name))
    };
    REFUSES.iter().find(of_kernel).map(|refuses| refuses.why)
}

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
    pub(super) arch: Option<Arch>,
    pub(super) layout: Option<Layout>,
    pub(super) why: &'static str,
}

impl LeftOut {
    pub(super) fn is_of(&self, kernel: &Kernel, layout: Layout) -> bool {
        self.series.is_none_or(|one| one == kernel.series)
            && self.arch.is_none_or(|one| one == kernel.arch)
            && self.layout.is_none_or(|one| one == layout)
    }
}

pub(super) const LEFT_OUT: [LeftOut; 12] = [
    LeftOut {
        tests: "foreign::",
        series: None,
        arch: None,
        layout: None,
        why: "the machines have no python3 and no nginx, and these tests do not depend on the kernel",
    },
    LeftOut {
        tests: "grpc::",
        series: None,
        arch: None,
        layout: None,
        why: "the machines have no python3; `protocol::` tests how gRPC is counted",
    },
    LeftOut {
        tests: "serving::",
        series: None,
        arch: None,
        layout: None,
        why: "the machines have no python3, and every kernel's /proc shows the serving process in the same way",
    },
    LeftOut {
        tests: "tls::",
        series: None,
        arch: None,
        layout: None,
        why: "the machines have no servers that speak TLS; that the programs load there is tested",
    },
    LeftOut {
        tests: "command_line::",
        series: None,
        arch: None,
        layout: None,
        why: "the agent prints the same on every kernel, except for `check`, which is a step of its own",
    },
    LeftOut {
        tests: "cluster::",
        series: None,
        arch: None,
        layout: None,
        why: "the API server's answers do not depend on the kernel; `slices::` tests how containers are found",
    },
    LeftOut {
        tests: "refused::",
        series: None,
        arch: None,
        layout: None,
        why: "they take as long as all others together: `cargo xtask vm --load` runs them",
    },
    LeftOut {
        tests: "held_back::",
        series: None,
        arch: None,
        layout: None,
        why: "what keeps the agent from healing is in its own files",
    },
    LeftOut {
        tests: "protocol::every_recorded",
        series: None,
        arch: None,
        layout: None,
        why: "the recordings are not in the machines, but for one of each server",
    },
    LeftOut {
        tests: "process::this_tests_own_memory_is_read",
        series: Some("6.12"),
        arch: None,
        layout: Some(Layout::V1),
        why: "without cgroup2 no hierarchy has the memory controller there (see above)",
    },
    without_fentry("5.10"),
    without_fentry("6.1"),
];

const fn without_fentry(series: &'static str) -> LeftOut {
    let (series, arch) = (Some(series), Some(Arch::Arm64));
    LeftOut {
        tests: "resources::throttling_by_fentry",
        series,
        arch,
        layout: None,
        why: DIRECT_CALLS,
    }
}
