//! The kernel's own file systems, the network with oneself, and the end.
use std::{
    arch::asm,
    ffi::CString,
    fs::{self, Permissions},
    io,
    mem::zeroed,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
};

/// Where qemu's device `isa-debug-exit` listens: a value `v` ends it with the code `2v + 1`.
#[cfg(target_arch = "x86_64")]
const EXIT_PORT: u16 = 0xf4;
/// The call of Arm's semihosting that ends the machine with an exit code, and its reason: the program
/// has ended.
#[cfg(target_arch = "aarch64")]
const EXIT_CALL: (u64, u64) = (0x18, 0x2_0026);
const SUCCESS: u8 = 0x2a;
const FAILURE: u8 = 0x2b;

pub(crate) fn mount_devices() -> io::Result<()> {
    mount("devtmpfs", "/dev", "")
}

pub(crate) fn mount_all() -> io::Result<()> {
    mount("proc", "/proc", "")?;
    mount("sysfs", "/sys", "")?;
    mount("tracefs", "/sys/kernel/tracing", "")?;
    mount("bpf", "/sys/fs/bpf", "")?;
    mount("tmpfs", "/run", "mode=755")?;
    // The root is in memory itself; and the programs may lie below /tmp, where their checkout does.
    fs::create_dir_all("/tmp")?;
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777))
}

/// Mounts a file system without a device, on a directory that is made if it is not there.
pub(crate) fn mount(kind: &str, at: &str, options: &str) -> io::Result<()> {
    fs::create_dir_all(at)?;
    let [kind_c, at_c, options_c] = [kind, at, options].map(CString::new);
    let (kind_c, at_c, options_c) = (kind_c?, at_c?, options_c?);
    // SAFETY: every pointer is to a string that ends in a zero and outlives the call.
    let result = unsafe {
        libc::mount(kind_c.as_ptr(), at_c.as_ptr(), kind_c.as_ptr(), 0, options_c.as_ptr().cast())
    };
    succeeded(result, &format!("mount {kind} ({options}) on {at}"))
}

pub(crate) fn unmount(at: &str) -> io::Result<()> {
    let path = CString::new(at)?;
    // SAFETY: as for `mount`.
    succeeded(unsafe { libc::umount(path.as_ptr()) }, &format!("unmount {at}"))
}

/// Makes a directory look empty.
pub(crate) fn hide(directory: &str) -> io::Result<()> {
    mount("tmpfs", directory, "")
}

pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: takes no pointer; the descriptor, if it is valid, is new and not shared.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    succeeded(socket.min(0), "a socket")?;
    // SAFETY: just checked.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: integers and arrays of them, of which zeros are a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: the request is one that this call reads, and outlives it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    succeeded(result, "bring lo up")
}

fn succeeded(result: libc::c_int, what: &str) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// Ends the machine. Every other end (a panic, a power-off) has the code 0, which is no success.
pub(crate) fn end(passed: bool) -> ! {
    let value = if passed { SUCCESS } else { FAILURE };
    exit(value);
    // SAFETY: takes no pointer.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
    // The kernel panics when its first process ends.
    std::process::exit(1)
}

/// Ends qemu with the code `2v + 1`.
#[cfg(target_arch = "x86_64")]
fn exit(value: u8) {
    // SAFETY: asks for the right to one port, which in these machines has one meaning; where it is
    // not given the kernel ends this process, and with it the machine.
    unsafe {
        libc::ioperm(EXIT_PORT.into(), 4, 1);
        asm!("out dx, al", in("dx") EXIT_PORT, in("al") value, options(nomem, nostack));
    }
}

/// Ends qemu with the code `2v + 1`, as on the other architecture.
#[cfg(target_arch = "aarch64")]
fn exit(value: u8) {
    let (call, reason) = EXIT_CALL;
    let block = [reason, 2 * u64::from(value) + 1];
    // SAFETY: qemu reads two words that outlive the call, and answers in x0 if it returns; where it
    // does not listen the kernel ends this process, and with it the machine.
    unsafe { asm!("hlt #0xf000", inout("x0") call => _, in("x1") block.as_ptr()) };
}
