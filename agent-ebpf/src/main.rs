//! Paramedic's eBPF programs: they count per target, and wake the agent once per sample.
//!
//! There is one file per signal family. Each program is a shim over a `try_…() -> Option<()>`,
//! which returns early if something cannot be read or belongs to no target. No program changes what
//! it watches, and none judges: only counts and wake-ups leave the kernel.
#![no_std]
#![no_main]
// BPF assembly; aya-ebpf needs the same.
#![feature(asm_experimental_arch)]

mod connections;
mod http;
mod kernel;
mod maps;
mod oom;
mod packet;
mod tally;
mod tcp;
mod throttle;
mod tls;
mod walk;

/// Never reached: the verifier accepts no program that could panic.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers that read kernel memory require a GPL program: this crate has either licence, its
/// object in the kernel has this one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
