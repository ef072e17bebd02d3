//! Feeds segments to a connection as the kernel's programs do.
use paramedic_protocol::{Bytes as _, Connection, Event, Kind, Segment, Slice, Way};

/// What the programs bound the steps per packet to, at least.
const STEPS: u32 = 2048;

/// One connection as the programs see it.
pub(crate) struct Seen {
    pub(crate) connection: Option<Box<Connection>>,
    pub(crate) events: Vec<(Way, Event)>,
    pub(crate) most_steps: u32,
    /// The end of what each direction has sent: the other's acknowledgement number.
    pub(crate) ends: [u32; 2],
    /// Most steps for a packet.
    pub(crate) bound: u32,
}

impl Default for Seen {
    fn default() -> Self {
        let (connection, events) = (None, Vec::new());
        Self { connection, events, most_steps: 0, ends: [0; 2], bound: STEPS }
    }
}

impl Seen {
    pub(crate) fn feed(&mut self, way: Way, seq: u32, payload: &[u8], now: u64) {
        let ack = self.ends[usize::from(way == Way::Requests)];
        self.segment(way, seq, ack, payload, now);
        let end = &mut self.ends[usize::from(way == Way::Responses)];
        let new = seq.wrapping_add(payload.len() as u32);
        if (new.wrapping_sub(*end) as i32) > 0 {
            *end = new;
        }
    }

    fn segment(&mut self, way: Way, seq: u32, ack: u32, payload: &[u8], now: u64) {
        let segment = Segment { seq, ack, len: payload.len() as u32 };
        if payload.is_empty() {
            return;
        }
        let payload = &Slice { bytes: payload, now };
        if self.connection.is_none() {
            let count = segment.len.min(16);
            let (high, low) = payload.load(0, count).unwrap();
            let Some(kind) = Kind::of(high, low, segment.len) else { return };
            match kind {
                Kind::Request | Kind::Preface if way == Way::Responses => return,
                Kind::Response if way == Way::Requests => return,
                _ => {}
            }
            let mut connection = Box::<Connection>::default();
            connection.start(kind, &segment);
            self.connection = Some(connection);
        }
        let connection = self.connection.as_mut().unwrap();
        let (begin, event) = connection.begin(way, &segment, payload);
        self.events.push((way, event));
        let Some(mut at) = begin else { return };
        let mut steps = 0;
        while at < segment.len && steps < self.bound {
            let (next, event) = connection.step(way, &segment, payload, at);
            at = next;
            steps += 1;
            self.events.push((way, event));
        }
        self.most_steps = self.most_steps.max(steps);
        let event = connection.end(way, &segment, at);
        self.events.push((way, event));
    }

    /// Requests counted, and those of them that were noted.
    pub(crate) fn requests(&self) -> (u32, u32) {
        self.events.iter().fold((0, 0), |(all, noted), (_, event)| match event {
            Event::Requests { count, timed } => (all + count, noted + u32::from(*timed)),
            _ => (all, noted),
        })
    }

    pub(crate) fn not_understood(&self) -> u32 {
        let count = |(_, event): &(Way, Event)| match event {
            Event::NotUnderstood(count) => *count,
            _ => 0,
        };
        self.events.iter().map(count).sum()
    }
}
