//! Kernel signals of a target: HTTP by class, TCP resets and retransmits, the results of its own
//! calls, CPU throttling and OOM kills, counted in the kernel by eBPF programs, and a wake-up when
//! something bad happens.
//!
//! HTTP is followed per connection (`paramedic_protocol`). So the kernel also knows how long
//! responses take ([`Kernel::latencies`]) and which requests wait for one now
//! ([`Kernel::waiting`]), and no event leaves it for any of that.
//!
//! What a target writes into TLS is counted only if it opts in ([`tls`]).
//!
//! Only watched cgroups are inspected: packet programs are attached to their directories and to no
//! other, and the programs on kernel-wide events ignore every cgroup that is not in their map. The
//! programs change nothing: they drop no packet and touch no process.
//!
//! Each signal uses the best mechanism that this kernel permits ([`Kernel::probes`] names it, and
//! why another failed). A signal without a mechanism does not affect the others; only what joins
//! requests with their responses takes both of HTTP ([`Kernel::sees_both_ways`]).
//!
//! **Arming.** A watched target is armed. Its first bad event sends one [`Wake`] and disarms it;
//! later events are counted silently, so that the rate of samples bounds the rate of wake-ups. To
//! sample, call [`Kernel::rearm`] *first* and [`Kernel::counters`] second: in the other order an
//! event between the two is lost. The periodic sample remains the backstop: a wake-up is a hint,
//! the counters are the truth. Events that another service may have caused are counted without a
//! wake-up: 502, 503 and 504, which point to a backend or to a temporary state, and connects that
//! are refused or get no response.
//!
//! **Limits.** A cgroup is watched by its own id: sockets of cgroups *below* it do not belong to
//! it, and a socket belongs to the cgroup that it was created in, wherever its process is now.
//! Kernels before 5.15 have no socket-to-cgroup link at a fixed place, so no TCP events.
mod attach;
pub mod btf;
mod capabilities;
mod connections;
mod cover;
mod layout;
mod measure;
mod object;
mod offsets;
mod probe;
mod programs;
mod slots;
pub mod tls;
mod verify;
mod wake;
mod watch;

use agent_common::{Counters, Key, Latencies, Throttling, Wakeup};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use aya_log::EbpfLogger;
use thiserror::Error;

pub use capabilities::{Capabilities, Capability, Missing};
pub use connections::{AllWaiting, Waiting};
pub use measure::{MeasureError, ProgramCost, count_runs};
pub use object::bytes as object;
pub use probe::{Mechanism, Probe, Signal, Status};
pub use slots::Slot;
pub use verify::{Accepted, Verdict, verify};
pub use wake::{Cause, Wake, Wakeups};
pub use watch::WatchError;

use cover::Cover;
use layout::Layout;
use slots::Slots;
use wake::TracingLog;
use watch::Watched;

/// Options for loading the kernel side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Maximum number of watched targets, which determines the size of every map. At least 1.
    pub capacity: u32,
    /// Mechanisms to skip, as if this kernel refused them.
    pub without: Vec<Mechanism>,
}

impl Options {
    /// Capacity for this many targets, with every mechanism permitted.
    #[must_use]
    pub const fn new(capacity: u32) -> Self {
        Self { capacity, without: Vec::new() }
    }
}

/// Why there are no kernel signals at all.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The build does not contain the eBPF object.
    #[error("no kernel signals in this build: run `cargo xtask build-ebpf`")]
    NoObject,
    /// The rights to load eBPF programs are missing.
    #[error("eBPF needs {0}: run as root, or grant the capabilities")]
    Rights(Missing),
    /// The kernel refused the object's maps or type information.
    #[error("cannot load the eBPF object (`paramedic check` shows what this kernel offers)")]
    Load(#[from] EbpfError),
    /// A map is missing or of another type.
    #[error("the embedded eBPF object does not fit this agent: run `cargo xtask build-ebpf` again")]
    Map(#[from] MapError),
    /// A map is missing.
    #[error("the embedded eBPF object has no map {0}: run `cargo xtask build-ebpf` again")]
    NoMap(&'static str),
}

/// Why a slot's counters cannot be read or armed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The slot was freed.
    #[error("the slot belongs to no target any more")]
    Stale,
    /// The kernel refused.
    #[error("cannot access the kernel's counters")]
    Map(#[from] MapError),
}

/// The loaded programs and their maps. Dropping it detaches and unloads everything.
pub struct Kernel {
    maps: Maps,
    /// The rings of [`Kernel::wakeups`], which takes them once.
    rings: Option<(RingBuf<MapData>, Option<EbpfLogger<TracingLog>>)>,
    probes: Vec<Probe>,
    map_bytes: u64,
    slots: Slots,
    cover: Cover,
    watched: Watched,
    tls: tls::Attachments,
    /// Mechanisms to skip.
    without: Vec<Mechanism>,
    ebpf: Ebpf,
}

struct Maps {
    targets: aya::maps::HashMap<MapData, Key, u32>,
    counters: PerCpuArray<MapData, Counters>,
    latencies: PerCpuArray<MapData, Latencies>,
    connections: connections::Map,
    tls_connections: connections::Map,
    throttling: Array<MapData, Throttling>,
    armed: Array<MapData, u32>,
}

impl Kernel {
    /// Loads the programs, sized for `options.capacity` targets, and attaches those on kernel-wide
    /// events. Takes some 200 ms, most of it the verifier's; blocks.
    ///
    /// # Errors
    /// No object in this build, missing capabilities, or a kernel that refuses the maps. A single
    /// refused program is not an error: see [`Kernel::probes`].
    pub fn load(options: &Options) -> Result<Self, KernelError> {
        Self::load_from(object::bytes()?, options)
    }

    /// The same from another object than the embedded one: tests have some that kernels refuse.
    ///
    /// # Errors
    /// As for [`Kernel::load`].
    pub fn load_from(object: &[u8], options: &Options) -> Result<Self, KernelError> {
        let capacity = options.capacity.max(1);
        let (mut ebpf, layout) = prepare(object, capacity)?;
        let map_bytes = measure::map_bytes(&ebpf);
        let logger = EbpfLogger::init_with_logger(&mut ebpf, TracingLog);
        let rings = (take(&mut ebpf, "WAKEUPS")?, logger.ok());
        let maps = Maps {
            targets: take(&mut ebpf, "TARGETS")?,
            counters: take(&mut ebpf, "COUNTERS")?,
            latencies: take(&mut ebpf, "LATENCIES")?,
            connections: take(&mut ebpf, "CONNECTIONS")?,
            tls_connections: take(&mut ebpf, "TLS_CONNECTIONS")?,
            throttling: take(&mut ebpf, "THROTTLING")?,
            armed: take(&mut ebpf, "ARMED")?,
        };
        let probes = attach::all(&mut ebpf, &layout, &options.without);
        give_memory_back();
        Ok(Self {
            maps,
            rings: Some(rings),
            probes,
            map_bytes,
            slots: Slots::new(capacity),
            cover: Cover::default(),
            watched: Watched::default(),
            tls: tls::Attachments::default(),
            without: options.without.clone(),
            ebpf,
        })
    }

    /// Every signal, its mechanism, and what was tried.
    #[must_use]
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// Whether this kernel permits to see what targets write into TLS: loads the programs for it,
    /// which nobody pays for otherwise until a target opts in.
    pub fn probe_tls(&mut self) -> Probe {
        tls::probe(&mut self.ebpf, &self.without)
    }

    /// Whether programs count throttling and OOM kills; else they are in the cgroup's files.
    #[must_use]
    pub fn tells_of_resources(&self) -> bool {
        [Signal::CpuThrottling, Signal::OomKills].iter().all(|signal| {
            self.probes.iter().any(|probe| probe.signal == *signal && probe.is_live())
        })
    }

    /// Whether both directions of HTTP are followed: with one alone no request can be told from one
    /// without a response.
    #[must_use]
    pub fn sees_both_ways(&self) -> bool {
        [Signal::HttpResponses, Signal::HttpRequests].iter().all(|signal| {
            self.probes.iter().any(|probe| probe.signal == *signal && probe.is_live())
        })
    }

    /// Kernel memory of the maps in bytes, by the kernel's own statistics.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// The target's counters since it was watched, summed over CPUs; and its CPU controller's
    /// counters, `None` until the kernel showed them (throttling is polled, or no bandwidth period
    /// has ended). Those count from the cgroup's creation, as `cpu.stat` does.
    ///
    /// # Errors
    /// The slot was freed, or the kernel refuses.
    pub fn counters(&self, slot: Slot) -> Result<(Counters, Option<Throttling>), ReadError> {
        self.current(slot)?;
        let per_cpu = self.maps.counters.get(&slot.index, 0)?;
        let sum = per_cpu.iter().fold(Counters::default(), Counters::plus);
        let throttling = self.maps.throttling.get(&slot.index, 0)?;
        let sum = if self.sees_both_ways() { sum } else { one_way(sum) };
        Ok((sum, (throttling.period_ns != 0).then_some(throttling)))
    }

    /// How long the target's responses took since it was watched, summed over CPUs. The bounds of
    /// the buckets are those of [`paramedic_protocol::latency`].
    ///
    /// # Errors
    /// The slot was freed, or the kernel refuses.
    pub fn latencies(&self, slot: Slot) -> Result<Latencies, ReadError> {
        self.current(slot)?;
        let per_cpu = self.maps.latencies.get(&slot.index, 0)?;
        Ok(per_cpu.iter().fold(Latencies::default(), Latencies::plus))
    }

    /// Arms the target again: its next bad event wakes the agent. Call it *before* reading the
    /// counters, at each sample.
    ///
    /// # Errors
    /// The slot was freed, or the kernel refuses.
    pub fn rearm(&mut self, slot: Slot) -> Result<(), ReadError> {
        self.current(slot)?;
        Ok(self.maps.armed.set(slot.index, slot.generation, 0)?)
    }

    fn current(&self, slot: Slot) -> Result<(), ReadError> {
        if self.slots.is_current(slot) { Ok(()) } else { Err(ReadError::Stale) }
    }
}

/// The counts without those that join the two directions of HTTP, for a kernel that refused the
/// program of one: every call would seem to wait for its response, and excuse the target for ever.
fn one_way(counters: Counters) -> Counters {
    let answered = counters.upstream_requests.min(counters.upstream_responses);
    let given_up = Counters::default().given_up;
    Counters { upstream_requests: answered, dropped: 0, given_up, ..counters }
}

/// Calls of TLS functions that may be under way at once, one per thread.
const TLS_CALLS: u32 = 1024;

/// Reading the kernel's types leaves some 15 MiB of free heap behind, for the whole life of a
/// process that needs less itself.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The object with its maps in the kernel, before any program is loaded.
fn prepare(object: &[u8], capacity: u32) -> Result<(Ebpf, Layout), KernelError> {
    let missing = Capabilities::read().missing();
    if !missing.is_empty() {
        return Err(KernelError::Rights(missing));
    }
    let layout = Layout::read();
    let ebpf = load_object(object, &layout, capacity)?;
    Ok((ebpf, layout))
}

fn load_object(object: &[u8], layout: &Layout, capacity: u32) -> Result<Ebpf, EbpfError> {
    // Up to five keys per target. Armed targets send one record each, and the reader may lag.
    let record = u32::try_from(size_of::<Wakeup>()).unwrap_or(u32::MAX).saturating_add(8);
    EbpfLoader::new()
        .btf(None)
        .override_global("OFFSETS", &layout.offsets, true)
        .override_global("PERIOD_TIMER", layout.period_timer.as_ref().unwrap_or(&0), true)
        .map_max_entries("TARGETS", capacity.saturating_mul(5))
        .map_max_entries("COUNTERS", capacity)
        .map_max_entries("LATENCIES", capacity)
        .map_max_entries("CONNECTIONS", connections::room(capacity))
        .map_max_entries("TLS_CONNECTIONS", connections::room_for_tls(capacity))
        .map_max_entries("TLS_CALLS", TLS_CALLS)
        .map_max_entries("THROTTLING", capacity)
        .map_max_entries("ARMED", capacity)
        .map_max_entries("WAKEUPS", capacity.saturating_mul(2 * record))
        .map_max_entries("AYA_LOGS", 4096)
        .load(object)
}

fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    Ok(ebpf.take_map(name).ok_or(KernelError::NoMap(name))?.try_into()?)
}
