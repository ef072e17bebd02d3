//! The cgroup hierarchies, as hosts of three kinds have them, and a cgroup for the steps to be in:
//! the root's is none of the kind that a service has.
use std::{fs, io, path::Path};

use crate::{
    machine::{mount, unmount},
    plan::Layout,
    report::Report,
};

const TOP: &str = "/sys/fs/cgroup";
const STEPS: &str = "steps";
/// Controllers, and a file that a v1 hierarchy has wherever its controller works.
const V1: [(&str, &str); 3] = [
    ("cpu,cpuacct", "cpuacct.usage"),
    ("memory", "memory.usage_in_bytes"),
    ("pids", "cgroup.procs"),
];
const V2: [&str; 3] = ["cpu", "memory", "pids"];

/// Mounts everything, says what is where (`@v1` and `@v2`, the controllers behind them), and goes
/// into the steps' cgroup.
pub(crate) fn lay_out(layout: Layout, report: &Report) -> io::Result<()> {
    match layout {
        Layout::V2 => unified(TOP, report),
        Layout::V1 => v1(report),
        Layout::Hybrid => {
            v1(report)?;
            unified(&format!("{TOP}/unified"), report)
        }
    }
}

fn unified(at: &str, report: &Report) -> io::Result<()> {
    mount("cgroup2", at, "nsdelegate")?;
    let control = Path::new(at).join("cgroup.subtree_control");
    // What v1 has is not on offer.
    let on = V2.into_iter().filter(|name| fs::write(&control, format!("+{name}")).is_ok());
    let on: Vec<&str> = on.collect();
    report.say(&format!("@v2\t{}", on.join(",")));
    enter(Path::new(at))
}

fn v1(report: &Report) -> io::Result<()> {
    mount("tmpfs", TOP, "mode=755")?;
    let mut mounted = Vec::new();
    for (controllers, proof) in V1 {
        let at = format!("{TOP}/{controllers}");
        // Kernels are built without v1's part of a controller: it is left to cgroup2.
        if mount("cgroup", &at, controllers).is_err() {
            fs::remove_dir(&at)?;
        } else if Path::new(&at).join(proof).exists() {
            mounted.push(controllers);
            enter(Path::new(&at))?;
        } else {
            unmount(&at)?;
            fs::remove_dir(&at)?;
        }
    }
    report.say(&format!("@v1\t{}", mounted.join(",")));
    Ok(())
}

fn enter(hierarchy: &Path) -> io::Result<()> {
    let steps = hierarchy.join(STEPS);
    fs::create_dir(&steps)?;
    fs::write(steps.join("cgroup.procs"), "0")
}
