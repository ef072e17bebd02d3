//! `--record`: records a trace for `paramedic replay`.
use std::path::PathBuf;

use clap::Args;
use paramedic_record::trace::Place;

use paramedic_startup::Mistakes;

/// Options for recording, shared by the commands that watch.
#[derive(Clone, Debug, Args)]
pub(super) struct Record {
    /// Record raw counts, polls and readings into this directory, for `paramedic replay`. Recording
    /// never delays the agent.
    #[arg(long = "record", value_name = "DIR", env = "PARAMEDIC_RECORD")]
    directory: Option<PathBuf>,
    /// Maximum size of the recordings in that directory, in MiB. The agent deletes the oldest.
    #[arg(
        long = "record-limit",
        value_name = "MIB",
        env = "PARAMEDIC_RECORD_LIMIT",
        default_value_t = 64
    )]
    limit_mib: u64,
}

impl Record {
    /// Validates the options.
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if !(1..=1_048_576).contains(&self.limit_mib) {
            let given = self.limit_mib;
            mistakes.add(format!("--record-limit must be from 1 to 1048576 MiB, not {given}"));
        }
    }

    /// The directory and limit, if recording is on.
    pub(super) fn place(&self) -> Option<Place> {
        let limit = self.limit_mib.saturating_mul(1 << 20);
        self.directory.clone().map(|directory| Place { directory, limit })
    }
}
