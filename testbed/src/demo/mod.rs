//! `cargo xtask demo`: ten short scenes on the real kernel, each with a new process of patient-app
//! in its own cgroup and an agent beside it.
mod scenes;
pub(crate) mod story;

use std::{
    io::IsTerminal,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use scenes::{SCENES, Scene};
use serde::Serialize;
use story::Story;
use xtask::{build_ebpf, process, workspace::Workspace};

use crate::stage::{Interrupt, Programs};

/// Play the demo: faults on the real kernel, and what Paramedic does about them.
///
/// Builds what it needs, starts patient-app in a cgroup of its own and an agent beside it, and
/// plays ten scenes in about three minutes. Ends with a summary; exit code 0 if every scene passed.
/// Needs root (or the capabilities that `paramedic check` names) and leaves nothing behind.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Play only scenes whose name contains this, or one of these.
    #[arg(value_name = "SCENE")]
    only: Vec<String>,
    /// Use agent and patient-app from this folder instead of building them.
    #[arg(long, hide = true, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Afterwards keep patient-app and an agent running, with status at :9100, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// Print one JSON object last, for machines.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// All scenes, with the programs in this folder.
    pub(crate) fn with_programs(folder: PathBuf) -> Self {
        Self { programs: Some(folder), ..Self::default() }
    }
}

/// The result of one scene.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    name: &'static str,
    pass: bool,
    action: String,
    fault_to_heal_ms: Option<f64>,
    confidence: Option<f64>,
    reasons: Vec<String>,
    /// The problem, if the scene failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder),
        None => build_quickly(workspace)?,
    };
    check_rights(&programs)?;
    let interrupt = Interrupt::catch()?;
    let begun = Instant::now();
    let mut verdicts = Vec::new();
    for (number, scene) in SCENES.iter().enumerate() {
        let named = args.only.iter().any(|only| scene.name.contains(only.as_str()));
        if named || args.only.is_empty() {
            verdicts.push(play(number + 1, scene, &programs, &interrupt)?);
        }
    }
    if verdicts.is_empty() {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        bail!("no such scene; there are: {}", names.join(", "));
    }
    let pass = verdicts.iter().all(|verdict| verdict.pass);
    summarise(&verdicts, begun.elapsed());
    if args.stay {
        stay(&programs, &interrupt)?;
    }
    if args.json {
        println!("{}", serde_json::json!({ "pass": pass, "scenes": verdicts }));
    }
    if !pass {
        bail!("a scene went wrong");
    }
    Ok(())
}

/// Builds agent and patient-app as fast as possible: without optimization, and without tract, which
/// the shipped model does not need.
fn build_quickly(workspace: &Workspace) -> Result<Programs> {
    build_ebpf::ensure(workspace)?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&workspace.root).args(["build", "--profile", "demo"]);
    cargo.args(["--package", "paramedic", "--package", "patient-app", "--no-default-features"]);
    process::run("build agent and patient (some minutes the first time)", &mut cargo)?;
    Ok(Programs::in_folder(&workspace.target.join("demo")))
}

pub(crate) fn check_rights(programs: &Programs) -> Result<()> {
    let check = Command::new(&programs.agent).arg("check").output().context("paramedic check")?;
    if !check.status.success() {
        bail!(
            "{}{}\nthe demo needs the kernel signals above: run it as root, or see the column \
             `status` for what is missing",
            String::from_utf8_lossy(&check.stdout),
            String::from_utf8_lossy(&check.stderr)
        );
    }
    Ok(())
}

fn play(
    number: usize,
    scene: &Scene,
    programs: &Programs,
    interrupt: &Interrupt,
) -> Result<Verdict> {
    println!("\n{number}. {}\n   {}", scene.name, scene.about);
    let story = Story::begin();
    match (scene.play)(&scenes::Stage { programs, interrupt, story: &story, name: scene.name }) {
        Ok(verdict) => {
            let mark = if verdict.pass { "as it should be" } else { "NOT as it should be" };
            story.tell(&format!(
                "{mark}{}",
                verdict.problem.as_deref().map_or_else(String::new, |p| format!(": {p}"))
            ));
            Ok(verdict)
        }
        Err(error) => {
            interrupt.check()?;
            story.tell(&format!("NOT as it should be: {error:#}"));
            Ok(Verdict {
                name: scene.name,
                pass: false,
                action: String::new(),
                fault_to_heal_ms: None,
                confidence: None,
                reasons: Vec::new(),
                problem: Some(format!("{error:#}")),
            })
        }
    }
}

fn summarise(verdicts: &[Verdict], took: Duration) {
    println!(
        "\n{:<18} {:<6} {:<22} {:>13} {:>11}  because",
        "scene", "", "action", "fault to heal", "confidence"
    );
    for v in verdicts {
        println!(
            "{:<18} {:<6} {:<22} {:>13} {:>11}  {}",
            v.name,
            if v.pass { "ok" } else { "WRONG" },
            v.action,
            v.fault_to_heal_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms")),
            v.confidence.map_or_else(|| "-".to_owned(), |c| format!("{c:.2}")),
            v.problem.clone().unwrap_or_else(|| v.reasons.join(", ")),
        );
    }
    let good = verdicts.iter().filter(|verdict| verdict.pass).count();
    println!(
        "\n{good} of {} scenes as they should be, in {:.0} s",
        verdicts.len(),
        took.as_secs_f64()
    );
}

/// Keeps patient-app and an agent running until Ctrl-C.
fn stay(programs: &Programs, interrupt: &Interrupt) -> Result<()> {
    let patient = crate::stage::patient::Patient::start(programs, "stay", &[])?;
    let state = tempfile::tempdir()?;
    let mut agent = Command::new(&programs.agent)
        .args(["watch", &patient.url, "--max-remedy", "restart", "--state-dir"])
        .arg(state.path())
        .spawn()
        .context("cannot start the agent")?;
    println!("\npatient-app is at {0}, status at http://localhost:9100/. Try:", patient.url);
    println!("  for i in $(seq 8); do curl -s {}/simulate-error; sleep 1; done", patient.url);
    println!("  curl -s localhost:9100/metrics");
    if std::io::stdin().is_terminal() {
        println!("Ctrl-C ends.");
    }
    while interrupt.check().is_ok() {
        match agent.try_wait()? {
            // It had the same Ctrl-C.
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("the agent ended with {status}; is :9100 taken?"),
            None => {}
        }
        thread::sleep(Duration::from_millis(100));
    }
    // On a terminal the same Ctrl-C ends it; elsewhere it gets a signal.
    let _ = agent.kill();
    agent.wait()?;
    Ok(())
}
