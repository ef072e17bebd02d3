//! The state of the running app: its counters, illnesses and vital signs.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::clock::boot_nanos;
use crate::config::Config;
use crate::dice::Dice;
use crate::health::Health;
use crate::illness::{Illness, Ratio, Registry, StartError};
use crate::vitals::{Monitor, Vitals};

/// The app's state, shared by all connections.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) illnesses: Registry,
    pub(crate) dice: Dice,
    /// Share of `/data` that fails without an illness.
    pub(crate) data_failure_ratio: Ratio,
    /// CPU time of one `/data`.
    pub(crate) work: Duration,
    /// The backend.
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) tally: Tally,
    pub(crate) started_at_boot_ns: u64,
    started: Instant,
    monitor: Monitor,
}

impl App {
    /// A new app with the illnesses of the configuration.
    ///
    /// # Errors
    /// If the threads or the memory of an illness are not available.
    pub(crate) fn new(config: &Config) -> Result<Self, (Illness, StartError)> {
        let app = Self {
            illnesses: Registry::default(),
            dice: Dice::new(config.seed),
            data_failure_ratio: config.data_failure_ratio,
            work: config.work(),
            upstream: config.upstream,
            tally: Tally::default(),
            started_at_boot_ns: boot_nanos(),
            started: Instant::now(),
            monitor: Monitor::new(Path::new("/")),
        };
        for illness in &config.illness {
            app.illnesses.start(*illness).map_err(|error| (*illness, error))?;
        }
        Ok(app)
    }

    /// How long it has run.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The app's true health, and the measurement behind it.
    pub(crate) fn health(&self) -> (Health, Vitals) {
        let vitals = self.monitor.vitals(Instant::now());
        let errors = self.tally.errors_since_reset.get();
        (Health::measured(&vitals, errors, self.started.elapsed()), vitals)
    }

    /// The report of `/health`: the true one, or that of the illness `lie`.
    pub(crate) fn told_health(&self) -> Health {
        match self.illnesses.snapshot().lie() {
            Some(lie) => Health::invented(lie.disguise, self.started.elapsed()),
            None => self.health().0,
        }
    }

    /// Handles a soft remedy; returns the errors counted before it.
    pub(crate) fn take_soft_heal(&self) -> u64 {
        self.tally.heals.add();
        if self.illnesses.take_soft_heal() {
            self.tally.errors_since_reset.0.swap(0, Ordering::Relaxed)
        } else {
            self.tally.errors_since_reset.get()
        }
    }
}

/// An atomic counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The time of the last event of a kind, in nanoseconds since boot.
#[derive(Debug, Default)]
pub(crate) struct Stamp(AtomicU64);

impl Stamp {
    pub(crate) fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::Relaxed);
    }

    /// `None` if it never happened.
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0)
    }
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) errors_since_reset: Counter,
    pub(crate) errors: Counter,
    pub(crate) heals: Counter,
    pub(crate) resets: Counter,
    pub(crate) last_error: Stamp,
    pub(crate) last_heal: Stamp,
    /// Responses by class: 1xx to 5xx.
    responses: [Counter; 5],
}

impl Tally {
    /// Counts one error of the app; returns the errors since the last reset.
    pub(crate) fn error(&self) -> u64 {
        self.errors.add();
        self.last_error.set(boot_nanos());
        self.errors_since_reset.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.responses.get(class) {
            counter.add();
        }
    }

    /// Responses by class: `1xx` to `5xx`.
    pub(crate) fn responses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(self.responses.iter().map(Counter::get))
    }
}
