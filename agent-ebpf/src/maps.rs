//! The maps of targets, and their operations: find a target's slot, count, time, wake.
//!
//! The agent sizes every map at load by the maximum number of targets.
use core::{arch::asm, ptr};

use agent_common::{Counters, Key, Latencies, Throttling, Wakeup, scope};
use aya_ebpf::{
    helpers::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};

#[map]
static TARGETS: HashMap<Key, u32> = HashMap::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
#[map]
static LATENCIES: PerCpuArray<Latencies> = PerCpuArray::with_max_entries(1, 0);
#[map]
static THROTTLING: Array<Throttling> = Array::with_max_entries(1, 0);
/// The generation of each armed slot's owner; 0 is disarmed.
#[map]
static ARMED: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static WAKEUPS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// The slot of a cgroup's target within one scope.
#[inline(always)]
pub fn slot(cgroup: u64, scope: u16) -> Option<u32> {
    lookup(Key::new(cgroup, 0, scope))
}

/// The slot of traffic on a local port: the target narrowed to the port, else the one of the whole
/// cgroup.
#[inline(always)]
pub fn traffic_slot(cgroup: u64, port: u16) -> Option<u32> {
    match lookup(Key::new(cgroup, port, scope::TRAFFIC)) {
        None if port != 0 => slot(cgroup, scope::TRAFFIC),
        found => found,
    }
}

/// The slot of a target that is narrowed to this port.
#[inline(always)]
pub fn lookup_port(cgroup: u64, port: u16) -> Option<u32> {
    lookup(Key::new(cgroup, port, scope::TRAFFIC))
}

#[inline(always)]
fn lookup(key: Key) -> Option<u32> {
    // SAFETY: entries are preallocated and their value is one aligned u32, read at once; an entry
    // reused meanwhile yields another target's slot for one event, which is all that can happen.
    unsafe { TARGETS.get(key) }.copied()
}

/// This CPU's copy of the counters of `slot`.
#[inline(always)]
pub fn counters(slot: u32) -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(slot)
}

/// Adds one to the counter of `slot` that `field` selects.
#[inline(always)]
pub fn count(slot: u32, field: impl FnOnce(*mut Counters) -> *mut u64) {
    if let Some(counters) = counters(slot) {
        add(field(counters));
    }
}

/// Adds one to a counter, a field of the result of [`counters`].
///
/// The add is atomic although the copy belongs to this CPU: another program that counts for the
/// same target may interrupt or preempt this one on the same CPU. (On x86 it also orders the count
/// before the read of `ARMED` in [`wake`].)
#[inline(always)]
pub fn add(field: *mut u64) {
    add_many(field, 1);
}

/// Adds `count` in the same way.
#[inline(always)]
pub fn add_many(field: *mut u64, count: u64) {
    // SAFETY: `field` points into the map value, which outlives the program run. In assembly,
    // because core has no read-modify-write atomics for this target; this one is as old as BPF.
    unsafe { asm!("lock *(u64 *)({at} + 0) += {one}", at = in(reg) field, one = in(reg) count) };
}

/// Counts a response in a bucket of the slot's histogram.
#[inline(always)]
pub fn time(slot: u32, bucket: usize) {
    let Some(latencies) = LATENCIES.get_ptr_mut(slot) else { return };
    let mut index = bucket;
    // SAFETY: changes nothing, since there are 32 buckets; said in assembly, where the compiler
    // cannot take the bound away before the verifier sees it.
    unsafe { asm!("{index} &= 31", index = inout(reg) index) };
    // SAFETY: only an address within the array is taken.
    add(unsafe { (&raw mut (*latencies).buckets).cast::<u64>().add(index) });
}

/// Wakes the agent, if the slot is armed, and disarms it: events after the first are only counted.
/// If the ring is full the slot stays armed, and a later event wakes the agent.
///
/// This is a plain read and write, not an exchange: two CPUs that race here send two records, and
/// an extra sample is harmless. (The exchange would need a newer kernel on some machines.)
#[inline(always)]
pub fn wake(slot: u32, cause: u32) {
    let Some(armed) = ARMED.get_ptr_mut(slot) else { return };
    // SAFETY: an aligned u32 in the map value, which outlives the program run; volatile because
    // user space and other CPUs write it.
    let generation = unsafe { ptr::read_volatile(armed) };
    if generation == 0 {
        return;
    }
    // SAFETY: as above.
    unsafe { ptr::write_volatile(armed, 0) };
    if let Some(mut record) = WAKEUPS.reserve::<Wakeup>(0) {
        // SAFETY: the helper has no preconditions.
        let at_ns = unsafe { bpf_ktime_get_boot_ns() };
        record.write(Wakeup { at_ns, slot, generation, cause, padding: 0 });
        record.submit(0);
    } else {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(armed, generation) };
    }
}

/// Stores the CPU controller's counters; true if throttled periods were added since the last call.
#[inline(always)]
pub fn store_throttling(slot: u32, now: Throttling) -> bool {
    let Some(last) = THROTTLING.get_ptr_mut(slot) else { return false };
    // SAFETY: aligned u64s in the map value, which outlives the program run. Each is written
    // whole; a reader may see one from this snapshot beside one from the last, both true values.
    unsafe {
        let rose = now.periods > ptr::read_volatile(&raw const (*last).periods);
        ptr::write_volatile(&raw mut (*last).periods, now.periods);
        ptr::write_volatile(&raw mut (*last).nanoseconds, now.nanoseconds);
        ptr::write_volatile(&raw mut (*last).period_ns, now.period_ns);
        rose
    }
}
