//! The connections of watched targets, by their socket's cookie.
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, LruHashMap},
};
use paramedic_protocol::Connection;

/// The target answers requests.
pub const SERVES: u8 = 1;
/// The target sends requests.
pub const CALLS: u8 = 2;
/// Ports from here on are usually those of clients.
pub const EPHEMERAL: u16 = 32768;

/// Where there is no room, the one that was not used for longest gives way.
#[map]
static CONNECTIONS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(1, 0);
/// A new one: all zero. It is larger than a program's stack.
#[map]
static FRESH: Array<Connection> = Array::with_max_entries(1, 0);

#[inline(always)]
pub fn find(cookie: u64) -> Option<*mut Connection> {
    CONNECTIONS.get_ptr_mut(cookie)
}

/// Adds a new one, or finds the one that another CPU has just added.
#[inline(always)]
pub fn add(cookie: u64) -> Option<*mut Connection> {
    add_to(&CONNECTIONS, cookie)
}

/// The same in any map of connections.
#[inline(always)]
pub fn add_to(map: &LruHashMap<u64, Connection>, key: u64) -> Option<*mut Connection> {
    let fresh = FRESH.get_ptr(0)?;
    // SAFETY: a whole map value that no program writes.
    let _ = map.insert(key, unsafe { &*fresh }, u64::from(BPF_NOEXIST));
    map.get_ptr_mut(key)
}

#[inline(always)]
pub fn remove(cookie: u64) {
    let _ = CONNECTIONS.remove(cookie);
}
