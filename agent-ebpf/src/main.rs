//! Paramedic's eBPF programs: they count per target, and wake the agent once per look.
//!
//! One file per signal family. Each program is a shim over a `try_…() -> Option<()>`: what cannot
//! be read or is nobody's business ends there, and no program ever changes what it watches.
//! Nothing here judges; a count and a wake-up are all that leaves the kernel.
#![no_std]
#![no_main]
// BPF assembly; aya-ebpf needs the same.
#![feature(asm_experimental_arch)]

mod http;
mod kernel;
mod maps;
mod oom;
mod tcp;
mod throttle;

/// Never reached: the verifier admits no program that could panic.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers that read kernel memory are for GPL programs: this crate is under either license,
/// its object in the kernel under this one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
