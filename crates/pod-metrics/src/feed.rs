//! Once a second the loop is asked for all readings, and everybody who listens gets the same line.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{Frame, Reading};

/// From one frame to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// The latest frame, as a line. While nobody listens nobody asks the loop.
#[derive(Clone, Debug)]
pub struct Feed(Arc<watch::Sender<Bytes>>);

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Bytes::new())))
    }
}

impl Feed {
    /// Calls `ask` while there are subscribers; ends when it has no answer.
    pub async fn run(self, mut ask: impl AsyncFnMut() -> Option<Vec<Reading>>) {
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

    /// Everybody who listens gets this frame.
    pub fn publish(&self, frame: &Frame) {
        // Numbers and strings: nothing in it can fail to be JSON.
        let Ok(mut line) = serde_json::to_vec(frame) else { return };
        line.push(b'\n');
        self.0.send_replace(line.into());
    }

    /// The frames from the next on; who is slow misses some.
    pub(super) fn listen(&self) -> watch::Receiver<Bytes> {
        let mut frames = self.0.subscribe();
        frames.mark_unchanged();
        frames
    }
}
