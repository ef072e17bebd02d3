//! Output generated from the command line and the registry: shell completions, manual pages, the
//! metrics reference.
use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use paramedic_core::guard::Gate;
use paramedic_record::Metrics;

use super::Cli;

/// Print a script that completes commands and options in a shell.
///
/// For bash: `paramedic completions bash > /etc/bash_completion.d/paramedic`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell to generate the script for.
    shell: Shell,
}

/// Print the manual page, or write one for each command.
///
/// `paramedic man | man -l -` shows it.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for each command into this directory instead.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Print the reference of all metrics (docs/metrics.md).
#[derive(Debug, Args)]
pub(super) struct MetricsReference {}

/// Print the table of gates in docs/operations.md.
#[derive(Debug, Args)]
pub(super) struct GatesReference {}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "paramedic", &mut script);
        print(&script)
    }
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(folder) = self.into {
            clap_mangen::generate_to(Cli::command(), &folder)
                .with_context(|| format!("cannot write into {}", folder.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        print(&page)
    }
}

impl MetricsReference {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        print(Metrics::new(env!("CARGO_PKG_VERSION"))?.reference().as_bytes())
    }
}

impl GatesReference {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        print(Gate::table().as_bytes())
    }
}

/// A reader that closes early, such as `head`, is not a failure.
fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn clap_accepts_the_command_line() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_guide_has_the_table_of_gates() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let (_, rest) = guide.split_once("<!-- gates:begin -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- gates:end -->").unwrap();
        assert_eq!(table, Gate::table(), "`paramedic gates-reference` prints it");
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "paramedic", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in ["watch", "agent", "explain", "top", "check", "incidents"] {
                assert!(script.contains(command), "{shell} does not complete {command}");
            }
        }
    }

    #[test]
    fn man_writes_a_page_for_every_command() {
        let folder = tempfile::tempdir().unwrap();
        Man { into: Some(folder.path().to_path_buf()) }.run().unwrap();
        for page in ["paramedic.1", "paramedic-watch.1", "paramedic-top.1"] {
            let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".SH NAME") && text.contains(".SH OPTIONS"), "{page}");
        }
    }
}
