//! Containers in cgroups as a kubelet creates them: found by their id, then watched.
use std::process;

use crate::kernel::{
    cgroups::TestCgroups,
    counters, eventually, load,
    patient::{Client, Patient},
    target,
};
use paramedic_host::{container::Containers, procfs::Tree};
use paramedic_probes::Signal;

/// Ids of this run: 64 hexadecimal digits.
fn id(number: u32) -> String {
    format!("{:032x}{number:032x}", process::id())
}

fn is_found_and_watched(slices: &[&str], [container, sandbox]: [&str; 2], id: &str) {
    // Leftovers of other runs do not conflict.
    let top = format!("paramedic-test-{}-{}", process::id(), slices[0]);
    let slices = [&[top.as_str()], &slices[1..]].concat();
    let _pause = Patient::start_in(TestCgroups::nested(&slices, sandbox));
    let mut patient = Patient::start_in(TestCgroups::nested(&slices, container));
    let address = patient.listen("127.0.0.1:0");

    let found = Containers::default().find(&Tree::default(), id).unwrap();
    assert_eq!(found.main.pid.cast_unsigned(), patient.pid());
    assert_eq!(found.cgroups.unified, patient.cgroups().unified);
    assert_eq!(found.cgroups.cpu, patient.cgroups().cpu);
    assert_eq!(found.cgroups.memory, patient.cgroups().memory);

    let mut kernel = load(1);
    let slot = kernel.watch(&target(found.cgroups, None)).unwrap();
    Client::connect(address).get("/503");
    assert_eq!(counters(&kernel, slot).responses, [0, 0, 0, 0, 1]);
    let throttling =
        kernel.probes().iter().find(|probe| probe.signal == Signal::CpuThrottling).unwrap();
    assert!(throttling.is_live(), "{throttling:?}");
    patient.home.limit_cpu(10_000, 50_000);
    patient.ask("burn 300");
    eventually("throttling", || kernel.counters(slot).unwrap().1.filter(|seen| seen.periods > 0));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_container_in_systemds_slices_is_found_and_watched() {
    let slices = [
        "kubepods.slice",
        "kubepods-burstable.slice",
        "kubepods-burstable-pod0c1d2e3f_4a5b_6c7d_8e9f_a0b1c2d3e4f5.slice",
    ];
    let (id, other) = (id(1), id(2));
    let names = [format!("cri-containerd-{id}.scope"), format!("cri-containerd-{other}.scope")];
    is_found_and_watched(&slices, [&names[0], &names[1]], &id);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_container_in_the_kubelets_own_directories_is_found_and_watched() {
    let directories = ["kubepods", "besteffort", "pod0c1d2e3f-4a5b-6c7d-8e9f-a0b1c2d3e4f5"];
    let (id, other) = (id(3), id(4));
    is_found_and_watched(&directories, [&id, &other], &id);
}
