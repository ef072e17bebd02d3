//! The test bed: the tasks of `cargo xtask` that play, measure and test. `cargo xtask` starts this
//! program for them and passes on what was typed.
//!
//! Each task is a module. It keeps whatever it makes below the target directory, and installs nothing
//! into the system.
use std::process::ExitCode;

use clap::Parser;
use xtask::workspace::Workspace;

mod bench;
mod cluster;
mod demo;
mod docker;
mod docs;
mod dynamic;
mod e2e;
mod field;
mod guide;
mod lab;
mod stage;
mod strangers;
mod test;
mod truth;
mod vm;

/// The tasks of the test bed; `cargo xtask --help` lists them among the others.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Demo(demo::Args),
    Test(test::Args),
    Lab(lab::Args),
    Strangers(strangers::Args),
    Truth(truth::Args),
    Bench(bench::Args),
    E2e(e2e::Args),
    Cluster(cluster::Args),
    Docker(docker::Args),
    Vm(vm::Args),
    Docs(docs::Args),
    /// For `cargo xtask train`.
    #[command(hide = true)]
    Field(field::Args),
}

fn main() -> ExitCode {
    let task = Task::parse();
    xtask::exit_code(Workspace::find().and_then(|workspace| match task {
        Task::Demo(args) => demo::run(&workspace, &args),
        Task::Test(args) => test::run(&workspace, &args),
        Task::Lab(args) => lab::run(&workspace, &args),
        Task::Strangers(args) => strangers::run(&workspace, &args),
        Task::Truth(args) => truth::run(&workspace, &args),
        Task::Bench(args) => bench::run(&workspace, &args),
        Task::E2e(args) => e2e::run(&workspace, &args),
        Task::Cluster(args) => cluster::run(&workspace, &args),
        Task::Docker(args) => docker::run(&workspace, &args),
        Task::Vm(args) => vm::run(&workspace, &args),
        Task::Docs(args) => docs::run(&workspace, &args),
        Task::Field(args) => field::run(&workspace, &args),
    }))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_list_of_tasks_says_of_each_what_it_says_itself() {
        let listed = xtask::Task::command();
        let about = |task: &clap::Command| task.get_about().map(ToString::to_string);
        for task in Task::command().get_subcommands().filter(|task| !task.is_hide_set()) {
            let name = task.get_name();
            let same = listed.find_subcommand(name).unwrap();
            assert_eq!(about(same), about(task), "{name}");
        }
    }
}
