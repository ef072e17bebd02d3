//! The compiled eBPF programs, embedded at build time.
use super::KernelError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/paramedic-ebpf"));

/// The embedded object file: ELF, for [`Kernel::load_from`](super::Kernel::load_from).
///
/// # Errors
/// A build without it works in every other way and returns an error here.
pub fn bytes() -> Result<&'static [u8], KernelError> {
    if OBJECT.is_empty() { Err(KernelError::NoObject) } else { Ok(OBJECT) }
}
