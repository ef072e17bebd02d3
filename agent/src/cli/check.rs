//! `paramedic check`: what this machine's kernel permits.
use std::process::ExitCode;

use clap::Args;
use paramedic_host::{
    procfs::Tree,
    witnesses::{Source, sources},
};
use paramedic_probes::{
    Capabilities, Capability, Kernel, Mechanism, Options, Probe, Signal, Status, Verdict, verify,
};
use serde_json::{Value, json};

/// Load and attach every kernel probe, print which work and by which mechanism, and detach them.
///
/// Also lists what else can be read of a target before a remedy; what is missing there costs no more
/// than itself.
///
/// Exit code 1 if a kernel signal is unavailable (except for that of TLS, to which targets opt in),
/// a required capability is missing, or no cgroup2
/// hierarchy is mounted to attach programs to.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Also load every program, including those that stand in for others, and print what the
    /// kernel's verifier says of each.
    #[arg(long)]
    programs: bool,
    /// Do not use this mechanism, as on a kernel that refuses it; repeatable.
    #[arg(long, value_name = "MECHANISM", value_parser = mechanism)]
    without: Vec<Mechanism>,
}

fn mechanism(name: &str) -> Result<Mechanism, String> {
    let found = Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name);
    found.ok_or_else(|| {
        format!("the mechanisms are: {}", Mechanism::ALL.map(Mechanism::name).join(", "))
    })
}

const NO_CGROUP2: &str = "no cgroup2 is mounted, so eBPF programs cannot be attached to targets: the \
                          agent watches them through /health and their cgroup files alone. Mount it \
                          beside the v1 hierarchies: `mount -t cgroup2 none /sys/fs/cgroup/unified`";

impl Check {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let held = Capabilities::read();
        let options = Options { without: self.without, ..Options::new(1) };
        let loaded = Kernel::load(&options).map_err(anyhow::Error::from);
        let (probes, error) = match loaded {
            Ok(mut kernel) => {
                let of_tls = kernel.probe_tls();
                let probes: Vec<_> = kernel.probes().iter().cloned().chain([of_tls]).collect();
                (probes, None)
            }
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        // After the kernel side was dropped: a program is not loaded twice at once.
        let programs = if self.programs && error.is_none() { verify()? } else { Vec::new() };
        let witnesses = sources(&Tree::default());
        let cgroup2 = Tree::default().hierarchies().is_ok_and(|found| found.unified.is_some());
        // Only targets that opt in need TLS.
        let needed = |probe: &&Probe| probe.signal != Signal::TlsResponses;
        let complete = error.is_none()
            && cgroup2
            && probes.iter().filter(needed).all(|probe| reason(probe).is_none());
        if self.json {
            let capabilities: serde_json::Map<String, Value> = Capability::ALL
                .iter()
                .map(|c| (c.name().to_owned(), Value::Bool(held.has(*c))))
                .collect();
            println!(
                "{}",
                json!({
                    "ok": complete,
                    "error": error,
                    "cgroup2": cgroup2,
                    "capabilities": capabilities,
                    "probes": probes.iter().map(probe_json).collect::<Vec<_>>(),
                    "programs": programs.iter().map(program_json).collect::<Vec<_>>(),
                    "witnesses": witnesses.iter().map(source_json).collect::<Vec<_>>(),
                })
            );
        } else {
            print_table(&probes, held, &witnesses);
            print_programs(&programs);
            let missing = (!cgroup2).then(|| NO_CGROUP2.to_owned());
            for what in error.into_iter().chain(missing) {
                println!("\n{what}");
            }
        }
        Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print_table(probes: &[Probe], held: Capabilities, witnesses: &[Source]) {
    println!("{:<22} {:<12} {:<12} remarks", "signal", "mechanism", "status");
    for probe in probes {
        println!(
            "{:<22} {:<12} {:<12} {}",
            probe.signal.name(),
            probe.mechanism.name(),
            probe.status.name(),
            remarks(probe)
        );
    }
    println!("\n{:<22} {:<24} {:<12} remarks", "before a remedy", "read from", "status");
    for Source { name, from, missing } in witnesses {
        let status = if missing.is_none() { "readable" } else { "unavailable" };
        println!("{name:<22} {from:<24} {status:<12} {}", missing.as_deref().unwrap_or_default());
    }
    println!("\n{:<22} {:<12} needed", "capability", "held");
    for capability in Capability::ALL {
        println!(
            "{:<22} {:<12} {}",
            capability.name(),
            if held.has(capability) { "yes" } else { "no" },
            if capability.is_required() { "for any kernel signal" } else { "for some mechanisms" },
        );
    }
}

fn print_programs(programs: &[Verdict]) {
    if programs.is_empty() {
        return;
    }
    println!("\n{:<22} {:<12} {:<12} {:<12} remarks", "program", "mechanism", "instructions", "ms");
    for Verdict { program, mechanism, result, .. } in programs {
        let (instructions, time, remark) = match result {
            Ok(accepted) => (
                accepted.instructions.map_or_else(|| "?".to_owned(), |count| count.to_string()),
                accepted.time.as_millis().to_string(),
                "",
            ),
            Err(reason) => ("-".to_owned(), "-".to_owned(), reason.as_str()),
        };
        let mechanism = mechanism.name();
        println!("{program:<22} {mechanism:<12} {instructions:<12} {time:<12} {remark}");
    }
}

fn program_json(verdict: &Verdict) -> Value {
    let accepted = verdict.result.as_ref().ok();
    json!({
        "program": verdict.program,
        "signal": verdict.signal.name(),
        "mechanism": verdict.mechanism.name(),
        "instructions": accepted.and_then(|accepted| accepted.instructions),
        "milliseconds": accepted.map(|accepted| accepted.time.as_millis()),
        "reason": verdict.result.as_ref().err(),
    })
}

fn reason(probe: &Probe) -> Option<&str> {
    match &probe.status {
        Status::Unavailable { reason } => Some(reason),
        _ => None,
    }
}

fn remarks(probe: &Probe) -> String {
    let tried = probe.tried.iter().map(|(mechanism, why)| format!("{}: {why}", mechanism.name()));
    reason(probe).map(str::to_owned).into_iter().chain(tried).collect::<Vec<_>>().join("; ")
}

fn source_json(Source { name, from, missing }: &Source) -> Value {
    json!({ "witness": name, "from": from, "available": missing.is_none(), "reason": missing })
}

fn probe_json(probe: &Probe) -> Value {
    let tried = |(mechanism, why): &(Mechanism, String)| json!({ "mechanism": mechanism.name(), "reason": why });
    json!({
        "signal": probe.signal.name(),
        "mechanism": probe.mechanism.name(),
        "status": probe.status.name(),
        "reason": reason(probe),
        "tried": probe.tried.iter().map(tried).collect::<Vec<_>>(),
    })
}
