//! The connections that the kernel side remembers: the requests that wait for a response now.
use std::collections::HashMap;

use aya::{
    Pod,
    maps::{MapData, MapError},
};
use paramedic_core::{boot_time::BootTime, signal::SECONDS};
use paramedic_protocol::Connection;

use super::{Kernel, slots::Slot};

/// Connections per target, on average: a map of them is shared by all targets.
const PER_TARGET: u32 = 16;
/// A map smaller than this would lose connections early: the kernel moves unused entries between
/// CPUs in batches.
const FEWEST: u32 = 1024;
/// 10 MB.
const MOST: u32 = 16384;
/// The role of a connection that the target serves.
const SERVES: u8 = 1;

/// A connection, as a value of the kernel's map.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Remembered(Connection);

// SAFETY: `repr(C)` below, integers only, no padding (its size is asserted): any bytes are a value.
unsafe impl Pod for Remembered {}

pub(super) type Map = aya::maps::HashMap<MapData, u64, Remembered>;

/// The size of the map for this many targets.
pub(super) fn room(capacity: u32) -> u32 {
    capacity.saturating_mul(PER_TARGET).clamp(FEWEST, MOST)
}

/// The size of the map of TLS connections: few targets opt in.
pub(super) fn room_for_tls(capacity: u32) -> u32 {
    capacity.saturating_mul(4).clamp(FEWEST, MOST)
}

/// Requests to one target that have no response yet, or are not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many: at most 16 of each connection, and without those whose connection was forgotten
    /// for want of room.
    pub requests: u32,
    /// When the oldest of them began.
    pub oldest: Option<BootTime>,
    /// They by whole seconds that they have waited; the last group is all longer ones.
    pub ages: [u16; SECONDS],
    /// Clients that hold a connection without ending their request.
    pub holding: u32,
}

/// What waits now, of all targets.
#[derive(Clone, Debug, Default)]
pub struct AllWaiting(HashMap<u32, Waiting>);

impl AllWaiting {
    /// Of one target.
    #[must_use]
    pub fn of(&self, slot: Slot) -> Waiting {
        self.0.get(&slot.index).copied().unwrap_or_default()
    }

    fn add(&mut self, connection: &Connection, now: BootTime) {
        if connection.role != SERVES {
            return;
        }
        if connection.is_held_by_client(now.as_nanos()) {
            let holding = &mut self.0.entry(connection.slot).or_default().holding;
            *holding = holding.saturating_add(1);
        }
        for began in connection.waiting().map(BootTime::from_nanos) {
            let waiting = self.0.entry(connection.slot).or_default();
            waiting.requests = waiting.requests.saturating_add(1);
            waiting.oldest = Some(waiting.oldest.map_or(began, |other| other.min(began)));
            let seconds = usize::try_from(now.since(began).as_secs()).unwrap_or(SECONDS);
            let group = &mut waiting.ages[seconds.min(SECONDS - 1)];
            *group = group.saturating_add(1);
        }
    }
}

impl Kernel {
    /// The requests without a response, of all targets at once. It reads each remembered connection:
    /// call it once per look, not once per target.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn waiting(&self, now: BootTime) -> Result<AllWaiting, MapError> {
        let mut all = AllWaiting::default();
        for entry in &self.maps.connections {
            match entry {
                Ok((_, Remembered(connection))) => all.add(&connection, now),
                // It ended meanwhile.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// Forgets the connections of a slot.
pub(super) fn forget(map: &mut Map, slot: u32) -> Result<(), MapError> {
    let of_slot = |(cookie, Remembered(connection)): (u64, Remembered)| {
        (connection.slot == slot).then_some(cookie)
    };
    let cookies: Vec<u64> = map.iter().filter_map(Result::ok).filter_map(of_slot).collect();
    for cookie in cookies {
        match map.remove(&cookie) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use paramedic_protocol::Open;

    #[test]
    fn the_oldest_request_of_all_connections_is_the_targets() {
        let mut all = AllWaiting::default();
        let second = 1_000_000_000;
        let now = BootTime::from_nanos(50 * second);
        let mut connection =
            Connection { slot: 3, role: SERVES, asked: 9, ..Connection::default() };
        all.add(&connection, now);
        assert!(all.0.is_empty(), "nothing waits");
        for (index, at) in [(2, 47 * second), (7, 5 * second)] {
            connection.open[index] = Open { at, id: 1, turn: 0 };
            all.add(&connection, now);
        }
        let slot = Slot { index: 3, generation: 1 };
        let waiting = all.of(slot);
        assert_eq!(waiting.requests, 3);
        assert_eq!(waiting.oldest, Some(BootTime::from_nanos(5 * second)));
        assert_eq!((waiting.ages[3], waiting.ages[SECONDS - 1]), (2, 1));
        assert_eq!(all.of(Slot { index: 4, generation: 1 }), Waiting::default());
        connection.role = 2;
        all.add(&connection, now);
        assert_eq!(all.of(slot).requests, 3, "its own calls are not requests to it");
    }

    #[test]
    fn the_room_grows_with_the_targets_within_bounds() {
        assert_eq!([1, 110, 500, u32::MAX].map(room), [1024, 1760, 8000, 16384]);
    }
}
