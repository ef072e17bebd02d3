//! Attaches each signal's programs by the best mechanism that this kernel permits.
use aya::{Btf, Ebpf};

use super::{
    layout::Layout,
    probe::{Mechanism, Probe, Signal, Status},
    programs::{self, Known},
};

/// The signals whose programs are loaded at once; those of TLS wait for a target that opts in.
const SIGNALS: [Signal; 7] = [
    Signal::HttpResponses,
    Signal::HttpRequests,
    Signal::TcpResetsReceived,
    Signal::TcpResetsSent,
    Signal::TcpRetransmits,
    Signal::CpuThrottling,
    Signal::OomKills,
];

/// Attaches all signals, without the mechanisms in `without`, and reports the results.
pub(super) fn all(ebpf: &mut Ebpf, layout: &Layout, without: &[Mechanism]) -> Vec<Probe> {
    let types = kernel_types();
    let mut attach = Attach { ebpf, layout, types: &types, without };
    SIGNALS.map(|signal| attach.signal(signal)).into()
}

/// aya's own parsed types of the kernel, which loading BTF programs requires.
pub(super) fn kernel_types() -> Result<Btf, String> {
    Btf::from_sys_fs().map_err(|error| format!("no kernel BTF: {error}"))
}

struct Attach<'a> {
    ebpf: &'a mut Ebpf,
    layout: &'a Layout,
    types: &'a Result<Btf, String>,
    without: &'a [Mechanism],
}

impl Attach<'_> {
    /// By the first mechanism that works.
    fn signal(&mut self, signal: Signal) -> Probe {
        let mut mechanisms: Vec<_> = programs::of(signal).map(|known| known.mechanism).collect();
        mechanisms.dedup();
        let mut tried: Vec<(Mechanism, String)> = Vec::new();
        for mechanism in mechanisms {
            match self.mechanism(signal, mechanism) {
                Ok(()) => return Probe { signal, mechanism, status: live(mechanism), tried },
                Err(reason) => tried.push((mechanism, reason)),
            }
        }
        if matches!(signal, Signal::CpuThrottling | Signal::OomKills) {
            // Its users read it from the cgroup's own files.
            return Probe { signal, mechanism: Mechanism::Poll, status: Status::Polled, tried };
        }
        let (mechanism, reason) = tried.pop().unwrap_or((Mechanism::Poll, String::new()));
        Probe { signal, mechanism, status: Status::Unavailable { reason }, tried }
    }

    /// All programs of the mechanism or none.
    fn mechanism(&mut self, signal: Signal, mechanism: Mechanism) -> Result<(), String> {
        if self.without.contains(&mechanism) {
            return Err("switched off".to_owned());
        }
        let programs = || programs::of(signal).filter(|known| known.mechanism == mechanism);
        let started = programs().try_for_each(|known| self.start(known));
        if started.is_err() {
            for program in programs() {
                if let Some(program) = self.ebpf.program_mut(program.name) {
                    // A program that was never loaded reports that, which is equivalent.
                    let _ = programs::unload(program);
                }
            }
        }
        started
    }

    fn start(&mut self, known: &Known) -> Result<(), String> {
        known.fits(self.layout)?;
        let program = self.ebpf.program_mut(known.name);
        let program =
            program.ok_or_else(|| format!("the eBPF object has no program {}", known.name))?;
        known.load(program, self.types)?;
        known.attach(program)
    }
}

/// The status of a signal whose programs are in the kernel.
const fn live(mechanism: Mechanism) -> Status {
    match mechanism {
        Mechanism::CgroupSkb => Status::Ready,
        _ => Status::Attached,
    }
}
