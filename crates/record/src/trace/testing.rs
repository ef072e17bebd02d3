//! Fixture for tests: the header of a trace.
use paramedic_core::target::Remedy;

use super::{Header, VERSION};

/// The header of a trace by an agent with default settings.
#[must_use]
pub fn header() -> Header {
    Header {
        paramedic_trace: VERSION,
        agent: "0.0.0".to_owned(),
        run: "boot/1".to_owned(),
        part: 0,
        boot_ns: 1_000,
        unix_s: 1_800_000_000,
        max_remedy: Remedy::Restart,
        dry_run: false,
        rules_may_restart: false,
        node_budget: 2,
        tick_ns: 2_000_000_000,
        patience_ns: Some(10_000_000_000),
        warm_up_ns: None,
        verify_window_ns: 15_000_000_000,
        model: Some("5e6e".to_owned()),
    }
}
