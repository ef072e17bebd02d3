//! Tests that need a cgroup v2 with every controller: one directory with limits of CPU and memory,
//! whose programs, files and events must agree.
use std::os::unix::process::ExitStatusExt;

use crate::kernel::{cgroups::TestCgroups, counters, eventually, load, patient::Patient, target};
use paramedic_host::cgroup_files::CgroupFiles;
use paramedic_probes::{Kernel, Signal};

fn is_live(kernel: &Kernel, signal: Signal) -> bool {
    kernel.probes().iter().any(|probe| probe.signal == signal && probe.is_live())
}

fn in_slice(name: &str) -> Patient {
    let top = format!("paramedic-test-{}-whole.slice", std::process::id());
    let home = TestCgroups::nested(&[&top, "pod.slice"], name);
    assert!(home.is_whole(), "cgroup2 does not have every controller here");
    Patient::start_in(home)
}

#[test]
#[ignore = "takes a cgroup2 with every controller: cargo xtask vm"]
fn limits_throttling_and_oom_kills_of_one_directory() {
    let mut kernel = load(1);
    assert!(is_live(&kernel, Signal::CpuThrottling));
    let mut patient = in_slice("container.scope");
    patient.home.limit_cpu(10_000, 50_000);
    patient.home.limit_memory(48 << 20);
    let cgroups = patient.cgroups();
    let files = CgroupFiles::open(&cgroups).unwrap();
    let slot = kernel.watch(&target(cgroups, None)).unwrap();
    let limits = files.read().unwrap();
    assert_eq!((limits.cpu_limit, limits.memory_limit_bytes), (Some(0.2), Some(48 << 20)));

    patient.ask("burn 400");
    eventually("program and file agree", || {
        let seen = kernel.counters(slot).unwrap().1?;
        (seen.periods > 0 && files.read().unwrap().throttled_periods == Some(seen.periods))
            .then_some(())
    });
    patient.home.limit_cpu(100_000, 100_000);
    patient.tell("eat 256");
    assert_eq!(patient.wait().signal(), Some(9));
    eventually("the file's count", || (files.read().unwrap().oom_kills == Some(1)).then_some(()));
    if is_live(&kernel, Signal::OomKills) {
        eventually("the program's count", || {
            (counters(&kernel, slot).oom_kills == 1).then_some(())
        });
    }
}

#[test]
#[ignore = "takes a cgroup2 with every controller: cargo xtask vm"]
fn a_neighbour_in_the_same_slice_is_not_counted() {
    let mut kernel = load(1);
    let watched = in_slice("watched.scope");
    let slot = kernel.watch(&target(watched.cgroups(), None)).unwrap();
    let files = CgroupFiles::open(&watched.cgroups()).unwrap();
    let mut neighbour = in_slice("neighbour.scope");
    neighbour.home.limit_cpu(10_000, 50_000);
    neighbour.home.limit_memory(48 << 20);
    neighbour.ask("burn 300");
    eventually("throttling", || (neighbour.home.cpu_stat().0 > 0).then_some(()));
    neighbour.home.limit_cpu(100_000, 100_000);
    neighbour.tell("eat 256");
    assert_eq!(neighbour.wait().signal(), Some(9));
    assert_eq!(kernel.counters(slot).unwrap().1, None);
    assert_eq!(counters(&kernel, slot).oom_kills, 0);
    let reading = files.read().unwrap();
    assert_eq!((reading.throttled_periods, reading.oom_kills), (Some(0), Some(0)));
}
