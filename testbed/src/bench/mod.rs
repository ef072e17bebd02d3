//! `cargo xtask bench`: what it costs and how fast it is, on this machine, in one run.
mod forecast;
mod latency;
mod load;
mod node;
mod throughput;

use std::{fs, process::Command};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use xtask::{build_ebpf, image, process, workspace::Workspace};

use crate::stage::{Interrupt, Programs};

/// Measure: the forest against tract, the packet programs, wake-ups, from fault to heal (with one
/// target, and among 110 and 500), what the agent costs at 1, 110 and 500 targets, a node and the
/// API server at 110 and 500 pods, and the servers that it watches, and what the metrics API costs
/// with 5,000 and 30,000 pods.
///
/// Takes about 40 minutes after the release build. Needs root. Not a test: nothing fails when a
/// number is large.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Trials of each kind of heal.
    #[arg(long, default_value_t = 50)]
    trials: usize,
    /// Only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Print one JSON object last, for machines.
    #[arg(long)]
    json: bool,
}

/// The parts of the bench.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The hot paths: seconds.
    Hot,
    /// From fault to heal: minutes.
    Latency,
    /// What the agent costs: minutes.
    Cost,
    /// What it costs as a node's agent, and the API server: some ten minutes.
    Node,
    /// What watching costs the watched: the throughput of four servers in pairs, five minutes.
    Throughput,
    /// What the metrics API costs, and how fast it answers: some minutes.
    MetricsApi,
    /// What a forecast of the load is worth to an HPA: seconds, without root. Fetches public traces.
    Forecast,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut results = match args.only {
        Some(Part::MetricsApi | Part::Forecast) => Map::new(),
        _ => of_the_agent(workspace, args)?,
    };
    if args.only.is_none_or(|only| only == Part::MetricsApi) {
        process::announce("the metrics API: 5,000 pods of 100 agents, then 30,000 of 1,000");
        build_ebpf::run(workspace, &build_ebpf::Args::PLAIN)?;
        // A Deployment of its own: what counts is the program as it is shipped.
        results.extend(within(workspace, "paramedic-metrics-api", "metrics_api", true)?);
    }
    results.insert("machine".to_owned(), machine()?);
    // Not among the others: it measures no machine, and prints a table for each trace.
    if args.only == Some(Part::Forecast) {
        results = forecast::measure(workspace)?;
    } else {
        print_table(&results);
    }
    if args.json {
        println!("{}", Value::Object(results));
    }
    Ok(())
}

fn of_the_agent(workspace: &Workspace, args: &Args) -> Result<Map<String, Value>> {
    let programs = build(workspace)?;
    let interrupt = Interrupt::catch()?;
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut results = Map::new();
    if wanted(Part::Hot) {
        process::announce("the hot paths");
        results = within(workspace, "paramedic", "hot", false)?;
    }
    if wanted(Part::Latency) {
        for (key, errors, remedy) in
            [("fault_to_soft_ms", 6, "soft"), ("fault_to_sigterm_ms", 11, "restart")]
        {
            process::announce(&format!("{key}: {} trials", args.trials));
            let trials = latency::trials(&programs, &interrupt, args.trials, errors, remedy)?;
            results.insert(key.to_owned(), trials);
        }
        for targets in [110, 500] {
            let key = format!("fault_to_soft_among_{targets}_ms");
            process::announce(&format!("{key}: {} trials", args.trials));
            let trials = latency::trials_among(&programs, &interrupt, targets, args.trials, 6)?;
            results.insert(key, trials);
        }
    }
    if wanted(Part::Cost) {
        results.extend(load::measure(&programs, &interrupt)?);
    }
    if wanted(Part::Node) {
        results.extend(node::measure(workspace, &programs, &interrupt)?);
    }
    if wanted(Part::Throughput) {
        results.extend(throughput::measure(workspace, &programs, &interrupt)?);
    }
    Ok(results)
}

fn build(workspace: &Workspace) -> Result<Programs> {
    build_ebpf::run(workspace, &build_ebpf::Args::PLAIN)?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&workspace.root).args(["build", "--release", "--package", "paramedic"]);
    cargo.args(["--package", "patient-app"]);
    process::run("build agent and patient for release", &mut cargo)?;
    let built = workspace.target.join("release");
    Ok(Programs::in_folder(&built))
}

/// What a bench of one of the crates measures.
fn within(
    workspace: &Workspace,
    package: &str,
    bench: &str,
    as_shipped: bool,
) -> Result<Map<String, Value>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&workspace.root);
    cargo.args(["bench", "--quiet", "--package", package, "--bench", bench]);
    if as_shipped {
        image::as_shipped(&mut cargo, workspace)?;
    }
    let printed = process::capture(&mut cargo)?;
    let last = printed.lines().last().context("the bench printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("the bench printed {last:?}"))
}

/// What the numbers were measured on.
fn machine() -> Result<Value> {
    let line = |file: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    Ok(json!({
        "cpu": line("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism()?.get(),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "rustc": process::capture(Command::new("rustc").arg("--version"))?,
        "date": process::capture(Command::new("date").args(["-u", "+%F"]))?,
    }))
}

fn print_table(results: &Map<String, Value>) {
    println!();
    for (key, value) in results {
        match value {
            Value::Object(fields) => {
                println!("{key}");
                for (name, value) in fields {
                    println!("  {name:<30} {value}");
                }
            }
            value => println!("{key:<32} {value}"),
        }
    }
    let ns = |key: &str| results.get(key)?.get("1")?.as_f64();
    if let (Some(forest), Some(tract)) = (ns("forest_ns_per_row"), ns("tract_ns_per_row")) {
        println!("\nforest against tract, one row: {:.0} times as fast", tract / forest);
    }
}
