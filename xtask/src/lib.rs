//! Paramedic's tasks: building, testing and measuring the project.
//!
//! A task calls the ordinary tools (cargo, rustup, apt-get, …), prints the name of each step, and
//! keeps its files below the target directory. It installs nothing into the system.
//!
//! This crate has the tasks that build: the kernel side, the images, the packages of a release, the model. Tasks that play
//! scenes, measure or test are in the test bed (`testbed/`), a program of its own that uses this
//! library.
use std::process::ExitCode;

pub mod apt;
pub mod arch;
pub mod build_ebpf;
pub mod cross;
mod ebpf;

pub mod image;
pub mod install;
pub mod model;
pub mod process;
pub mod release;
mod task;
mod testbed;
mod train;
pub mod venv;
pub mod workspace;

pub use task::Task;

/// The exit code of a task; its error is printed.
pub fn exit_code(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
