//! Paramedic's build, test, demo and measuring tasks, one file each.
mod train;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Paramedic's build, test, demo and measuring tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Train(train::Train),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Train(task) => task.run(),
    }
}
