//! [`Sample`]: everything seen of one target at one instant.
use agent_common::{Counters, Throttling};

use crate::{health::Poll, moment::Moment};

/// Why the agent looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// The regular round.
    Tick,
    /// The kernel reported something bad.
    Wakeup,
    /// An earlier look called for an action; this one confirms or refutes it.
    Confirm,
    /// A remedy was given; this one asks whether it helped.
    Verify,
}

impl Trigger {
    /// All triggers.
    pub const ALL: [Self; 4] = [Self::Tick, Self::Wakeup, Self::Confirm, Self::Verify];

    /// The trigger's name, as in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Wakeup => "wakeup",
            Self::Confirm => "confirm",
            Self::Verify => "verify",
        }
    }
}

/// One target, one instant. Counts are cumulative since the target was first watched.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When the kernel's counters were read: after the poll, so that they contain its responses.
    pub at: Moment,
    /// Why the agent looked.
    pub trigger: Trigger,
    /// What the kernel counted; `None` without kernel signals.
    pub kernel: Option<KernelReading>,
    /// What polling `/health` gave; `None` for a target that gets no HTTP from the agent.
    pub poll: Option<Poll>,
    /// Use of CPU and memory as the kernel accounts for it; a limit that the target does not have
    /// is the machine's.
    pub usage: CgroupReading,
    /// Why a restart would not help, as far as the host shows it (a full disk, workers that fail
    /// since they started); asked for by looks that confirm, and `None` at all others.
    pub futile: Option<Box<str>>,
}

/// The kernel's counters of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelReading {
    /// Traffic, resets, retransmits and OOM kills.
    pub counters: Counters,
    /// Throttling; all zero where only polling `cpu.stat` works.
    pub throttling: Throttling,
    /// Responses, by class, that the agent itself has drawn from the target. Its own polls are
    /// subtracted by count, never by path: a path would be the target's word for what to ignore.
    pub own_responses: [u64; 5],
    /// Those of them that were 502, 503 or 504.
    pub own_unavailable: u64,
    /// Connections that the agent itself gave up half-way: each shows as a reset received.
    pub own_resets: u64,
}

/// What a cgroup says of its CPU and memory. `None`: not told, by this kernel or for this cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CgroupReading {
    /// CPU time used since the cgroup was made, in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// CPU limit, in cores; `None` if unlimited.
    pub cpu_limit: Option<f32>,
    /// Working set, in bytes: what is used, less the file cache that can be given back at once.
    pub memory_bytes: Option<u64>,
    /// Memory limit, in bytes; `None` if unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// Periods in which the CPU was withheld, since the cgroup was made.
    pub throttled_periods: Option<u64>,
    /// Time for which the CPU was withheld, summed over CPUs, in nanoseconds.
    pub throttled_ns: Option<u64>,
    /// Length of an enforcement period, in nanoseconds.
    pub period_ns: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
}
