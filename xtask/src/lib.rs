//! Paramedic's tasks: everything that is done to the project rather than by it.
//!
//! A task calls the ordinary tools (cargo, rustup, apt-get, …), shows each step by name, and keeps
//! whatever it makes below the target directory: nothing is installed into the system.
//!
//! Here are the tasks that build: the kernel side, the images, the model. Whatever plays, measures or
//! tests belongs to the test bed (`testbed/`), which is a program of its own and uses the same parts.
use std::process::ExitCode;

pub mod apt;
pub mod build_ebpf;
mod ebpf;

pub mod image;
pub mod install;
pub mod model;
pub mod process;
mod task;
mod testbed;
mod train;
pub mod venv;
pub mod workspace;

pub use task::Task;

/// The exit code of a task; its error goes to the terminal.
pub fn exit_code(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
