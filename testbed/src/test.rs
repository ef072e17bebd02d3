//! `cargo xtask test`: everything that must hold before a change is merged, as one command.
//!
//! Nothing is skipped silently: a step that a machine cannot run fails. The summary names what was
//! left out (by request the privileged tests, the strangers, Docker's engine and the other kernels;
//! the advisories without their database; the overlays without kubectl). Every step compiles with
//! one profile, so that the large dependencies are built once.
use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use xtask::{build_ebpf, process, workspace::Workspace};

use crate::{demo, docker, docs, stage::build_as_tested, strangers, truth, vm};
use suite::Tests;
use summary::{Outcome, Report};

mod browser;
mod deny;
mod fuzz;
mod guides;
#[cfg(test)]
mod layers;
pub(crate) mod manifests;
mod model;
mod observability;
mod package;
mod suite;
mod summary;
#[cfg(test)]
mod workflows;

/// Check everything: formatting, lints, dependencies, and every test with real eBPF.
///
/// The steps, in this order; a failed one does not stop the others:
///   build-ebpf   the kernel side, as `cargo xtask build-ebpf`
///   fmt          rustfmt on the workspace, on agent-ebpf and on fuzz
///   clippy       every target, warnings are errors
///   deny         licences, sources and duplicates of dependencies (cargo-deny, installed below
///                target/tools if missing)
///   advisories   known vulnerabilities; "not checked" where their database is out of reach
///   tests        unit and integration tests, with cargo-nextest if it is installed
///   doc tests
///   fuzz         every target of fuzz/, for 15 s each, two at a time (cargo-fuzz, installed below
///                target/tools if missing); "not checked" where it cannot be had, unless CI is set
///   manifests    everything below manifests/ and what the Helm chart renders, against the schemas of
///                Kubernetes 1.30 to the newest known, strictly; the chart against the manifests
///                (kubernetes-validate and helm, installed below target/ if missing)
///   model        the Python that trains the model: ruff, mypy and its tests (the libraries are
///                installed below target/ if missing)
///   demo         the scenes of `cargo xtask demo` on the real kernel
///   strangers    third-party services, as `cargo xtask strangers --quick` (the first time they
///                are fetched below target/)
///   truth        the kernel's counts of third-party servers, as `cargo xtask truth` (fetched likewise)
///   observability  the alerts' own tests, and every query of the dashboard against a real Prometheus
///                that scrapes a real agent
///   guides       the commands in README.md and docs/ that are tagged as runnable
///   docs         the documentation as a site, and every link in it, as `cargo xtask docs`
///   package      the Debian package: dpkg installs, and removes it below target/, and systemd-analyze
///                judges its unit
///   browser      the status page in headless Chromium (Debian's package, unpacked below target/ if
///                none is installed)
///   docker       images, Docker mode and compose.yaml on a real Docker engine, as `cargo xtask
///                docker`
///   vm           the privileged tests and the demo's scenes on other kernels, in virtual machines, as
///                `cargo xtask vm`
///
/// The privileged tests (agent/tests/kernel.rs and agent/tests/live.rs) and the demo load eBPF
/// programs and make cgroups: as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and write access
/// to the cgroups; Docker's engine, the strangers and truth need root. Without these rights they fail;
/// --unprivileged leaves them out, as plain `cargo test` does. The virtual machines need none;
/// --no-vm leaves them out, --no-docker the engine, --no-strangers the third-party servers (the steps
/// strangers and truth), --no-browser the browser, and --no-fuzz the fuzz targets.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Leave out what needs rights in the kernel: the ignored tests of `kernel` and `live`, the demo,
    /// the strangers, truth, Docker
    #[arg(long)]
    unprivileged: bool,
    /// Leave out the virtual machines with other kernels
    #[arg(long)]
    no_vm: bool,
    /// Leave out Docker's engine
    #[arg(long)]
    no_docker: bool,
    /// Leave out the third-party services
    #[arg(long)]
    no_strangers: bool,
    /// Leave out the status page in a browser
    #[arg(long)]
    no_browser: bool,
    /// Leave out the fuzz targets
    #[arg(long)]
    no_fuzz: bool,
    /// Run only this step
    #[arg(long, value_name = "STEP", value_parser = names())]
    only: Option<String>,
}

/// A step: its name, and what it does.
type Step = (&'static str, fn(&Workspace, &Args) -> Result<Outcome>);

/// All steps, in their order.
const STEPS: [Step; 20] = [
    ("build-ebpf", |w, _| passed(build_ebpf::run(w, &build_ebpf::Args::PLAIN))),
    ("fmt", |w, _| passed(fmt(w))),
    ("clippy", |w, _| passed(clippy(w))),
    ("deny", |w, _| passed(deny::policy(w))),
    ("advisories", |w, _| deny::advisories(w)),
    ("tests", |w, args| suite::run(w, args.tests())),
    ("doc tests", |w, _| passed(doc_tests(w))),
    ("fuzz", fuzzed),
    ("manifests", |w, _| manifests::run(w)),
    ("model", |w, _| passed(model::run(w))),
    ("demo", scenes),
    ("strangers", among_strangers),
    ("truth", counted_right),
    ("observability", |w, args| passed(observability::run(w, args.tests()))),
    ("guides", |w, _| passed(guides::run(w))),
    ("docs", |w, _| passed(docs::run(w, &docs::Args::default()))),
    ("package", |w, _| passed(package::run(w))),
    ("browser", in_a_browser),
    ("docker", on_an_engine),
    ("vm", other_kernels),
];

/// What `--only` takes: the name of a step.
fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.map(|(name, _)| name))
}

impl Args {
    fn tests(&self) -> Tests {
        Tests { privileged: !self.unprivileged }
    }
}

/// Runs all steps and prints the summary. An error if one of them failed.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut report = Report::default();
    for (name, body) in STEPS {
        if args.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        process::announce(&format!("test: {name}"));
        let start = Instant::now();
        let outcome =
            body(workspace, args).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        if let Outcome::Failed(reason) = &outcome {
            eprintln!("error: {name}: {reason}");
        }
        report.add(name, start.elapsed(), outcome);
    }
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
    let of = |part: &str| {
        let manifest = format!("--manifest-path={part}/Cargo.toml");
        process::run(&format!("rustfmt: {part}"), cargo(workspace).args(check).arg(manifest))
    };
    process::run("rustfmt: workspace", cargo(workspace).args(check))
        .and(of("agent-ebpf"))
        .and(of("fuzz"))
        .context("`cargo fmt --all` puts it right")
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let arguments = ["--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    process::run("clippy", cargo(workspace).arg("clippy").args(arguments))
}

fn scenes(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.unprivileged {
        return Ok(Outcome::Partly("not played: --unprivileged".to_owned()));
    }
    let programs = build_as_tested(workspace, &["paramedic", "patient-app"])?;
    passed(demo::run(workspace, &demo::Args::with_programs(programs)))
}

fn among_strangers(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.no_strangers {
        return Ok(Outcome::NotChecked("not played: --no-strangers".to_owned()));
    }
    if args.unprivileged {
        return Ok(Outcome::NotChecked("not played: --unprivileged".to_owned()));
    }
    passed(strangers::run(workspace, &strangers::Args::quick()))
}

fn counted_right(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.no_strangers {
        return Ok(Outcome::NotChecked("not compared: --no-strangers".to_owned()));
    }
    if args.unprivileged {
        return Ok(Outcome::NotChecked("not compared: --unprivileged".to_owned()));
    }
    passed(truth::run(workspace, &truth::Args::default()))
}

fn fuzzed(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.no_fuzz {
        return Ok(Outcome::NotChecked("not run: --no-fuzz".to_owned()));
    }
    fuzz::run(workspace)
}

fn in_a_browser(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.no_browser {
        return Ok(Outcome::NotChecked("not opened: --no-browser".to_owned()));
    }
    passed(browser::run(workspace))
}

fn on_an_engine(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.no_docker {
        return Ok(Outcome::NotChecked("not started: --no-docker".to_owned()));
    }
    if args.unprivileged {
        return Ok(Outcome::NotChecked("not started: --unprivileged".to_owned()));
    }
    passed(docker::run(workspace, &docker::Args::default()))
}

fn other_kernels(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.no_vm {
        return Ok(Outcome::NotChecked("not booted: --no-vm".to_owned()));
    }
    passed(vm::run(workspace, &vm::Args::default()))
}

fn doc_tests(workspace: &Workspace) -> Result<()> {
    let arguments = ["test", "--workspace", "--doc", "--locked"];
    process::run("examples in the documentation", cargo(workspace).args(arguments))
}

/// The workspace's cargo, with the user's environment.
fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(&workspace.root);
    command
}

/// The time limit of steps that depend on a network, which may never answer.
const NETWORK: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::Task;

    #[test]
    fn a_misspelt_step_is_refused_with_the_names_of_all_steps() {
        let asked = |step| Task::try_parse_from(["cargo xtask", "test", "--only", step]);
        for (name, _) in STEPS {
            assert!(asked(name).is_ok(), "{name}");
        }
        let error = asked("guide").err().unwrap();
        assert_eq!(error.exit_code(), 2);
        let error = error.to_string();
        assert!(STEPS.iter().all(|(name, _)| error.contains(name)), "{error}");
    }

    #[test]
    fn the_help_explains_every_step_in_its_order() {
        let test = Task::command().find_subcommand("test").unwrap().clone();
        let help = test.get_long_about().unwrap().to_string();
        let places = STEPS.map(|(name, _)| help.find(&format!("\n  {name}")).unwrap());
        assert!(places.is_sorted(), "{help}");
    }
}
