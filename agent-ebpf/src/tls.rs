//! Counts the responses that a target's processes write into TLS, where the library's functions are
//! called: the plaintext of OpenSSL, and of Go.
//!
//! Of OpenSSL the length that a call has written is known when it returns: a call may fail because
//! the socket has no room, and is then repeated with the same bytes, or may write a part. So the
//! call is remembered at its begin and looked at at its end; what it has read is then in memory,
//! too. Functions of Go write everything, and their returns must not be touched, since Go moves
//! stacks: they are looked at where they begin.
//!
//! A connection is the library's object for it, in its process. Its end is seen where the object is
//! freed or used anew. `paramedic_protocol::written` says what can be told from one direction.
use agent_common::scope;
use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_current_cgroup_id, bpf_probe_read_user},
    },
    macros::{map, uprobe, uretprobe},
    maps::LruHashMap,
    programs::{ProbeContext, RetProbeContext},
};
use paramedic_protocol::{
    Bytes, Connection, Event, Kind, Packed, Segment, connection::protocol, written,
};

use crate::{
    connections, maps,
    packet::{Ahead, Buffered, Source},
    tally,
    walk::count,
};

/// Steps through what one call has written.
const STEPS: u32 = 2048;
/// More bytes in one call are not followed.
const LONGEST: u64 = 1 << 30;

/// The connections of watched processes, by [`name`].
#[map]
static TLS_CONNECTIONS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(1, 0);
/// The calls under way, by thread.
#[map]
static TLS_CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(1, 0);

/// A call of a function that writes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    /// The library's object for the connection.
    object: u64,
    /// The bytes to write.
    bytes: u64,
    /// Where the function tells how many it has written, if it does.
    told: u64,
    /// Whose call it is.
    slot: u32,
    padding: u32,
}

/// Begin of `SSL_write(ssl, bytes, count)`, `SSL_write_ex(ssl, bytes, count, &written)`, and
/// `SSL_sendfile(ssl, …)`.
#[uprobe]
pub fn ssl_call(ctx: ProbeContext) -> u32 {
    let _ = try_call(&ctx);
    0
}

/// End of `SSL_write`.
#[uretprobe]
pub fn ssl_write(ctx: RetProbeContext) -> u32 {
    let count = i64::from(ctx.ret::<i32>());
    if let Some(call) = call()
        && count > 0
    {
        let _ = wrote(name(call.object), call.slot, call.bytes, count as u64);
    }
    0
}

/// End of `SSL_write_ex`.
#[uretprobe]
pub fn ssl_write_ex(ctx: RetProbeContext) -> u32 {
    if let Some(call) = call()
        && ctx.ret::<i32>() == 1
        && let Some(count) = word(call.told)
    {
        let _ = wrote(name(call.object), call.slot, call.bytes, count);
    }
    0
}

/// End of `SSL_sendfile`: it has sent a part of a body, whose plaintext is not in the process.
#[uretprobe]
pub fn ssl_sendfile(ctx: RetProbeContext) -> u32 {
    let count = ctx.ret::<i64>();
    if let Some(call) = call()
        && count > 0
        && let Some(connection) = TLS_CONNECTIONS.get_ptr_mut(name(call.object))
    {
        // SAFETY: a whole map value, which outlives the program run.
        let connection = unsafe { &mut *connection };
        written::pass(connection, &written::segment(connection, count as u32));
    }
    0
}

/// `SSL_free(ssl)` and `SSL_clear(ssl)`: whatever the object is used for afterwards is another
/// connection.
#[uprobe]
pub fn ssl_end(ctx: ProbeContext) -> u32 {
    if let Some(object) = ctx.arg::<u64>(0) {
        let _ = TLS_CONNECTIONS.remove(name(object));
    }
    0
}

/// Begin of Go's `(*tls.Conn).Write(bytes)`.
#[uprobe]
pub fn go_write(ctx: ProbeContext) -> u32 {
    let _ = try_go(&ctx);
    0
}

/// Begin of Go's `(*tls.Conn).Close()`.
#[uprobe]
pub fn go_close(ctx: ProbeContext) -> u32 {
    if let Some((object, ..)) = go_arguments(&ctx) {
        let _ = TLS_CONNECTIONS.remove(name(object));
    }
    0
}

#[inline(always)]
fn try_call(ctx: &ProbeContext) -> Option<()> {
    let slot = slot()?;
    let call =
        Call { object: ctx.arg(0)?, bytes: ctx.arg(1)?, told: ctx.arg(3)?, slot, padding: 0 };
    let _ = TLS_CALLS.insert(bpf_get_current_pid_tgid(), call, 0);
    Some(())
}

/// The call of this thread that ends.
#[inline(always)]
fn call() -> Option<Call> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread writes its entry, and it is here.
    let call = *unsafe { TLS_CALLS.get(thread) }?;
    let _ = TLS_CALLS.remove(thread);
    Some(call)
}

#[inline(always)]
fn try_go(ctx: &ProbeContext) -> Option<()> {
    let slot = slot()?;
    let (object, bytes, count) = go_arguments(ctx)?;
    wrote(name(object), slot, bytes, count)
}

/// The first three words of a function of Go: it passes them in registers of its own choice.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn go_arguments(ctx: &ProbeContext) -> Option<(u64, u64, u64)> {
    // SAFETY: the program's own context, which the verifier checks.
    let registers = unsafe { &*ctx.regs };
    Some((registers.rax, registers.rbx, registers.rcx))
}

/// The first three words of a function of Go: here in the registers of C.
#[cfg(not(bpf_target_arch = "x86_64"))]
#[inline(always)]
fn go_arguments(ctx: &ProbeContext) -> Option<(u64, u64, u64)> {
    Some((ctx.arg(0)?, ctx.arg(1)?, ctx.arg(2)?))
}

/// The target of the present process.
#[inline(always)]
fn slot() -> Option<u32> {
    // SAFETY: the helper has no preconditions.
    maps::slot(unsafe { bpf_get_current_cgroup_id() }, scope::TLS)
}

/// What names a connection: objects are aligned, and addresses end at bit 47, so that both fit.
#[inline(always)]
fn name(object: u64) -> u64 {
    object.wrapping_shl(17) ^ bpf_get_current_pid_tgid() >> 32
}

/// A word of the present process's memory.
#[inline(always)]
fn word(at: u64) -> Option<u64> {
    let mut word = 0_u64;
    // SAFETY: the destination has 8 bytes, and the helper checks the source.
    let result = unsafe {
        bpf_probe_read_user((&raw mut word).cast(), size_of::<u64>() as u32, at as *const _)
    };
    (result == 0).then_some(word)
}

/// Follows what a call has written.
#[inline(always)]
fn wrote(name: u64, slot: u32, bytes: u64, count: u64) -> Option<()> {
    if count == 0 {
        return None;
    }
    if count > LONGEST {
        let _ = TLS_CONNECTIONS.remove(name);
        return None;
    }
    let len = count as u32;
    let mut walk = TlsWalk {
        bytes,
        seq: 0,
        len,
        at: 0,
        padding: 0,
        found: Packed::default(),
        ahead: Ahead::default(),
    };
    let connection = match TLS_CONNECTIONS.get_ptr_mut(name) {
        Some(connection) => connection,
        None => add(name, tls_kind(&raw mut walk))?,
    };
    // SAFETY: a whole map value, which outlives the program run. Libraries permit one call at a
    // time for each connection.
    let connection = unsafe { &mut *connection };
    connection.slot = slot;
    let segment = written::segment(connection, len);
    walk.seq = segment.seq;
    if tls_begin(connection, &raw mut walk) != 0 {
        tls_walk(connection, &raw mut walk);
    }
    written::pass(connection, &segment);
    Some(())
}

/// A new connection, if what is written begins with a message.
#[inline(always)]
fn add(name: u64, kind: u32) -> Option<*mut Connection> {
    let kind = match kind {
        RESPONSE => Kind::Response,
        FRAMES => Kind::Frames,
        REQUEST => Kind::Request,
        _ => return None,
    };
    let connection = connections::add_to(&TLS_CONNECTIONS, name)?;
    // SAFETY: as in `wrote`.
    let new = unsafe { &mut *connection };
    new.role = connections::SERVES;
    written::start(new, kind);
    Some(connection)
}

/// What [`tls_kind`] answers.
const RESPONSE: u32 = 1;
const FRAMES: u32 = 2;
const REQUEST: u32 = 3;

/// What a connection begins with; 0 if that is no message.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tls_kind(walk: *mut TlsWalk) -> u32 {
    // SAFETY: the verifier checks that every caller passes a whole value or null.
    let Some(walk) = (unsafe { walk.as_mut() }) else { return 0 };
    let len = walk.len;
    let Some((high, low)) = walk.text().load(0, if len < 16 { len } else { 16 }) else { return 0 };
    match Kind::of(high, low, len) {
        Some(Kind::Response) => RESPONSE,
        Some(Kind::Frames) => FRAMES,
        Some(Kind::Request | Kind::Preface) => REQUEST,
        None => 0,
    }
}

/// Finds where to begin, and counts what is seen to have been missed; 0 if there is nothing to look
/// at.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tls_begin(connection: *mut Connection, walk: *mut TlsWalk) -> u32 {
    // SAFETY: as in `tls_kind`.
    let (Some(all), Some(state)) = (unsafe { connection.as_mut() }, unsafe { walk.as_mut() })
    else {
        return 0;
    };
    let (segment, text) = (state.segment(), state.text());
    let (at, event) = written::begin(all, &segment, &text);
    if let Event::NotUnderstood(count) = event {
        tally::not_understood(all, count);
    }
    let Some(at) = at else { return 0 };
    state.at = at;
    1
}

/// Memory of the present process.
struct User {
    at: u64,
}

impl Source for User {
    #[inline(always)]
    fn copy(&self, from: u32, to: *mut u64, size: u64) -> bool {
        let from = self.at.wrapping_add(u64::from(from));
        // SAFETY: the caller has room for this size, and the helper checks the source.
        unsafe { bpf_probe_read_user(to.cast(), size as u32, from as *const _) == 0 }
    }
}

/// A walk through what a call has written; see `crate::walk`.
#[repr(C)]
pub struct TlsWalk {
    /// Where it is in the process.
    pub bytes: u64,
    /// Its sequence number.
    pub seq: u32,
    /// Its length.
    pub len: u32,
    /// Where the walk stands.
    pub at: u32,
    /// Always 0.
    pub padding: u32,
    /// What the last step found.
    pub found: Packed,
    /// What was copied.
    pub ahead: Ahead,
}

const _: () = assert!(size_of::<TlsWalk>() == 32 + 120, "no padding");

impl TlsWalk {
    #[inline(always)]
    fn segment(&self) -> Segment {
        Segment { seq: self.seq, ack: 0, len: self.len }
    }

    #[inline(always)]
    fn text(&mut self) -> Buffered<User> {
        let source = User { at: self.bytes };
        Buffered { source, len: self.len, ahead: &raw mut self.ahead }
    }
}

/// Walks through what was written from where the walk stands, and counts what is found. The verifier
/// follows each round of the loop: there is as little in it as possible.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tls_walk(connection: *mut Connection, walk: *mut TlsWalk) -> u32 {
    // SAFETY: as in `tls_kind`.
    let (Some(all), Some(state)) = (unsafe { connection.as_mut() }, unsafe { walk.as_mut() })
    else {
        return 0;
    };
    let mut steps = 0;
    while steps < STEPS && state.at < state.len {
        if tls_step(&raw mut *all, &raw mut *state) == 0 {
            break;
        }
        steps += 1;
    }
    let event = written::end(all, &state.segment(), state.at);
    state.found = Packed::of(&event);
    if state.found.what != Packed::NOTHING {
        count(&raw const *all, state.found.what, state.found.number);
    }
    0
}

/// Takes one step and counts what it finds; 0 if the connection is no HTTP any more.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tls_step(connection: *mut Connection, walk: *mut TlsWalk) -> u32 {
    // SAFETY: as in `tls_kind`.
    let (Some(all), Some(state)) = (unsafe { connection.as_mut() }, unsafe { walk.as_mut() })
    else {
        return 0;
    };
    match all.protocol {
        protocol::HTTP1 => tls_http1(&raw mut *all, &raw mut *state),
        protocol::HTTP2 => tls_http2(&raw mut *all, &raw mut *state),
        _ => return 0,
    };
    if state.found.what != Packed::NOTHING {
        count(&raw const *all, state.found.what, state.found.number);
    }
    1
}

/// One step through HTTP/1.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tls_http1(connection: *mut Connection, walk: *mut TlsWalk) -> u32 {
    one(connection, walk, |connection, segment, text, at| {
        written::http1(connection, segment, text, at)
    })
}

/// One step through HTTP/2.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tls_http2(connection: *mut Connection, walk: *mut TlsWalk) -> u32 {
    one(connection, walk, |connection, segment, text, at| {
        written::http2(connection, segment, text, at)
    })
}

#[inline(always)]
fn one(
    connection: *mut Connection,
    walk: *mut TlsWalk,
    step: impl FnOnce(&mut Connection, &Segment, &Buffered<User>, u32) -> (u32, Event),
) -> u32 {
    // SAFETY: as in `tls_kind`.
    let (Some(connection), Some(walk)) = (unsafe { connection.as_mut() }, unsafe { walk.as_mut() })
    else {
        return 0;
    };
    let text = walk.text();
    let (at, event) = step(connection, &walk.segment(), &text, walk.at);
    walk.at = at;
    walk.found = Packed::of(&event);
    0
}
