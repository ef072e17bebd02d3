//! The kernel signals of this machine: the mechanism of each, and what was tried.

/// A kernel signal of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Responses that the target sends, and requests that it sends as a client.
    HttpResponses,
    /// Requests that it receives, and responses that it receives as a client.
    HttpRequests,
    /// TCP resets from its peers, and refused connects of its own.
    TcpResetsReceived,
    /// TCP resets to its peers.
    TcpResetsSent,
    /// Retransmitted segments, and retransmitted SYNs of its own connects.
    TcpRetransmits,
    /// Bandwidth periods in which its CPU quota was used up.
    CpuThrottling,
    /// Kills by the OOM killer.
    OomKills,
    /// Responses that it writes into TLS, if it opted in.
    TlsResponses,
}

impl Signal {
    /// The signal's name, as in tables, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HttpResponses => "http_responses",
            Self::HttpRequests => "http_requests",
            Self::TcpResetsReceived => "tcp_resets_received",
            Self::TcpResetsSent => "tcp_resets_sent",
            Self::TcpRetransmits => "tcp_retransmits",
            Self::CpuThrottling => "cpu_throttling",
            Self::OomKills => "oom_kills",
            Self::TlsResponses => "tls_responses",
        }
    }
}

/// A way to get a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Programs at the edge of each watched cgroup.
    CgroupSkb,
    /// A BTF tracepoint.
    TpBtf,
    /// A classic tracepoint, whose record layout comes from tracefs.
    Tracepoint,
    /// The entry and exit of kernel functions, through BTF.
    Fentry,
    /// Breakpoints on kernel functions.
    Kprobe,
    /// The end of the timer that refills CPU quotas, through a BTF tracepoint.
    Hrtimer,
    /// Breakpoints on functions of a target's TLS library.
    Uprobe,
    /// No program: the agent reads the cgroup's own files.
    Poll,
}

impl Mechanism {
    /// The mechanisms that a kernel may refuse.
    pub const ALL: [Self; 7] = [
        Self::CgroupSkb,
        Self::TpBtf,
        Self::Tracepoint,
        Self::Fentry,
        Self::Kprobe,
        Self::Hrtimer,
        Self::Uprobe,
    ];

    /// The mechanism's name, as in tables, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CgroupSkb => "cgroup_skb",
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Hrtimer => "hrtimer",
            Self::Uprobe => "uprobe",
            Self::Poll => "poll",
        }
    }
}

/// Whether a signal is available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// A program counts it.
    Attached,
    /// A program is loaded and will be attached to each watched cgroup.
    Ready,
    /// No program: its users read the cgroup's files.
    Polled,
    /// Not available on this machine.
    Unavailable {
        /// Why, and what to do about it if possible.
        reason: String,
    },
}

impl Status {
    /// The status in one word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Ready => "ready",
            Self::Polled => "polled",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// One signal's row in the table of `paramedic check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The signal.
    pub signal: Signal,
    /// Its mechanism, or the last one tried.
    pub mechanism: Mechanism,
    /// Whether it is available.
    pub status: Status,
    /// What was tried before `mechanism`, best first, and why it was refused.
    pub tried: Vec<(Mechanism, String)>,
}

impl Probe {
    /// Whether the kernel side provides the signal.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.status, Status::Attached | Status::Ready)
    }
}
