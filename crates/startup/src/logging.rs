//! Log format and destination.
use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let json = match format {
        Format::Auto => !stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        // Log lines have a field `target`, which is the watched target. The module's name would be
        // a second one.
        let layer = fmt::layer().json().flatten_event(true).with_target(false);
        registry.with(layer.with_writer(stderr)).init();
    } else {
        let layer = fmt::layer().with_target(false).with_ansi(stderr().is_terminal());
        registry.with(layer.with_writer(stderr)).init();
    }
}
