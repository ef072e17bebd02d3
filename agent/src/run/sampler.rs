//! The open readers that sample one instance of one target.
use paramedic_core::{
    boot_time::BootTime,
    health::{Poll, Responses},
    signal::{CgroupReading, HostFacts, KernelReading, Polled, Requests, Sample, Trigger, Waiting},
    target::Target,
};
use paramedic_host::procfs::Machine;
use paramedic_probes::{AllWaiting, Kernel, Slot, Waiting as Waited};
use tracing::warn;

use super::effects::{Effects, Meter, Poller};

/// Generation of an instance at an index, so that a late result is not attributed to a newer
/// instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(pub(super) u64);

/// Connection, counters and files of one instance.
#[derive(Debug)]
pub(super) struct Sampler {
    life: Generation,
    /// Taken for the duration of a poll.
    app: Option<Box<dyn Poller>>,
    /// The endpoint has changed since the client in use was created.
    renewed: bool,
    slot: Option<Slot>,
    meter: Option<Box<dyn Meter>>,
    /// Whether CPU and memory are read even if the app tells of them: limits are the cgroup's.
    reads_all: bool,
    /// Whether the app tells of its CPU and memory.
    app_tells: bool,
    /// Whether the files were read once: their counts start before the kernel side's, which would
    /// otherwise start with a jump.
    has_base: bool,
    machine: Machine,
    /// Responses to the agent's own requests, by class.
    own_responses: [u64; 5],
    /// Those of them that were 502, 503 or 504.
    own_unavailable: u64,
    /// Those of them that are faults in trailers.
    own_in_trailers: u64,
    /// Connections that the agent itself gave up half-way.
    own_resets: u64,
}

impl Sampler {
    /// Opens what can be opened. A failure is logged once, and its values are missing from then on.
    pub(super) fn open(
        target: &Target,
        life: Generation,
        kernel: Option<&mut Kernel>,
        effects: &dyn Effects,
    ) -> Self {
        let slot = kernel.and_then(|kernel| match kernel.watch(target) {
            Ok(slot) => Some(slot),
            Err(error) => {
                warn!(target = target.name, %error, "no kernel signals for this target");
                None
            }
        });
        let app = effects.poller(target);
        let meter = effects.meter(target);
        let machine = Machine::here();
        Self {
            life,
            app,
            renewed: false,
            slot,
            meter,
            reads_all: target.settings.resize.is_some(),
            app_tells: false,
            has_base: false,
            machine,
            own_responses: [0; 5],
            own_unavailable: 0,
            own_in_trailers: 0,
            own_resets: 0,
        }
    }

    pub(super) const fn life(&self) -> Generation {
        self.life
    }

    pub(super) const fn slot(&self) -> Option<Slot> {
        self.slot
    }

    /// The app's client, for the duration of a poll. A client that never returned is replaced.
    pub(super) fn take_app(
        &mut self,
        target: &Target,
        effects: &dyn Effects,
    ) -> Option<Box<dyn Poller>> {
        self.app.take().or_else(|| effects.poller(target))
    }

    pub(super) fn return_app(&mut self, app: Box<dyn Poller>) {
        if !std::mem::take(&mut self.renewed) {
            self.app = Some(app);
        }
    }

    /// The target has another health path from now on.
    pub(super) fn renew_app(&mut self) {
        self.renewed = self.app.take().is_none();
    }

    /// Its owner permits resizes, or no longer.
    pub(super) const fn read_all(&mut self, all: bool) {
        self.reads_all = all;
    }

    /// Counts responses to the agent's own requests: they are not the target's traffic.
    pub(super) fn drew(&mut self, responses: Responses) {
        for (own, drawn) in self.own_responses.iter_mut().zip(responses) {
            *own += u64::from(drawn);
        }
    }

    /// More of its responses are seen from now on: what of the agent's own was not seen before is
    /// not to be subtracted from them.
    pub(super) fn sees_from_now(&mut self, kernel: &Kernel) {
        let counted = self.slot.and_then(|slot| kernel.counters(slot).ok());
        let Some((counters, _)) = counted else { return };
        for (own, seen) in self.own_responses.iter_mut().zip(counters.responses) {
            *own = seen.min(*own);
        }
        self.own_unavailable = self.own_unavailable.min(counters.unavailable);
    }

    /// Reads everything. Re-arms first: an event between arming and reading is then seen twice
    /// (counted, and by a wake-up) instead of never.
    pub(super) fn sample(
        &mut self,
        kernel: Option<&mut Kernel>,
        trigger: Trigger,
        poll: Polled,
        host: Option<Box<HostFacts>>,
        waiting: Option<&AllWaiting>,
        at: BootTime,
    ) -> Sample {
        if let Polled::Now(poll) = &poll {
            self.drew(poll.responses);
            self.own_unavailable += u64::from(poll.unavailable);
            self.own_in_trailers += u64::from(poll.in_trailers);
            self.own_resets += u64::from(poll.hung_up);
        }
        self.take_what_it_tells(&poll);
        let usage = self.read_usage(kernel.as_deref());
        let kernel = kernel.zip(self.slot).and_then(|(kernel, slot)| {
            // If arming fails, regular samples continue.
            let _ = kernel.rearm(slot);
            let (counters, throttling) = kernel.counters(slot).ok()?;
            let latencies = kernel.latencies(slot).ok();
            let waiting = waiting.map(|all| all.of(slot));
            Some(KernelReading {
                counters,
                throttling: throttling.unwrap_or_default(),
                own_responses: self.own_responses,
                own_resets: self.own_resets,
                own_unavailable: self.own_unavailable,
                own_in_trailers: self.own_in_trailers,
                latencies,
                waiting: waiting
                    .map(|waiting| Waiting { requests: waiting.requests, oldest: waiting.oldest }),
                requests: latencies.zip(waiting).map(|(latencies, waiting)| {
                    let Waited { ages, holding, .. } = waiting;
                    Requests::of(&counters, &latencies, &ages, self.own_resets, holding)
                }),
            })
        });
        let process = self.meter.as_ref().and_then(|meter| meter.process_state());
        Sample { at, trigger, kernel, poll, usage, process, host }
    }

    /// Whether the app tells of its CPU and memory, by the last poll that was made.
    fn take_what_it_tells(&mut self, poll: &Polled) {
        let told = |poll: &Poll| {
            let health = poll.result.as_ref().ok();
            health.is_some_and(|h| h.cpu_usage.is_some() && h.memory_usage.is_some())
        };
        match poll {
            Polled::Now(poll) => self.app_tells = told(poll),
            Polled::LastStands => {}
            Polled::Never => self.app_tells = false,
        }
    }

    /// CPU and memory of the cgroup or the process, if no other source has them: some ten files,
    /// which cost more than the rest of a sample. Nothing if they are gone: the search for a
    /// successor is running.
    fn read_usage(&mut self, kernel: Option<&Kernel>) -> CgroupReading {
        let kernel_tells = self.slot.is_some() && kernel.is_some_and(Kernel::tells_of_resources);
        let told = self.app_tells && kernel_tells && self.has_base && !self.reads_all;
        let usage = self.meter.as_ref().filter(|_| !told).and_then(|meter| meter.read());
        self.has_base |= usage.is_some();
        let mut usage = usage.unwrap_or_default();
        usage.cpu_limit.get_or_insert(self.machine.cpus);
        usage.memory_limit_bytes.get_or_insert(self.machine.memory_bytes);
        usage
    }
}
