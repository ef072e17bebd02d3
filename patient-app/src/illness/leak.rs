//! The illness `leak`: allocates and touches memory at a given rate up to a given size.
//!
//! The whole size is reserved at once as a separate mapping, which costs nothing until touched and
//! returns to the system at the end; growth piece by piece on the heap would not.
use std::collections::TryReserveError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::parameters::Leak;
use super::registry::StartError;

const MIB: usize = 1 << 20;

/// From this size on, glibc's malloc always creates a mapping (its threshold grows to 32 MiB).
const ALWAYS_MAPPED: usize = 64 * MIB;

/// Bytes touched between two checks whether to stop.
const STEP: usize = 4 * MIB;

const PAUSE: Duration = Duration::from_millis(50);

/// Growing memory; all of it is released when this is dropped.
#[derive(Debug)]
pub(crate) struct Leaking {
    held: Arc<AtomicUsize>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Leaking {
    /// Starts to grow.
    ///
    /// # Errors
    /// If the address space or a thread is not available.
    pub(crate) fn start(parameters: Leak) -> Result<Self, StartError> {
        let max = usize::try_from(parameters.max_mib.get()).unwrap_or(usize::MAX / MIB) * MIB;
        let bytes_per_second = parameters.mib_per_second.get() as f64 * MIB as f64;
        let hoard = reserve(max)?;
        let held = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = mpsc::channel();
        let shared = Arc::clone(&held);
        let thread = thread::Builder::new()
            .name("leak".into())
            .spawn(move || grow(hoard, max, bytes_per_second, &stopped, &shared))?;
        Ok(Self { held, stop: Some(stop), thread: Some(thread) })
    }

    /// MiB touched so far.
    pub(crate) fn held_mib(&self) -> usize {
        self.held.load(Ordering::Relaxed) / MIB
    }
}

impl Drop for Leaking {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn reserve(max: usize) -> Result<Vec<u8>, TryReserveError> {
    let mut hoard = Vec::new();
    hoard.try_reserve_exact(max.max(ALWAYS_MAPPED))?;
    Ok(hoard)
}

/// Grows `hoard` within its reservation, so that it never moves, until the channel closes.
fn grow(
    mut hoard: Vec<u8>,
    max: usize,
    bytes_per_second: f64,
    stopped: &Receiver<()>,
    held: &AtomicUsize,
) {
    let started = Instant::now();
    while hoard.len() < max {
        let due = (started.elapsed().as_secs_f64() * bytes_per_second) as usize;
        let target = due.min(max).min(hoard.len() + STEP);
        hoard.resize(target.max(hoard.len()), 1);
        held.store(hoard.len(), Ordering::Relaxed);
        let pause = if hoard.len() < due { Duration::ZERO } else { PAUSE };
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
    // Full: hold it until the other end is dropped.
    let _ = stopped.recv();
}
