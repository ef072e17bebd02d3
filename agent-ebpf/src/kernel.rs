//! Reads the kernel's own structs at offsets that the agent took from the running kernel's BTF.
//!
//! The offsets are frozen read-only data, so the verifier sees constants. The agent never loads a
//! program whose offset is missing.
use core::ptr;

use agent_common::Offsets;
use aya_ebpf::helpers::bpf_probe_read_kernel;

/// Set by the agent at load.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

/// Address of the kernel's `sched_cfs_period_timer`; set by the agent at load.
#[unsafe(no_mangle)]
static PERIOD_TIMER: u64 = 0;

/// The value of a field of [`OFFSETS`]. Volatile, because the compiler would otherwise fold the
/// value that it sees here.
#[inline(always)]
pub fn offset(field: &'static u32) -> usize {
    // SAFETY: a reference is readable.
    unsafe { ptr::read_volatile(field) as usize }
}

/// Address of `sched_cfs_period_timer`.
#[inline(always)]
pub fn period_timer() -> u64 {
    // SAFETY: reads an aligned static.
    unsafe { ptr::read_volatile(&raw const PERIOD_TIMER) }
}

/// A way to read behind a kernel pointer.
pub trait Memory {
    /// Reads a `T` at `offset` bytes from `base`.
    fn read<T: Copy>(base: *const u8, offset: usize) -> Option<T>;

    /// Follows the pointer at `offset` bytes from `base`; `None` if it is null.
    #[inline(always)]
    fn follow(base: *const u8, offset: usize) -> Option<*const u8> {
        Self::read::<*const u8>(base, offset).filter(|pointer| !pointer.is_null())
    }
}

/// Plain loads, for pointers whose type the verifier knows from BTF: arguments of BTF tracepoints,
/// of fentry and fexit programs, and pointers reached from them.
pub struct Typed;

impl Memory for Typed {
    #[inline(always)]
    fn read<T: Copy>(base: *const u8, offset: usize) -> Option<T> {
        // SAFETY: the verifier checks the pointer's type and the offset, and lets a load that
        // faults read zero. Volatile, so that each load stays as wide as the field.
        Some(unsafe { ptr::read_volatile(base.add(offset).cast::<T>()) })
    }
}

/// Checked copies, for any pointer in any tracing program.
pub struct Probed;

impl Memory for Probed {
    #[inline(always)]
    fn read<T: Copy>(base: *const u8, offset: usize) -> Option<T> {
        // SAFETY: the helper checks the address, whatever it is.
        unsafe { bpf_probe_read_kernel(base.wrapping_add(offset).cast::<T>()) }.ok()
    }
}

/// The id of a `struct cgroup`: the inode number of its directory.
#[inline(always)]
pub fn cgroup_id<M: Memory>(cgroup: *const u8) -> Option<u64> {
    let node = M::follow(cgroup, offset(&OFFSETS.cgroup_kn))?;
    M::read(node, offset(&OFFSETS.kn_id))
}
