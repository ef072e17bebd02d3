//! The list of tasks, and the program of each.
use std::ffi::OsString;

use anyhow::Result;
use clap::Parser;

use crate::{build_ebpf, image, release, testbed, train, workspace::Workspace};

/// Paramedic's tasks, from a fresh clone on: `cargo xtask demo` shows what it does, `cargo xtask
/// test` checks everything.
///
/// Each task sets up what it lacks below the target directory (CARGO_TARGET_DIR, else ./target) and
/// installs nothing into the system.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
#[expect(missing_docs, reason = "a variant's comment is its help")]
pub enum Task {
    /// Play the demo: faults on the real kernel, and what Paramedic does about them
    Demo(Passed),
    #[command(verbatim_doc_comment)]
    /// Check everything: formatting, lints, dependencies, and every test with real eBPF.
    Test(Passed),
    BuildEbpf(build_ebpf::Args),
    Image(image::Args),
    Release(release::Args),
    /// The fault lab: inject faults into patient-app, record what the agent sees, measure what
    /// helps
    Lab(Passed),
    /// Run third-party services with ordinary faults, and judge what the agent does
    Strangers(Passed),
    /// Compare the kernel's counts with what clients of third-party servers were given
    Truth(Passed),
    Train(train::Args),
    /// Measure: the forest against tract, the packet programs, wake-ups, from fault to heal (with one
    /// target, and among 110 and 500), what the agent costs at 1, 110 and 500 targets, a node and the
    /// API server at 110 and 500 pods, and the servers that it watches, and what the metrics API costs
    /// with 5,000 and 30,000 pods
    Bench(Passed),
    #[command(verbatim_doc_comment)]
    /// Test Paramedic on the cluster that kubectl is set up for (KUBECONFIG).
    E2e(Passed),
    #[command(verbatim_doc_comment)]
    /// Run a real Kubernetes with two nodes on this machine, for `cargo xtask e2e`.
    Cluster(Passed),
    #[command(verbatim_doc_comment)]
    /// Test the images, Docker mode and compose.yaml on a real Docker engine.
    Docker(Passed),
    /// Run the privileged tests and the demo's scenes in virtual machines with other kernels
    Vm(Passed),
    /// Make the documentation a site, and check its links
    Docs(Passed),
}

/// The arguments of a task of the test bed, which parses them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<OsString>,
}

impl Task {
    /// Runs the task that a command line names. The first word is this program.
    pub fn run(words: impl IntoIterator<Item = OsString>) -> Result<()> {
        let words = of_task(words.into_iter().collect());
        let task = Self::parse_from(&words);
        let workspace = Workspace::find()?;
        match task {
            Self::BuildEbpf(args) => build_ebpf::run(&workspace, &args),
            Self::Image(args) => image::run(&workspace, &args),
            Self::Release(args) => release::run(&workspace, &args),
            Self::Train(args) => train::run(&workspace, &args),
            Self::Demo(_)
            | Self::Test(_)
            | Self::Lab(_)
            | Self::Strangers(_)
            | Self::Truth(_)
            | Self::Bench(_)
            | Self::E2e(_)
            | Self::Cluster(_)
            | Self::Docker(_)
            | Self::Vm(_)
            | Self::Docs(_) => testbed::become_it(&workspace, &words[1..]),
        }
    }
}

/// Turns `help TASK` into `TASK --help`, since a task of the test bed has its help there.
fn of_task(mut words: Vec<OsString>) -> Vec<OsString> {
    if let [_, help, task] = words.as_mut_slice()
        && help == "help"
        && task != "help"
    {
        *help = std::mem::replace(task, "--help".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_test_bed_reads_its_own_words() {
        for line in ["xtask docker --help", "xtask vm -- soft", "xtask test --only fmt -h"] {
            let task = Task::try_parse_from(words(line));
            assert!(matches!(task, Ok(Task::Docker(_) | Task::Vm(_) | Task::Test(_))), "{line}");
        }
        assert!(Task::try_parse_from(words("xtask dmeo")).is_err());
        assert!(Task::try_parse_from(words("xtask build-ebpf --only fmt")).is_err());
    }

    #[test]
    fn help_of_a_task_is_the_tasks_own() {
        assert_eq!(of_task(words("xtask help lab")), words("xtask lab --help"));
        for same in ["xtask help", "xtask help help", "xtask lab -h", "xtask"] {
            assert_eq!(of_task(words(same)), words(same));
        }
    }
}
