//! Requests without a response yet: a ring per connection.
use crate::{
    connection::{Connection, protocol},
    http1,
};

/// Requests that a connection can have noted at once. More are counted, but not timed.
pub const OPEN: usize = 16;

/// One request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Nanoseconds of the caller's clock when it began; 0 once it has its response.
    pub at: u64,
    /// HTTP/2: the stream. HTTP/1: its number on the connection, with its kind.
    pub id: u32,
    /// HTTP/1: the acknowledgement number of its packet, where its response begins if the client
    /// takes turns.
    pub turn: u32,
}

impl Connection {
    /// Notes a request in the place `index`, unless another is still waiting there.
    #[inline(always)]
    pub(crate) fn note(&mut self, index: u32, request: Open) -> bool {
        let place = &mut self.open[index as usize % OPEN];
        if place.at != 0 {
            return false;
        }
        *place = request;
        true
    }

    /// When the requests without a response began. Those that were not noted are missing, and one
    /// whose head is not complete.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        (0..OPEN).map(|index| self.waits(index)).filter(|at| *at != 0)
    }

    /// Since when the request in this place waits for its response: since it began, or since the last
    /// piece of its body came. 0 if it has its response, or its head is not complete.
    #[must_use]
    #[inline(always)]
    pub fn waits(&self, index: usize) -> u64 {
        let request = &self.open[index % OPEN];
        let newest = (self.asked.wrapping_sub(1) as usize) % OPEN == index % OPEN;
        if self.protocol != protocol::HTTP1 || !newest || request.at == 0 {
            return request.at;
        }
        if http1::is_in_head(&self.requests) {
            0
        } else if self.requests.frame != 0 {
            self.requests.frame
        } else {
            request.at
        }
    }

    /// Whether its client does not end its request: the head is not complete after a second, or the
    /// body comes in crumbs. It may hold a thread of the server meanwhile.
    #[must_use]
    pub fn is_held_by_client(&self, now: u64) -> bool {
        const LONG: u64 = 1_000_000_000;
        let newest = &self.open[self.asked.wrapping_sub(1) as usize % OPEN];
        if self.protocol != protocol::HTTP1 || newest.at == 0 {
            return false;
        }
        let is_cut = http1::is_in_head(&self.requests) && now.saturating_sub(newest.at) >= LONG;
        is_cut || http1::comes_in_crumbs(&self.requests)
    }

    /// Forgets all requests: no response will come any more.
    #[inline(always)]
    pub(crate) fn forget(&mut self) {
        let mut index = 0;
        while index < OPEN {
            self.open[index].at = 0;
            index += 1;
        }
        self.answered = self.asked;
    }
}
