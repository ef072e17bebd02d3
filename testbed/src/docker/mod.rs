//! `cargo xtask docker`: images, Docker mode and Compose on a real Docker engine that this task
//! unpacks and runs.
//!
//! The engine runs in namespaces of its own: it sees no network, container or socket of this
//! machine, and this machine sees none of the engine's. Both share the kernel, with the agent's
//! eBPF programs, and the cgroups.
mod cgroups;
mod client;
mod engine;
mod scenes;
mod stage;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use client::Docker;
use engine::Engine;
use scenes::{SCENES, Scene};
use stage::Stage;
use xtask::{
    image::{self, Image},
    process,
    workspace::Workspace,
};

use crate::{
    demo, dynamic,
    e2e::report::Report,
    stage::{Interrupt, Programs, tail},
};

/// Test the images, Docker mode and compose.yaml on a real Docker engine.
///
/// The engine comes from Debian 13's packages, unpacked below target/docker (nothing is installed,
/// 85 MB the first time), and runs in namespaces of its own: this machine's network and its own
/// Docker, if it has one, are not touched. The images contain the ordinary builds. Needs root and
/// leaves nothing behind; the logs are in target/docker/logs.
#[derive(clap::Args, Default)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The images of `cargo xtask image`, as they are shipped, instead of ordinary builds
    #[arg(long)]
    shipped: bool,
    /// Play only scenes whose name contains this
    #[arg(last = true)]
    filter: Option<String>,
    /// Run inside the engine's namespaces; its packages are in this folder
    #[arg(long, hide = true, value_name = "FOLDER", requires = "cgroup")]
    packages: Option<PathBuf>,
    /// Become the engine, whose root is this folder
    #[arg(long, hide = true, value_name = "FOLDER", requires = "cgroup")]
    engine: Option<PathBuf>,
    /// The containers' cgroups are below this one
    #[arg(long, hide = true, value_name = "NAME")]
    cgroup: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if let (Some(root), Some(cgroup)) = (&args.engine, &args.cgroup) {
        return engine::become_engine(root, cgroup);
    }
    let home = workspace.target.join("docker");
    let scenes = chosen(args.filter.as_deref())?;
    let interrupt = Interrupt::catch()?;
    match (&args.packages, &args.cgroup) {
        (Some(packages), Some(cgroup)) => {
            let inside = Inside { workspace, home, packages, cgroup, interrupt };
            inside.play(&scenes, args.shipped)
        }
        _ => prepare(workspace, &home, args, &interrupt),
    }
}

/// The selected scenes.
fn chosen(filter: Option<&str>) -> Result<Vec<&'static Scene>> {
    let wanted = |scene: &&Scene| filter.is_none_or(|part| scene.name.contains(part));
    let scenes: Vec<_> = SCENES.iter().filter(wanted).collect();
    if scenes.is_empty() {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        bail!("no such scene; there are: {}", names.join(", "));
    }
    Ok(scenes)
}

/// Does what needs this machine's network, and then plays the scenes in namespaces without it.
fn prepare(workspace: &Workspace, home: &Path, args: &Args, interrupt: &Interrupt) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the engine needs root: run it as root");
    let programs = Programs::as_tested(workspace)?;
    demo::check_rights(&programs)?;
    if args.shipped {
        let missing = image::archives(&workspace.target.join("images"))
            .into_iter()
            .find(|archive| !archive.exists());
        if let Some(archive) = missing {
            bail!("no {}: `cargo xtask image` makes it", archive.display());
        }
    } else {
        process::announce("images of the ordinary builds");
        let scratch = tempfile::tempdir().context("no temporary folder")?;
        for (image, program) in
            [(Image::Agent, &programs.agent), (Image::Patient, &programs.patient)]
        {
            let libraries = dynamic::libraries([program.as_path()])?;
            let program = dynamic::strip(program, scratch.path())?;
            image::of_program(workspace, &home.join("images"), image, &program, &libraries)?;
        }
    }
    let packages = engine::packages(home)?;
    let cgroups = world::cgroups()?;
    let mut arguments = vec!["docker".to_owned(), "--cgroup".to_owned(), cgroups.name.clone()];
    arguments.extend(["--packages".to_owned(), packages.display().to_string()]);
    if args.shipped {
        arguments.push("--shipped".to_owned());
    }
    if let Some(filter) = &args.filter {
        arguments.extend(["--".to_owned(), filter.clone()]);
    }
    world::run(interrupt, &arguments)
}

/// The arguments of the run inside the namespaces.
struct Inside<'a> {
    workspace: &'a Workspace,
    home: PathBuf,
    packages: &'a Path,
    cgroup: &'a str,
    interrupt: Interrupt,
}

impl Inside<'_> {
    fn play(&self, scenes: &[&'static Scene], shipped: bool) -> Result<()> {
        world::settle()?;
        let logs = self.home.join("logs");
        // Logs of the last run would be confusing.
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).context("cannot make the logs' folder")?;
        let docker = Docker::new(self.packages, PathBuf::from("/run/docker-client"))?;
        process::announce("start a Docker engine");
        let log = logs.join("engine.log");
        let (root, interrupt) = (self.home.join("root"), &self.interrupt);
        let engine = Engine::set_up(self.packages, root, self.cgroup, log.clone(), interrupt);
        let engine = engine.with_context(|| tail(&log, 40))?;
        let about = "{{.ServerVersion}}, {{.Driver}}, cgroup v{{.CgroupVersion}}";
        println!("    Docker {}", docker.text(&["info", "--format", about])?);
        let images =
            if shipped { self.workspace.target.join("images") } else { self.home.join("images") };
        // The metrics API belongs to a cluster: ordinary builds make no image of it.
        for archive in image::archives(&images).iter().filter(|archive| archive.exists()) {
            docker.text(&["load", "--quiet", "--input", &archive.display().to_string()])?;
        }
        let programs = Programs::in_folder(&self.workspace.target.join("debug"));
        let root = &self.workspace.root;
        let mut stage = Stage::new(docker, engine, programs, root, logs, interrupt);
        let mut report = Report::default();
        for scene in scenes {
            println!("\n{}\n   {}", scene.name, scene.about);
            let begun = Instant::now();
            stage.begin(scene.name);
            let came_to = (scene.play)(&mut stage);
            match &came_to {
                Ok(seen) => stage.tell(&format!("as it should be: {seen}")),
                Err(error) => {
                    interrupt.check()?;
                    stage.tell(&format!("NOT as it should be: {error:#}"));
                    stage.explain();
                }
            }
            report.add(scene.name, begun.elapsed(), came_to);
            stage.clear()?;
        }
        println!("\n{report}");
        match report.failed().as_slice() {
            [] => Ok(()),
            failed => bail!("failed: {}", failed.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_chosen_by_parts_of_their_names() {
        assert_eq!(chosen(None).unwrap().len(), SCENES.len());
        assert_eq!(chosen(Some("soft")).unwrap()[0].name, "watch-soft");
        assert!(chosen(Some("plague")).err().unwrap().to_string().contains("watch-soft"));
    }
}
