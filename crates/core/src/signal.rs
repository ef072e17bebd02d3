//! [`Sample`]: everything seen of one target at one instant.
mod requests;
mod witnesses;

use agent_common::{Counters, Latencies, Throttling};

pub use requests::{RECENT, Requests, SECONDS, overdue_after};
pub use witnesses::{Pressure, Share, Witnesses};

use crate::{boot_time::BootTime, health::Poll};

/// What triggered a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// The regular interval.
    Tick,
    /// The kernel reported a bad event.
    Wakeup,
    /// An earlier sample called for an action; this one confirms or refutes it.
    Confirm,
    /// A remedy was applied; this sample checks whether it helped.
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

/// Everything read of one target at one instant. Counts are cumulative since the target was first
/// watched.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Time at which the kernel's counters were read: after the poll, so that they contain its
    /// responses.
    pub at: BootTime,
    /// What triggered the sample.
    pub trigger: Trigger,
    /// The kernel's counts; `None` without kernel signals.
    pub kernel: Option<KernelReading>,
    /// What is known of the app's health check.
    pub poll: Polled,
    /// CPU and memory usage as the kernel counts it. A missing limit is replaced by the machine's.
    pub usage: CgroupReading,
    /// The state of the main process; `None` if it could not be read.
    pub process: Option<ProcessState>,
    /// What the host shows. Only confirming samples read it; `None` in all others.
    pub host: Option<Box<HostFacts>>,
}

/// What a sample tells of the app's health check.
#[derive(Clone, Debug)]
pub enum Polled {
    /// Nothing: the target gets no HTTP from the agent.
    Never,
    /// It was not polled this time: nothing cast doubt on the last poll, which stands.
    LastStands,
    /// The result of a poll.
    Now(Poll),
}

impl Polled {
    /// The poll of this sample.
    #[must_use]
    pub const fn now(&self) -> Option<&Poll> {
        match self {
            Self::Now(poll) => Some(poll),
            Self::Never | Self::LastStands => None,
        }
    }
}

/// What the host shows of a target if a remedy may follow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFacts {
    /// Why a restart would not help (a full disk, workers that fail since they started).
    pub futile: Option<Box<str>>,
    /// Its tasks wait for a CPU: what comes late, or not at all, may be for that alone.
    pub starved: bool,
    /// Clients that do not read what it sends them hold its threads.
    pub held: bool,
    /// What is told with a remedy.
    pub witnesses: Witnesses,
}

impl HostFacts {
    /// Of what was read.
    #[must_use]
    pub fn of(futile: Option<String>, witnesses: Witnesses) -> Self {
        let futile = futile.map(String::into_boxed_str);
        let starved = witnesses.pressure.is_starved();
        Self { futile, starved, held: witnesses.is_held(), witnesses }
    }

    /// Why a remedy would not help: what the host says; if it only is silent, that clients hold its
    /// threads by not reading; and if its clients alone get no responses, that it is starved.
    #[must_use]
    pub fn futile(&self, only_silent: bool, only_clients: bool) -> Option<&str> {
        const STARVED: &str = "its tasks wait for a CPU, which others or a quota take";
        const HELD: &str = "clients hold its connections and do not read what it sends them: look at \
                            who they are, and at its limits of time for a response";
        let starved = (only_clients && self.starved).then_some(STARVED);
        let held = (only_silent && self.held).then_some(HELD);
        self.futile.as_deref().or(held).or(starved)
    }
}

/// The state of a process, as in `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs, or waits for something to do (R, S, and all others).
    Active,
    /// A signal has stopped it (T): it does nothing until another continues it. A process that a
    /// debugger holds (t) is not meant.
    Stopped,
    /// It waits for a disk or a network file system and takes no signal (D).
    Uninterruptible,
}

/// The kernel's counters of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelReading {
    /// Traffic, resets, retransmits and OOM kills.
    pub counters: Counters,
    /// Throttling; all zero if only polling `cpu.stat` works.
    pub throttling: Throttling,
    /// Responses to the agent's own requests, by class. Own polls are subtracted by count, never by
    /// path: the target would decide which path to ignore.
    pub own_responses: [u64; 5],
    /// Those of them that were 502, 503 or 504.
    pub own_unavailable: u64,
    /// Those of them that are faults in trailers.
    pub own_in_trailers: u64,
    /// Connections that the agent gave up half-way: each shows as a reset received.
    pub own_resets: u64,
    /// How long its responses took; `None` if it was not read.
    pub latencies: Option<Latencies>,
    /// Requests to it without a response so far; `None` if they were not read.
    pub waiting: Option<Waiting>,
    /// Requests to it that get none; `None` if they were not read.
    pub requests: Option<Requests>,
}

/// Requests to a target that have no response yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub requests: u32,
    /// When the oldest of them began.
    pub oldest: Option<BootTime>,
}

/// CPU and memory of a cgroup. `None` means that this kernel or this cgroup does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CgroupReading {
    /// CPU time used since the cgroup was created, in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// CPU limit, in cores; `None` if unlimited.
    pub cpu_limit: Option<f32>,
    /// Working set in bytes: usage without the file cache that can be freed at once.
    pub memory_bytes: Option<u64>,
    /// Memory limit, in bytes; `None` if unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// Throttled periods since the cgroup was created.
    pub throttled_periods: Option<u64>,
    /// Throttled time, summed over CPUs, in nanoseconds.
    pub throttled_ns: Option<u64>,
    /// Length of an enforcement period, in nanoseconds.
    pub period_ns: Option<u64>,
    /// Processes killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// The share of the last 10 s in which one of its tasks waited for a CPU, 0–1.
    pub cpu_pressure: Option<f32>,
}
