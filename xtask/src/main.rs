//! `cargo xtask TASK`.
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    xtask::exit_code(xtask::Task::run(env::args_os()))
}
