//! Paramedic's tasks: everything that is done to the project rather than by it.
//!
//! One subcommand per file. A task calls the ordinary tools (cargo, rustup, apt-get, …), shows each
//! step by name, and keeps whatever it makes below the target directory: nothing is installed into
//! the system.
use anyhow::Result;
use clap::Parser;

mod build_ebpf;
mod ebpf;
mod install;
mod process;
mod test;
mod workspace;

/// Paramedic's tasks, from a fresh clone on: `cargo xtask test` checks everything.
///
/// Each task sets up what it lacks below the target directory (CARGO_TARGET_DIR, else ./target) and
/// installs nothing into the system.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    BuildEbpf(build_ebpf::Args),
    Test(test::Args),
}

fn main() -> Result<()> {
    let workspace = workspace::Workspace::find()?;
    match Task::parse() {
        Task::BuildEbpf(args) => build_ebpf::run(&workspace, &args),
        Task::Test(args) => test::run(&workspace, &args),
    }
}
