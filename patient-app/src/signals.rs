//! The signals that stop the process, and the one that reloads it.
use std::io;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::access_log::announce;
use crate::clock::boot_nanos;

/// SIGTERM, SIGINT and SIGHUP, caught from now on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches the signals; within a Tokio runtime with I/O.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Calls `reload` at each SIGHUP from now on, until the process ends.
    pub fn on_hangup(self, mut reload: impl FnMut() + Send + 'static) -> Stop {
        let Self { terminate, interrupt, mut hangup } = self;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                announce(&json!({ "event": "sighup", "at_boot_ns": boot_nanos() }));
                reload();
            }
        });
        Stop { terminate, interrupt }
    }
}

/// The signals that stop the process.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Returns on the first signal, after printing a line with its time in nanoseconds since boot.
    /// The second one ends the process at once, with 128 + its number, as in a shell.
    pub async fn requested(mut self) {
        self.next().await;
        tokio::spawn(async move {
            let kind = self.next().await;
            std::process::exit(128 + kind.as_raw_value());
        });
    }

    async fn next(&mut self) -> SignalKind {
        let (kind, event) = tokio::select! {
            _ = self.terminate.recv() => (SignalKind::terminate(), "sigterm"),
            _ = self.interrupt.recv() => (SignalKind::interrupt(), "sigint"),
        };
        announce(&json!({ "event": event, "at_boot_ns": boot_nanos() }));
        kind
    }
}
