//! What the running kernel's verifier says of each program, whether the agent would use it here or
//! not.
use std::time::{Duration, Instant};

use aya::{Btf, Ebpf};

use super::{
    KernelError, attach,
    layout::Layout,
    object, prepare,
    probe::{Mechanism, Signal},
    programs::{self, Known},
};

/// What the kernel says of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The program's name in the object.
    pub program: &'static str,
    /// What it counts.
    pub signal: Signal,
    /// By which mechanism.
    pub mechanism: Mechanism,
    /// What it cost to load it; else why it was refused, in one line.
    pub result: Result<Accepted, String>,
}

/// A program that the verifier accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Instructions that the verifier looked at; `None` before kernel 5.16.
    pub instructions: Option<u32>,
    /// From the call to its return: the verifier's time and the compiler's.
    pub time: Duration,
}

/// Loads every program of the object, one after the other, and unloads it again. None is attached.
///
/// # Errors
/// As for [`Kernel::load`](super::Kernel::load). A refused program is a [`Verdict`].
pub fn verify() -> Result<Vec<Verdict>, KernelError> {
    let (mut ebpf, layout) = prepare(object::bytes()?, 1)?;
    let types = attach::kernel_types();
    let verdict = |known: &Known| Verdict {
        program: known.name,
        signal: known.signal,
        mechanism: known.mechanism,
        result: load(&mut ebpf, known, &layout, &types),
    };
    Ok(programs::ALL.iter().map(verdict).collect())
}

fn load(
    ebpf: &mut Ebpf,
    known: &Known,
    layout: &Layout,
    types: &Result<Btf, String>,
) -> Result<Accepted, String> {
    known.fits(layout)?;
    let program = ebpf.program_mut(known.name);
    let program =
        program.ok_or_else(|| format!("the eBPF object has no program {}", known.name))?;
    let begun = Instant::now();
    known.load(program, types)?;
    let time = begun.elapsed();
    let instructions = program.info().ok().and_then(|info| info.verified_instruction_count());
    // It would be unloaded with the object at the latest.
    let _ = programs::unload(program);
    Ok(Accepted { instructions, time })
}
