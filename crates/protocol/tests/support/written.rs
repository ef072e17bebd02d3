//! Feeds what a server writes, call by call, as the kernel's programs do.
use paramedic_protocol::{
    Bytes as _, Connection, Event, Kind, Slice, Way, connection::protocol, written,
};

/// Most steps for a call.
const STEPS: u32 = 2048;

/// A connection of which only the server's calls are seen.
#[derive(Default)]
pub(crate) struct Written {
    connection: Option<Box<Connection>>,
    pub(crate) events: Vec<(Way, Event)>,
}

impl Written {
    pub(crate) fn call(&mut self, text: &[u8]) {
        let len = text.len() as u32;
        let bytes = &Slice { bytes: text, now: 1 };
        if self.connection.is_none() {
            let (high, low) = bytes.load(0, len.min(16)).unwrap();
            let Some(kind) = Kind::of(high, low, len) else { return };
            let mut connection = Box::<Connection>::default();
            written::start(&mut connection, kind);
            self.connection = Some(connection);
        }
        let connection = self.connection.as_mut().unwrap();
        let segment = written::segment(connection, len);
        let (begin, event) = written::begin(connection, &segment, bytes);
        let mut events = vec![event];
        if let Some(mut at) = begin {
            let mut steps = 0;
            while at < len && steps < STEPS {
                let (next, event) = match connection.protocol {
                    protocol::HTTP1 => written::http1(connection, &segment, bytes, at),
                    protocol::HTTP2 => written::http2(connection, &segment, bytes, at),
                    _ => break,
                };
                at = next;
                steps += 1;
                events.push(event);
            }
            events.push(written::end(connection, &segment, at));
        }
        written::pass(connection, &segment);
        self.events.extend(events.into_iter().map(|event| (Way::Responses, event)));
    }
}
