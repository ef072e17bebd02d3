//! Where log lines go and what they look like.
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
        // `target` is what is watched: the module's name would be a second field called so.
        let layer = fmt::layer().json().flatten_event(true).with_target(false);
        registry.with(layer.with_writer(stderr)).init();
    } else {
        let layer = fmt::layer().with_target(false).with_ansi(stderr().is_terminal());
        registry.with(layer.with_writer(stderr)).init();
    }
}
