//! CPU throttling: snapshots of the CPU controller's own counters, from whichever hook is
//! available.
//!
//! All hooks lead to the same `cfs_bandwidth`, so the numbers equal those of `cpu.stat`. The first
//! choice is the throttle functions themselves, which are called rarely; else the end of every
//! hrtimer, filtered for the one that refills a group's quota once per period.
use agent_common::{Throttling, cause, scope};
use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext},
};

use crate::{
    kernel::{Memory, OFFSETS, Probed, Typed, cgroup_id, offset, period_timer},
    maps,
};

#[fentry(function = "throttle_cfs_rq")]
pub fn throttle_entry(ctx: FEntryContext) -> i32 {
    let _ = try_runqueue::<Typed>(ctx.arg(0));
    0
}

/// On exit, when the interval that ends here is part of the group's throttled time.
#[fexit(function = "unthrottle_cfs_rq")]
pub fn unthrottle_exit(ctx: FExitContext) -> i32 {
    let _ = try_runqueue::<Typed>(ctx.arg(0));
    0
}

#[kprobe(function = "throttle_cfs_rq")]
pub fn throttle_kprobe(ctx: ProbeContext) -> u32 {
    let _ = ctx.arg(0).and_then(try_runqueue::<Probed>);
    0
}

/// On entry, because a return probe has lost the argument: throttled time lags by the interval that
/// ends here, until the next throttling.
#[kprobe(function = "unthrottle_cfs_rq")]
pub fn unthrot_kprobe(ctx: ProbeContext) -> u32 {
    let _ = ctx.arg(0).and_then(try_runqueue::<Probed>);
    0
}

#[btf_tracepoint(function = "hrtimer_expire_exit")]
pub fn period_expired(ctx: BtfTracePointContext) -> i32 {
    let _ = try_timer(ctx.arg(0));
    0
}

#[inline(always)]
fn try_timer(timer: *const u8) -> Option<()> {
    if Typed::read::<u64>(timer, offset(&OFFSETS.hrtimer_function))? != period_timer() {
        return None;
    }
    // From the timer to the struct that contains it, which a typed pointer does not permit: checked
    // copies from here on.
    let bandwidth = timer.wrapping_sub(offset(&OFFSETS.bandwidth_timer));
    try_group::<Probed>(bandwidth.wrapping_sub(offset(&OFFSETS.tg_bandwidth)))
}

#[inline(always)]
fn try_runqueue<M: Memory>(runqueue: *const u8) -> Option<()> {
    try_group::<M>(M::follow(runqueue, offset(&OFFSETS.cfs_rq_tg))?)
}

#[inline(always)]
fn try_group<M: Memory>(group: *const u8) -> Option<()> {
    let cgroup = cgroup_id::<M>(M::follow(group, offset(&OFFSETS.tg_cgroup))?)?;
    let slot = maps::slot(cgroup, scope::CPU)?;
    let at = |field| offset(&OFFSETS.tg_bandwidth) + offset(field);
    let periods: u32 = M::read(group, at(&OFFSETS.bandwidth_nr_throttled))?;
    let now = Throttling {
        periods: u64::from(periods),
        nanoseconds: M::read(group, at(&OFFSETS.bandwidth_throttled_time))?,
        period_ns: M::read(group, at(&OFFSETS.bandwidth_period))?,
    };
    if maps::store_throttling(slot, now) {
        maps::wake(slot, cause::THROTTLED);
    }
    Some(())
}
