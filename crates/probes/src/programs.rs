//! The programs of the object: what each counts, by which mechanism, and where it is attached.
use std::error::Error;

use aya::{
    Btf,
    programs::{Program, ProgramError},
};

use super::{
    layout::Layout,
    offsets::{self, BANDWIDTH, CGROUP, Field, RUNQUEUE, SOCKET, TASK, TIMER},
    probe::{Mechanism, Signal},
};

/// One program of the object.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) signal: Signal,
    pub(super) mechanism: Mechanism,
    /// Its tracepoint or function in the kernel; empty if each target has its own.
    hook: &'static str,
    /// The fields of the kernel's structs that it reads.
    reads: &'static [&'static [Field]],
}

macro_rules! programs {
    ($($name:literal $signal:ident $mechanism:ident $hook:literal [$($reads:ident)*])+) => {
        /// All of them. A signal's mechanisms are in the order in which they are tried, and those of
        /// one mechanism work together: all or none.
        pub(super) const ALL: &[Known] = &[$(Known {
            name: $name,
            signal: Signal::$signal,
            mechanism: Mechanism::$mechanism,
            hook: $hook,
            reads: &[$($reads),*],
        }),+];
    };
}

programs! {
    "http_egress" HttpResponses CgroupSkb "" []
    "http_ingress" HttpRequests CgroupSkb "" []
    "rst_in_btf" TcpResetsReceived TpBtf "tcp_receive_reset" [CGROUP SOCKET]
    "rst_in_classic" TcpResetsReceived Tracepoint "tcp_receive_reset" [CGROUP SOCKET]
    "rst_out_btf" TcpResetsSent TpBtf "tcp_send_reset" [CGROUP SOCKET]
    "rst_out_classic" TcpResetsSent Tracepoint "tcp_send_reset" [CGROUP SOCKET]
    "resend_btf" TcpRetransmits TpBtf "tcp_retransmit_skb" [CGROUP SOCKET]
    "resend_classic" TcpRetransmits Tracepoint "tcp_retransmit_skb" [CGROUP SOCKET]
    "throttle_entry" CpuThrottling Fentry "throttle_cfs_rq" [CGROUP BANDWIDTH RUNQUEUE]
    "unthrottle_exit" CpuThrottling Fentry "unthrottle_cfs_rq" [CGROUP BANDWIDTH RUNQUEUE]
    "throttle_kprobe" CpuThrottling Kprobe "throttle_cfs_rq" [CGROUP BANDWIDTH RUNQUEUE]
    "unthrot_kprobe" CpuThrottling Kprobe "unthrottle_cfs_rq" [CGROUP BANDWIDTH RUNQUEUE]
    "period_expired" CpuThrottling Hrtimer "hrtimer_expire_exit" [CGROUP BANDWIDTH TIMER]
    "oom_victim" OomKills TpBtf "mark_victim" [CGROUP TASK]
    "ssl_call" TlsResponses Uprobe "" []
    "ssl_write" TlsResponses Uprobe "" []
    "ssl_write_ex" TlsResponses Uprobe "" []
    "ssl_sendfile" TlsResponses Uprobe "" []
    "ssl_end" TlsResponses Uprobe "" []
    "go_write" TlsResponses Uprobe "" []
    "go_close" TlsResponses Uprobe "" []
}

/// The programs of one signal.
pub(super) fn of(signal: Signal) -> impl Iterator<Item = &'static Known> {
    ALL.iter().filter(move |known| known.signal == signal)
}

impl Known {
    /// Whether this kernel has what the program is attached to and reads.
    pub(super) fn fits(&self, layout: &Layout) -> Result<(), String> {
        match self.mechanism {
            Mechanism::Hrtimer => {
                layout.period_timer.as_ref().map_err(Clone::clone)?;
                layout.tracepoint(self.hook)?;
            }
            Mechanism::TpBtf => layout.tracepoint(self.hook)?,
            Mechanism::Tracepoint => layout.event(self.hook)?,
            _ => {}
        }
        offsets::require(&layout.offsets, self.reads)
    }

    /// Passes the program to the verifier.
    pub(super) fn load(
        &self,
        program: &mut Program,
        types: &Result<Btf, String>,
    ) -> Result<(), String> {
        let types = || types.as_ref().map_err(Clone::clone);
        let loaded = match program {
            Program::CgroupSkb(program) => program.load(),
            Program::BtfTracePoint(program) => program.load(self.hook, types()?),
            Program::TracePoint(program) => program.load(),
            Program::FEntry(program) => program.load(self.hook, types()?),
            Program::FExit(program) => program.load(self.hook, types()?),
            Program::KProbe(program) => program.load(),
            Program::UProbe(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        loaded.map_err(|error| explain(&error))
    }

    /// Attaches a loaded program, unless that waits for a target.
    pub(super) fn attach(&self, program: &mut Program) -> Result<(), String> {
        let attached = match program {
            Program::CgroupSkb(_) | Program::UProbe(_) => Ok(()),
            Program::BtfTracePoint(program) => program.attach().map(|_| ()),
            Program::TracePoint(program) => program.attach("tcp", self.hook).map(|_| ()),
            Program::FEntry(program) => program.attach().map(|_| ()),
            Program::FExit(program) => program.attach().map(|_| ()),
            Program::KProbe(program) => program.attach(self.hook, 0).map(|_| ()),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        attached.map_err(|error| explain(&error))
    }
}

/// Detaches a program, and takes it out of the kernel.
pub(super) fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.unload(),
        Program::BtfTracePoint(program) => program.unload(),
        Program::TracePoint(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        Program::UProbe(program) => program.unload(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// An error in one line, with the verifier's objection.
pub(super) fn explain(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let said = objection(&log).map(|line| format!(" ({line})")).unwrap_or_default();
        return format!("the kernel refused the program: {io_error}{said}");
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

/// The last line of a verifier's log but for lines of statistics, of which newer kernels have more.
fn objection(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 4] =
        ["processed ", "stack depth ", "verification time ", "insns processed "];
    log.lines().rev().find(|line| {
        !line.is_empty() && !STATISTICS.iter().any(|statistics| line.starts_with(statistics))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objection_comes_before_the_statistics() {
        let older = "0: R1=ctx()\nR0 !read_ok\nverification time 30 usec\nstack depth 0+0\n\
                     processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0\n";
        let newer = "R0 !read_ok\nverification time 43 usec\nstack depth 0+0\n\
                     insns processed 1+0\nprocessed 1 insns (limit 1000000)\n";
        for log in [older, newer, "R0 !read_ok", "R0 !read_ok\n\n"] {
            assert_eq!(objection(log), Some("R0 !read_ok"), "{log}");
        }
        assert_eq!(objection("processed 1 insns\n"), None);
    }

    #[test]
    fn mechanisms_of_a_signal_stand_together() {
        for known in ALL {
            let mut mechanisms: Vec<_> = of(known.signal).map(|known| known.mechanism).collect();
            mechanisms.dedup();
            let found = mechanisms.iter().filter(|mechanism| **mechanism == known.mechanism);
            assert_eq!(found.count(), 1, "{}", known.name);
        }
    }
}
