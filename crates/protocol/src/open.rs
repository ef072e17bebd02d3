//! Requests without a response yet: a ring per connection.
use crate::connection::Connection;

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

    /// Requests without a response, and the oldest one's time: 0 if there is none. Requests that
    /// were not noted are missing.
    #[must_use]
    pub fn waiting(&self) -> (u32, u64) {
        let waiting = self.open.iter().map(|request| request.at).filter(|at| *at != 0);
        waiting.fold((0, 0), |(count, oldest), at| {
            (count + 1, if oldest == 0 || at < oldest { at } else { oldest })
        })
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
