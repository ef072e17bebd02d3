//! The illness `burn`: threads in a busy loop.
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::parameters::Burn;

/// Spinning threads; they stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Burning {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Burning {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system permits no further thread; those already started stop.
    pub(crate) fn start(parameters: Burn) -> io::Result<Self> {
        let mut burning = Self { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..parameters.threads.get() {
            let stop = Arc::clone(&burning.stop);
            let percent = parameters.percent.get();
            let burn = move || spin(&stop, percent);
            let spawn = thread::Builder::new().name("burn".into()).spawn(burn);
            burning.threads.push(spawn?);
        }
        Ok(burning)
    }
}

impl Drop for Burning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Spins for this share of each period. A period is a tenth of the kernel's own for CPU quotas, so
/// that a share below a quota is never throttled.
fn spin(stop: &AtomicBool, percent: u64) {
    const PERIOD: Duration = Duration::from_millis(10);
    let share = PERIOD.mul_f64(percent as f64 / 100.0);
    let (mut x, mut due) = (0_u64, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        while begun.elapsed() < share && !stop.load(Ordering::Relaxed) {
            // Long enough to be all computation, short enough (a few µs) to keep its share.
            for _ in 0..5_000 {
                x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        }
        if percent < 100 {
            // By the clock, so that a late wake-up does not lengthen the periods. Time that a busy
            // machine withheld for long is not made up for.
            due = (due + PERIOD).max(begun);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}
