//! A program that the kernel refuses costs its signal and nothing else: each in turn is spoiled so that
//! every verifier refuses it.
use std::collections::HashMap;

use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, read::elf::ElfFile64,
};
use paramedic_probes::{Kernel, Mechanism, Options, Probe, Signal, Status, verify};

use crate::kernel::{
    counters, eventually,
    patient::{Client, Patient},
    target,
};

/// `r0 = *(u64 *)(r0 + 0)`: nothing has written r0 when a program begins.
const READS_NOTHING: [u8; 8] = [0x79, 0, 0, 0, 0, 0, 0, 0];
/// What verifiers say of it.
const OBJECTION: &str = "R0 !read_ok";

/// The object with another first instruction of one program.
fn spoiled(program: &str) -> Vec<u8> {
    let mut object = paramedic_probes::object().unwrap().to_vec();
    let at = {
        let elf = ElfFile64::<LittleEndian>::parse(object.as_slice()).unwrap();
        let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(program)).unwrap();
        let section = elf.section_by_index(symbol.section_index().unwrap()).unwrap();
        usize::try_from(section.file_range().unwrap().0 + symbol.address()).unwrap()
    };
    object[at..at + READS_NOTHING.len()].copy_from_slice(&READS_NOTHING);
    object
}

/// With the programs of TLS, which are loaded apart from the others and take longest, or without.
fn load(object: &[u8], without: &[Mechanism], tls: bool) -> (Kernel, Vec<Probe>) {
    let options = Options { without: without.to_vec(), ..Options::new(1) };
    let mut kernel = Kernel::load_from(object, &options).unwrap();
    let of_tls = tls.then(|| kernel.probe_tls());
    let probes = kernel.probes().iter().cloned().chain(of_tls).collect();
    (kernel, probes)
}

/// What is said of why the program is not in use.
fn told(probe: &Probe, mechanism: Mechanism) -> Option<&str> {
    let tried = probe.tried.iter().find(|(tried, _)| *tried == mechanism);
    match &probe.status {
        Status::Unavailable { reason } if probe.mechanism == mechanism => Some(reason),
        _ => tried.map(|(_, reason)| reason.as_str()),
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_refused_program_costs_its_signal_and_nothing_else() {
    let programs = verify().unwrap();
    let mut whole: HashMap<_, Vec<Probe>> = HashMap::new();
    for refused in &programs {
        // It is in use where the better mechanisms are not.
        let of_signal = programs.iter().filter(|other| other.signal == refused.signal);
        let better: Vec<_> = of_signal
            .map(|other| other.mechanism)
            .take_while(|mechanism| *mechanism != refused.mechanism)
            .collect();
        let tls = refused.signal == Signal::TlsResponses;
        let before = whole
            .entry((better.clone(), tls))
            .or_insert_with(|| load(paramedic_probes::object().unwrap(), &better, tls).1);
        let (mut kernel, after) = load(&spoiled(refused.program), &better, tls);
        for (before, after) in before.iter().zip(&after) {
            let name = refused.program;
            if before.signal != refused.signal {
                assert_eq!(before, after, "{name} is refused");
            } else if before.mechanism == refused.mechanism && before.is_live() {
                let reason = told(after, refused.mechanism).unwrap_or_default();
                assert!(reason.contains(OBJECTION), "{name}: {after:?}");
                assert!(!after.is_live() || after.mechanism != before.mechanism, "{name}");
            }
        }
        the_others_are_counted(&mut kernel, &after);
    }
}

/// Causes one event of each signal that a connection can cause at once, and compares.
fn the_others_are_counted(kernel: &mut Kernel, probes: &[Probe]) {
    let live = |signal| {
        let live = probes.iter().any(|probe| probe.signal == signal && probe.is_live());
        u64::from(live)
    };
    let expected = [
        live(Signal::HttpResponses),
        live(Signal::HttpRequests),
        live(Signal::TcpResetsReceived),
        live(Signal::TcpResetsSent),
    ];
    let mut patient = Patient::start();
    let address = patient.listen("127.0.0.1:0");
    let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
    let mut client = Client::connect(address);
    assert_eq!(client.get("/200"), 200);
    let counted = counters(kernel, slot);
    assert_eq!([counted.responses[1], counted.requests], expected[..2]);
    client.reset();
    let closed = Client::connect(address).send("GET", "/reset");
    assert!(closed.is_err());
    eventually("a reset each way", || {
        let counted = counters(kernel, slot);
        ([counted.resets_received, counted.resets_sent] == expected[2..]).then_some(())
    });
    kernel.unwatch(slot).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_one_direction_of_http_nothing_seems_to_wait() {
    for program in ["http_egress", "http_ingress"] {
        let (mut kernel, _) = load(&spoiled(program), &[], false);
        assert!(!kernel.sees_both_ways());
        let mut patient = Patient::start();
        let address = patient.listen("127.0.0.1:0");
        let slot = kernel.watch(&target(patient.cgroups(), None)).unwrap();
        // It is the client of itself.
        patient.ask(&format!("get {address} /200 3"));
        let counted = counters(&kernel, slot);
        assert!(counted.upstream_requests <= counted.upstream_responses, "{program}: {counted:?}");
        assert_eq!((counted.dropped, counted.given_up), (0, [0; 8]), "{program}");
    }
}
