//! Counts what the steps find, for the target of the connection.
use core::arch::asm;

use agent_common::{Counters, cause};
use paramedic_protocol::{Connection, Packed, Verdict};

use crate::{connections, maps};

/// Where to count.
pub struct Tally {
    counters: *mut Counters,
    slot: u32,
    serves: bool,
}

/// A request whose connection is not known yet.
#[inline(always)]
pub fn lone_request(slot: u32) {
    if let Some(counters) = maps::counters(slot) {
        // SAFETY: only addresses are taken.
        unsafe {
            maps::add(&raw mut (*counters).requests);
            maps::add(&raw mut (*counters).untimed);
        }
    }
}

/// Messages that were not understood.
#[inline(always)]
pub fn not_understood(connection: &Connection, count: u32) {
    if let Some(counters) = maps::counters(connection.slot) {
        // SAFETY: only an address is taken.
        maps::add_many(unsafe { &raw mut (*counters).not_understood }, u64::from(count));
    }
}

impl Tally {
    #[inline(always)]
    pub fn of(connection: &Connection) -> Option<Self> {
        Some(Self {
            counters: maps::counters(connection.slot)?,
            slot: connection.slot,
            serves: connection.role == connections::SERVES,
        })
    }

    #[inline(always)]
    pub fn count(&self, event: Packed) {
        let (low, high) = ((event.what >> 8) as u8, (event.what >> 16) as u8);
        match event.what & 0xff {
            Packed::REQUESTS => self.requests(event.number, low),
            Packed::RESPONSE => self.head(Verdict::of(low, high), event.number),
            Packed::TRAILERS => self.trailers(Verdict::of(low, high)),
            Packed::GIVEN_UP => self.given_up(event.number),
            Packed::DROPPED => self.dropped(),
            Packed::NOT_UNDERSTOOD => {
                // SAFETY: only an address is taken.
                let field = unsafe { &raw mut (*self.counters).not_understood };
                maps::add_many(field, u64::from(event.number));
            }
            _ => {}
        }
    }

    /// A request that its client gave up, by the group of its age.
    #[inline(always)]
    pub fn given_up(&self, age: u32) {
        if !self.serves {
            return;
        }
        let mut index = age as usize;
        // SAFETY: changes nothing, since there are 8 groups; said in assembly, where the compiler
        // cannot take the bound away before the verifier sees it.
        unsafe { asm!("{index} &= 7", index = inout(reg) index) };
        // SAFETY: only an address within the counters is taken.
        maps::add(unsafe { (&raw mut (*self.counters).given_up).cast::<u64>().add(index) });
    }

    /// A request that the target dropped.
    #[inline(always)]
    pub fn dropped(&self) {
        if self.serves {
            // SAFETY: only an address is taken.
            maps::add(unsafe { &raw mut (*self.counters).dropped });
        }
    }

    #[inline(always)]
    fn requests(&self, count: u32, timed: u8) {
        // SAFETY: only addresses are taken.
        unsafe {
            if !self.serves {
                maps::add_many(&raw mut (*self.counters).upstream_requests, u64::from(count));
                return;
            }
            maps::add_many(&raw mut (*self.counters).requests, u64::from(count));
            let untimed = count.wrapping_sub(u32::from(timed));
            if untimed != 0 {
                maps::add_many(&raw mut (*self.counters).untimed, u64::from(untimed));
            }
        }
    }

    #[inline(always)]
    fn head(&self, verdict: Verdict, bucket: u32) {
        if !self.serves {
            self.received(verdict, true);
            return;
        }
        if bucket != 0 {
            maps::time(self.slot, bucket as usize - 1);
        }
        match verdict {
            Verdict::Unavailable => self.unavailable(),
            Verdict::Unknown | Verdict::Fine => self.unknown(),
            Verdict::Denied => self.class(Verdict::ClientError),
            class => {
                self.class(class);
                if class == Verdict::ServerError {
                    maps::wake(self.slot, cause::HTTP_5XX);
                }
            }
        }
    }

    #[inline(always)]
    fn trailers(&self, verdict: Verdict) {
        if verdict == Verdict::Fine {
            return;
        }
        if !self.serves {
            self.received(verdict, false);
            return;
        }
        // SAFETY: only an address is taken.
        maps::add(unsafe { &raw mut (*self.counters).in_trailers });
        if verdict == Verdict::Unknown {
            self.unknown();
        } else if verdict == Verdict::Unavailable {
            self.unavailable();
        } else {
            self.class(Verdict::ServerError);
            maps::wake(self.slot, cause::HTTP_5XX);
        }
    }

    /// A response to the target as a client.
    #[inline(always)]
    fn received(&self, verdict: Verdict, is_head: bool) {
        if verdict == Verdict::Interim {
            // Not the final response.
            return;
        }
        // SAFETY: only addresses are taken.
        unsafe {
            if is_head {
                maps::add(&raw mut (*self.counters).upstream_responses);
            }
            if matches!(verdict, Verdict::ServerError | Verdict::Unavailable) {
                maps::add(&raw mut (*self.counters).upstream_5xx);
            }
            if verdict == Verdict::Denied {
                maps::add(&raw mut (*self.counters).upstream_denied);
            }
        }
    }

    #[inline(always)]
    fn unavailable(&self) {
        self.class(Verdict::ServerError);
        // SAFETY: only an address is taken.
        maps::add(unsafe { &raw mut (*self.counters).unavailable });
    }

    #[inline(always)]
    fn unknown(&self) {
        // SAFETY: only an address is taken.
        maps::add(unsafe { &raw mut (*self.counters).unknown });
    }

    #[inline(always)]
    fn class(&self, class: Verdict) {
        let mut index = class as usize;
        // SAFETY: changes nothing, since a class is below 5; said in assembly, where the compiler
        // cannot take the bound away before the verifier sees it.
        unsafe { asm!("{index} &= 7", index = inout(reg) index) };
        // SAFETY: only an address within the counters is taken.
        maps::add(unsafe { (&raw mut (*self.counters).responses).cast::<u64>().add(index) });
    }
}
