//! `cargo xtask test`: everything that must hold before a change is merged, as one command.
//!
//! Nothing is skipped silently: what a machine cannot do fails, and the things that may stay
//! undone (the privileged tests, the strangers, Docker's engine and the other kernels where they
//! were left out by request, the advisories where their database is out of reach, the overlays
//! without kubectl) are named in the summary. Every step compiles with one profile, so that the
//! large dependencies are built once.
use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use xtask::{build_ebpf, process, workspace::Workspace};

use crate::{demo, docker, stage::Programs, strangers, vm};
use suite::Tests;
use summary::{Outcome, Report};

mod browser;
mod deny;
mod guides;
mod manifests;
mod model;
mod observability;
mod suite;
mod summary;
#[cfg(test)]
mod workflows;

/// Check everything: formatting, lints, dependencies, and every test with real eBPF.
///
/// The steps, in this order; a failed one does not keep the others from running:
///   build-ebpf   the kernel side, as `cargo xtask build-ebpf`
///   fmt          rustfmt on the workspace and on agent-ebpf
///   clippy       every target, warnings are errors
///   deny         licences, sources and duplicates of dependencies (cargo-deny, installed below
///                target/tools if missing)
///   advisories   known vulnerabilities; "not checked" where their database is out of reach
///   tests        unit and integration tests, with cargo-nextest if it is installed
///   doc tests
///   manifests    everything below manifests/ against the schemas of Kubernetes 1.30 to the newest
///                known, strictly (kubernetes-validate, installed below target/ if missing)
///   model        the Python that trains the model: ruff, mypy and its tests (the libraries are
///                installed below target/ if missing)
///   demo         the scenes of `cargo xtask demo`: the whole story on the real kernel
///   strangers    foreign services that are to be left alone, or to be restarted, as `cargo xtask
///                strangers --quick` (the first time they are fetched below target/)
///   observability  the alerts' own tests, and every query of the dashboard against a real Prometheus
///                that scrapes a real agent
///   guides       the commands in README.md and docs/ that are tagged as runnable
///   browser      the status page in headless Chromium (Debian's package, unpacked below target/ if
///                none is installed)
///   docker       images, Docker mode and compose.yaml on a real Docker engine that is brought along, as
///                `cargo xtask docker`
///   vm           the privileged tests and the demo's scenes on other kernels, in virtual machines, as
///                `cargo xtask vm`
///
/// The privileged tests (agent/tests/kernel.rs and agent/tests/live.rs) and the demo load eBPF
/// programs and make cgroups: as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and write access
/// to the cgroups; Docker's engine and the strangers need root. Without these rights they fail;
/// --unprivileged leaves them out. The virtual machines need none; --no-vm leaves them out,
/// --no-docker the engine, --no-strangers the strangers, and --no-browser the browser.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Leave out what needs rights in the kernel: the test binaries `kernel` and `live`, the demo,
    /// the strangers, Docker
    #[arg(long)]
    unprivileged: bool,
    /// Leave out the virtual machines with other kernels
    #[arg(long)]
    no_vm: bool,
    /// Leave out Docker's engine
    #[arg(long)]
    no_docker: bool,
    /// Leave out the foreign services
    #[arg(long)]
    no_strangers: bool,
    /// Leave out the status page in a browser
    #[arg(long)]
    no_browser: bool,
    /// Only this step, by its name
    #[arg(long, value_name = "STEP", hide = true)]
    only: Option<String>,
}

/// Runs all steps and prints the summary. An error if one of them failed.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let tests = Tests { privileged: !args.unprivileged };
    let mut report = Report::default();
    let mut step = |name: &'static str, body: &dyn Fn() -> Result<Outcome>| {
        if args.only.as_ref().is_some_and(|only| only != name) {
            return;
        }
        process::announce(&format!("test: {name}"));
        let start = Instant::now();
        let outcome = body().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        if let Outcome::Failed(reason) = &outcome {
            eprintln!("error: {name}: {reason}");
        }
        report.add(name, start.elapsed(), outcome);
    };
    step("build-ebpf", &|| passed(build_ebpf::run(workspace, &build_ebpf::Args::PLAIN)));
    step("fmt", &|| passed(fmt(workspace)));
    step("clippy", &|| passed(clippy(workspace)));
    step("deny", &|| passed(deny::policy(workspace)));
    step("advisories", &|| deny::advisories(workspace));
    step("tests", &|| suite::run(workspace, tests));
    step("doc tests", &|| passed(doc_tests(workspace)));
    step("manifests", &|| manifests::run(workspace));
    step("model", &|| passed(model::run(workspace)));
    step("demo", &|| scenes(workspace, tests));
    step("strangers", &|| among_strangers(workspace, tests, !args.no_strangers));
    step("observability", &|| passed(observability::run(workspace, tests)));
    step("guides", &|| passed(guides::run(workspace)));
    step("browser", &|| in_a_browser(workspace, !args.no_browser));
    step("docker", &|| on_an_engine(workspace, tests, !args.no_docker));
    step("vm", &|| other_kernels(workspace, !args.no_vm));
    println!("\n{report}");
    match report.failed().as_slice() {
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

fn fmt(workspace: &Workspace) -> Result<()> {
    let check = ["fmt", "--all", "--check"];
    let kernel_side = ["--manifest-path", "agent-ebpf/Cargo.toml"];
    process::run("rustfmt: workspace", cargo(workspace).args(check))
        .and(process::run("rustfmt: agent-ebpf", cargo(workspace).args(check).args(kernel_side)))
        .context("`cargo fmt --all` puts it right")
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let arguments = ["--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    process::run("clippy", cargo(workspace).arg("clippy").args(arguments))
}

fn scenes(workspace: &Workspace, tests: Tests) -> Result<Outcome> {
    if tests.privileged {
        passed(demo::run(workspace, &demo::Args::default()))
    } else {
        Ok(Outcome::Partly("not played: --unprivileged".to_owned()))
    }
}

fn among_strangers(workspace: &Workspace, tests: Tests, wanted: bool) -> Result<Outcome> {
    if !wanted {
        return Ok(Outcome::NotChecked("not played: --no-strangers".to_owned()));
    }
    if !tests.privileged {
        return Ok(Outcome::NotChecked("not played: --unprivileged".to_owned()));
    }
    passed(strangers::run(workspace, &strangers::Args::quick()))
}

/// Agent and patient as the tests have built them.
fn programs(workspace: &Workspace) -> Result<Programs> {
    let mut build = cargo(workspace);
    build.args(["build", "--locked", "--package", "paramedic", "--package", "patient-app"]);
    process::run("build agent and patient", &mut build)?;
    Ok(Programs::in_folder(&workspace.target.join("debug")))
}

fn in_a_browser(workspace: &Workspace, wanted: bool) -> Result<Outcome> {
    if !wanted {
        return Ok(Outcome::NotChecked("not opened: --no-browser".to_owned()));
    }
    passed(browser::run(workspace))
}

fn on_an_engine(workspace: &Workspace, tests: Tests, wanted: bool) -> Result<Outcome> {
    if !wanted {
        return Ok(Outcome::NotChecked("not started: --no-docker".to_owned()));
    }
    if !tests.privileged {
        return Ok(Outcome::NotChecked("not started: --unprivileged".to_owned()));
    }
    passed(docker::run(workspace, &docker::Args::default()))
}

fn other_kernels(workspace: &Workspace, wanted: bool) -> Result<Outcome> {
    if !wanted {
        return Ok(Outcome::NotChecked("not booted: --no-vm".to_owned()));
    }
    passed(vm::run(workspace, &vm::Args::default()))
}

fn doc_tests(workspace: &Workspace) -> Result<()> {
    let arguments = ["test", "--workspace", "--doc", "--locked"];
    process::run("examples in the documentation", cargo(workspace).args(arguments))
}

/// The workspace's cargo. Its environment is the user's: what steers it there steers it here.
fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(&workspace.root);
    command
}

/// How long something may take that depends on a network which may never answer.
const NETWORK: Duration = Duration::from_secs(120);
