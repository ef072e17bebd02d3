//! `cargo xtask demo`, without the other tasks: what somebody tries first compiles as little as
//! possible. The package's other program has all tasks.
use std::process::ExitCode;

use clap::Parser;
use xtask::workspace::Workspace;

#[expect(dead_code, reason = "the other tasks play the scenes on other machines")]
mod demo;
#[expect(dead_code, reason = "the other tasks have more on stage")]
mod stage;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let Task::Demo(args) = Task::parse();
    xtask::exit_code(Workspace::find().and_then(|workspace| demo::run(&workspace, &args)))
}
