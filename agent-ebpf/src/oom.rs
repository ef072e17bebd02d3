//! Counts OOM kills by the victim's own cgroup.
//!
//! Only newer kernels pass the victim itself to the tracepoint. On kernels that pass a pid, the
//! agent does not load this program and reads the memory controller's own count instead.
use agent_common::{cause, scope};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::info;

use crate::{
    kernel::{Memory, OFFSETS, Typed, cgroup_id, offset},
    maps,
};

#[btf_tracepoint(function = "mark_victim")]
pub fn oom_victim(ctx: BtfTracePointContext) -> i32 {
    let _ = try_victim(&ctx);
    0
}

#[inline(always)]
fn try_victim(ctx: &BtfTracePointContext) -> Option<()> {
    let set = Typed::follow(ctx.arg(0), offset(&OFFSETS.task_cgroups))?;
    let cgroup = cgroup_id::<Typed>(Typed::follow(set, offset(&OFFSETS.css_set_dfl))?)?;
    let slot = maps::slot(cgroup, scope::MEMORY)?;
    // SAFETY: only the address is taken.
    maps::count(slot, |counters| unsafe { &raw mut (*counters).oom_kills });
    info!(ctx, "the OOM killer chose a process of cgroup {}", cgroup);
    maps::wake(slot, cause::OOM_KILL);
    Some(())
}
