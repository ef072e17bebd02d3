//! Attaches each signal's programs by the best mechanism that this kernel permits.
use std::error::Error;

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use super::{
    layout::Layout,
    offsets::{self, BANDWIDTH, CGROUP, Field, RUNQUEUE, SOCKET, TASK, TIMER},
    probe::{Mechanism, Probe, Signal, Status},
};

/// Attaches all signals, without the mechanisms in `without`, and reports the results.
pub(super) fn all(ebpf: &mut Ebpf, layout: &Layout, without: &[Mechanism]) -> Vec<Probe> {
    let btf = Btf::from_sys_fs().map_err(|error| format!("no kernel BTF: {error}"));
    let mut attach = Attach { ebpf, layout, btf: &btf, without };
    vec![
        attach.packets(Signal::HttpResponses, "http_egress"),
        attach.packets(Signal::HttpRequests, "http_ingress"),
        attach.tcp(Signal::TcpResetsReceived, "tcp_receive_reset", "rst_in"),
        attach.tcp(Signal::TcpResetsSent, "tcp_send_reset", "rst_out"),
        attach.tcp(Signal::TcpRetransmits, "tcp_retransmit_skb", "resend"),
        attach.throttling(),
        attach.oom_kills(),
    ]
}

struct Attach<'a> {
    ebpf: &'a mut Ebpf,
    layout: &'a Layout,
    /// aya's own parsed types of the kernel, which loading BTF programs requires.
    btf: &'a Result<Btf, String>,
    without: &'a [Mechanism],
}

type Attempt<'f, 'a> = (Mechanism, &'f dyn Fn(&mut Attach<'a>) -> Result<(), String>);

impl<'a> Attach<'a> {
    fn packets(&mut self, signal: Signal, program: &str) -> Probe {
        let load = |attach: &mut Self| attach.with(program, load_packets);
        let mut probe = self.first_of(signal, &[(Mechanism::CgroupSkb, &load)]);
        if probe.status == Status::Attached {
            probe.status = Status::Ready;
        }
        probe
    }

    fn tcp(&mut self, signal: Signal, event: &'static str, program: &str) -> Probe {
        let btf =
            |attach: &mut Self| attach.tp_btf(&format!("{program}_btf"), event, &[CGROUP, SOCKET]);
        let classic = |attach: &mut Self| {
            attach.layout.event(event)?;
            offsets::require(&attach.layout.offsets, &[CGROUP, SOCKET])?;
            attach.with(&format!("{program}_classic"), |program| load_classic(program, event))
        };
        self.first_of(signal, &[(Mechanism::TpBtf, &btf), (Mechanism::Tracepoint, &classic)])
    }

    fn throttling(&mut self) -> Probe {
        let fentry = |attach: &mut Self| {
            attach.functions(["throttle_entry", "unthrottle_exit"], |attach, program, function| {
                let btf = attach.btf.as_ref().map_err(Clone::clone)?;
                attach.with(program, |program| load_trampoline(program, function, btf))
            })
        };
        let kprobe = |attach: &mut Self| {
            attach.functions(["throttle_kprobe", "unthrot_kprobe"], |attach, program, function| {
                attach.with(program, |program| load_kprobe(program, function))
            })
        };
        let hrtimer = |attach: &mut Self| {
            attach.layout.period_timer.as_ref().map_err(Clone::clone)?;
            attach.tp_btf("period_expired", "hrtimer_expire_exit", &[CGROUP, BANDWIDTH, TIMER])
        };
        let probe = self.first_of(
            Signal::CpuThrottling,
            &[
                (Mechanism::Fentry, &fentry),
                (Mechanism::Kprobe, &kprobe),
                (Mechanism::Hrtimer, &hrtimer),
            ],
        );
        or_polled(probe)
    }

    fn oom_kills(&mut self) -> Probe {
        let btf = |attach: &mut Self| attach.tp_btf("oom_victim", "mark_victim", &[CGROUP, TASK]);
        or_polled(self.first_of(Signal::OomKills, &[(Mechanism::TpBtf, &btf)]))
    }

    fn first_of(&mut self, signal: Signal, attempts: &[Attempt<'_, 'a>]) -> Probe {
        let mut tried: Vec<(Mechanism, String)> = Vec::new();
        for (mechanism, attempt) in attempts {
            let result = if self.without.contains(mechanism) {
                Err("switched off".into())
            } else {
                attempt(self)
            };
            match result {
                Ok(()) => {
                    return Probe {
                        signal,
                        mechanism: *mechanism,
                        status: Status::Attached,
                        tried,
                    };
                }
                Err(reason) => tried.push((*mechanism, reason)),
            }
        }
        let (mechanism, reason) = tried.pop().unwrap_or((Mechanism::Poll, String::new()));
        Probe { signal, mechanism, status: Status::Unavailable { reason }, tried }
    }

    fn tp_btf(
        &mut self,
        program: &str,
        tracepoint: &str,
        needed: &[&[Field]],
    ) -> Result<(), String> {
        let btf = self.btf.as_ref().map_err(Clone::clone)?;
        self.layout.tracepoint(tracepoint)?;
        offsets::require(&self.layout.offsets, needed)?;
        self.with(program, |program| load_tp_btf(program, tracepoint, btf))
    }

    /// Attaches a pair of programs to the throttle functions, both or neither.
    fn functions(
        &mut self,
        programs: [&str; 2],
        attach: impl Fn(&mut Self, &str, &'static str) -> Result<(), String>,
    ) -> Result<(), String> {
        offsets::require(&self.layout.offsets, &[CGROUP, BANDWIDTH, RUNQUEUE])?;
        let result = ["throttle_cfs_rq", "unthrottle_cfs_rq"]
            .into_iter()
            .zip(programs)
            .try_for_each(|(function, program)| attach(self, program, function));
        if result.is_err() {
            for program in programs {
                // A program that was never loaded reports that, which is equivalent.
                let _ = self.with(program, unload);
            }
        }
        result
    }

    fn with(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Program) -> Result<(), ProgramError>,
    ) -> Result<(), String> {
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| format!("the eBPF object has no program {name}"))?;
        act(program).map_err(|error| explain(&error))
    }
}

/// A signal without a program is read from the cgroup's own files by its users.
fn or_polled(mut probe: Probe) -> Probe {
    if let Status::Unavailable { reason } = probe.status {
        probe.tried.push((probe.mechanism, reason));
        probe.mechanism = Mechanism::Poll;
        probe.status = Status::Polled;
    }
    probe
}

fn load_packets(program: &mut Program) -> Result<(), ProgramError> {
    let program: &mut aya::programs::CgroupSkb = program.try_into()?;
    program.load()
}

fn load_tp_btf(program: &mut Program, tracepoint: &str, btf: &Btf) -> Result<(), ProgramError> {
    let program: &mut aya::programs::BtfTracePoint = program.try_into()?;
    program.load(tracepoint, btf)?;
    program.attach().map(|_| ())
}

fn load_classic(program: &mut Program, event: &str) -> Result<(), ProgramError> {
    let program: &mut aya::programs::TracePoint = program.try_into()?;
    program.load()?;
    program.attach("tcp", event).map(|_| ())
}

fn load_trampoline(program: &mut Program, function: &str, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => {
            program.load(function, btf)?;
            program.attach().map(|_| ())
        }
        Program::FExit(program) => {
            program.load(function, btf)?;
            program.attach().map(|_| ())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn load_kprobe(program: &mut Program, function: &str) -> Result<(), ProgramError> {
    let program: &mut aya::programs::KProbe = program.try_into()?;
    program.load()?;
    program.attach(function, 0).map(|_| ())
}

fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// An error in one line: the verifier's log ends in its objection and a line of statistics.
pub(super) fn explain(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];
        let log = verifier_log.to_string();
        let last = log.lines().rev().find(|line| {
            !line.is_empty() && !STATISTICS.iter().any(|statistics| line.starts_with(statistics))
        });
        let objection = last.map(|line| format!(" ({line})")).unwrap_or_default();
        return format!("the kernel refused the program: {io_error}{objection}");
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
