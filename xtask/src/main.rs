//! Paramedic's tasks: everything that is done to the project rather than by it.
//!
//! One subcommand per file. A task calls the ordinary tools (cargo, rustup, apt-get, …), shows each
//! step by name, and keeps whatever it makes below the target directory: nothing is installed into
//! the system.
use std::process::ExitCode;

use clap::Parser;

mod apt;
mod bench;
mod build_ebpf;
mod demo;
mod docker;
mod dynamic;
mod e2e;
mod ebpf;
mod guide;
mod image;
mod install;
mod lab;
#[cfg(test)]
mod layers;
mod model;
mod process;
mod stage;
mod strangers;
mod test;
mod train;
mod venv;
mod vm;
mod workspace;

/// Paramedic's tasks, from a fresh clone on: `cargo xtask demo` shows what it does, `cargo xtask
/// test` checks everything.
///
/// Each task sets up what it lacks below the target directory (CARGO_TARGET_DIR, else ./target) and
/// installs nothing into the system.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Demo(demo::Args),
    Test(test::Args),
    BuildEbpf(build_ebpf::Args),
    Image(image::Args),
    Lab(lab::Args),
    Strangers(strangers::Args),
    Train(train::Args),
    Bench(bench::Args),
    E2e(e2e::Args),
    Docker(docker::Args),
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let task = Task::parse();
    let done = workspace::Workspace::find().and_then(|workspace| match task {
        Task::Demo(args) => demo::run(&workspace, &args),
        Task::Test(args) => test::run(&workspace, &args),
        Task::BuildEbpf(args) => build_ebpf::run(&workspace, &args),
        Task::Image(args) => image::run(&workspace, &args),
        Task::Lab(args) => lab::run(&workspace, &args),
        Task::Strangers(args) => strangers::run(&workspace, &args),
        Task::Train(args) => train::run(&workspace, &args),
        Task::Bench(args) => bench::run(&workspace, &args),
        Task::E2e(args) => e2e::run(&workspace, &args),
        Task::Docker(args) => docker::run(&workspace, &args),
        Task::Vm(args) => vm::run(&workspace, &args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
