//! The first process in the virtual machines of `cargo xtask vm`: makes a small machine out of a
//! bare kernel, runs what `/plan` says, and ends the machine with the result as its exit code.
//!
//! What it has to say goes to the second serial port, the steps' output among it; its own lines
//! begin with `@`. The first port belongs to the kernel. Whatever goes wrong here ends the machine
//! without the code of success: a machine that says nothing has failed.
mod cgroups;
mod machine;
mod plan;
mod report;
mod step;

use std::{fs, io, process::ExitCode};

use plan::{Action, Plan};
use report::Report;

fn main() -> ExitCode {
    // Outside a machine of its own this would remount the caller's file systems.
    if std::process::id() != 1 {
        eprintln!("vm-init is the first process of a virtual machine: see `cargo xtask vm`");
        return ExitCode::FAILURE;
    }
    if let Err(error) = machine::mount_devices() {
        eprintln!("cannot mount /dev: {error}");
        machine::end(false);
    }
    let passed = match Report::open() {
        Ok(report) => match all(&report) {
            Ok(passed) => {
                report.say(if passed { "@passed" } else { "@failed" });
                passed
            }
            Err(error) => {
                report.say(&format!("@broken {error}"));
                false
            }
        },
        Err(error) => {
            eprintln!("no second serial port: {error}");
            false
        }
    };
    machine::end(passed)
}

/// Whether every step succeeded.
fn all(report: &Report) -> io::Result<bool> {
    machine::mount_all()?;
    let text = fs::read_to_string("/plan")?;
    let plan = Plan::parse(&text).map_err(|line| io::Error::other(format!("/plan: {line}")))?;
    cgroups::lay_out(plan.layout, report)?;
    machine::loopback_up()?;
    report.say(&format!("@kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()));
    let mut passed = true;
    for action in &plan.actions {
        match action {
            Action::Hide(directory) => machine::hide(directory)?,
            Action::Run(step) => passed &= step::run(step, report)?,
        }
    }
    Ok(passed)
}
