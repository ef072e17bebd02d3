//! `--evidence`: whether to keep evidence before a hard remedy.
use clap::{Args, ValueEnum};

/// The option, shared by the commands that watch.
#[derive(Clone, Debug, Args)]
pub(super) struct Evidence {
    /// Evidence before each restart or eviction: threads, sockets, descriptors, cgroup files and the
    /// end of the log, in at most 1 s and 1 MiB. It stays in the state directory, readable by its
    /// owner alone. `paramedic incidents --evidence N` prints it.
    #[arg(
        long = "evidence",
        env = "PARAMEDIC_EVIDENCE",
        value_enum,
        default_value_t,
        value_name = "WHETHER"
    )]
    whether: Whether,
}

/// Whether evidence is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Whether {
    /// Collect and keep it
    #[default]
    On,
    /// Collect nothing
    Off,
}

impl Evidence {
    /// Whether to keep evidence.
    pub(super) fn is_on(&self) -> bool {
        self.whether == Whether::On
    }
}
