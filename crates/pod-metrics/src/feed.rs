//! Asks the event loop for all readings once a second, and sends the same frame to every
//! subscriber.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{Frame, PodMetrics};

/// Interval between two frames.
const PERIOD: Duration = Duration::from_secs(1);

/// The latest frame, as a line. Without subscribers the loop is not asked.
#[derive(Clone, Debug)]
pub struct Feed(Arc<watch::Sender<Bytes>>);

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Bytes::new())))
    }
}

impl Feed {
    /// Calls `ask` while there are subscribers. Ends if `ask` returns nothing.
    pub async fn run(self, mut ask: impl AsyncFnMut() -> Option<Vec<PodMetrics>>) {
        let mut ticks = interval_at(Instant::now(), PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.0.receiver_count() == 0 {
                continue;
            }
            let Some(pods) = ask().await else { return };
            self.publish(&Frame { pods });
        }
    }

    /// Sends a frame to every subscriber.
    pub fn publish(&self, frame: &Frame) {
        // A frame holds numbers and strings, which always serialise.
        let Ok(mut line) = serde_json::to_vec(frame) else { return };
        line.push(b'\n');
        self.0.send_replace(line.into());
    }

    /// Subscribes to the next frames. A slow subscriber misses some.
    pub(super) fn listen(&self) -> watch::Receiver<Bytes> {
        let mut frames = self.0.subscribe();
        frames.mark_unchanged();
        frames
    }
}
