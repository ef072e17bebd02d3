//! Fixtures: a test process in its own cgroups, and the kernel side that watches it.
mod cgroups;
mod http;
mod machine;
mod patient;
mod protocol;
mod refused;
mod resources;
mod slices;
mod sockets;
mod tcp;
mod tls;
mod upstream;
mod wakeups;
mod watching;
mod whole;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use agent_common::Counters;
use paramedic_core::target::{Cgroups, Kind, Remedy, Settings, Target, TargetId};
use paramedic_probes::{Kernel, Mechanism, Options, Slot};

use patient::Patient;

/// Generous: some of these tests run on emulated machines.
const DEADLINE: Duration = Duration::from_secs(20);

fn load(capacity: u32) -> Kernel {
    load_without(capacity, &[])
}

fn load_without(capacity: u32, without: &[Mechanism]) -> Kernel {
    let mut options = Options::new(capacity);
    options.without = without.to_vec();
    Kernel::load(&options)
        .unwrap_or_else(|error| panic!("cannot load the kernel side: {error}: {error:?}"))
}

fn target(cgroups: Cgroups, port: Option<u16>) -> Target {
    Target {
        id: TargetId { uid: "test".into(), instance: "1".into() },
        name: "test".into(),
        kind: Kind::Process,
        settings: Settings::up_to(Remedy::Observe),
        address: None,
        host: String::new(),
        tls: false,
        cgroups,
        port,
        started: paramedic_host::clock::now(),
        main: None,
        version: None,
        no_restart: None,
        no_evict: None,
    }
}

/// The kernel side, watching one process that serves at an address.
fn one_patient(listen: &str) -> (Kernel, Patient, SocketAddr, Slot) {
    let mut kernel = load(2);
    let mut patient = Patient::start();
    let address = patient.listen(listen);
    let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    (kernel, patient, address, slot)
}

fn counters(kernel: &Kernel, slot: Slot) -> Counters {
    kernel.counters(slot).unwrap().0
}

/// Repeats until the kernel has done what it does asynchronously.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
