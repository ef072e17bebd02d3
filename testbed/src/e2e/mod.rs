//! `cargo xtask e2e`: Paramedic on a real cluster, from installation to removal.
//!
//! The other tests use an API server that we wrote. Here only what is shipped is ours: the
//! manifests as they are applied and the images as they are loaded; the kubelet that restarts
//! containers is real. Everything goes through kubectl. The API server and patient-app show what
//! happened; the agent's own report is never the only proof.
mod cluster;
mod helm;
mod kubectl;
mod objects;
mod patient;
mod prometheus;
mod proxy;
pub(crate) mod report;
mod scenes;
mod stage;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use kubectl::Kubectl;
use report::Report;
use scenes::{SCENES, Scene, There};
use stage::{NAMESPACE, Stage};
use xtask::workspace::Workspace;

use crate::{cluster::of_kubeconfig, stage::Interrupt};

/// Test Paramedic on the cluster that kubectl is set up for (KUBECONFIG).
///
/// Applies manifests/, waits until all is ready, injects faults into pods in a namespace of their
/// own (paramedic-e2e), and checks what the agents do: heal, restart in place, evict, refuse, or
/// take no action; and whether an HPA scales on their measurements. Then it deletes everything and
/// checks that nothing is left, and does the same with the Helm chart. Ends with a table; exit code
/// 0 if every scene that was played passed. Takes about a quarter of an hour. Scenes across nodes
/// need two nodes (`cargo xtask cluster` has them); elsewhere the table says that they were not
/// played.
///
/// The nodes must have the images: `cargo xtask image` makes them and says how to load them.
/// It does not touch a cluster on which Paramedic is installed, unless --reuse asks to test that
/// installation.
/// Ctrl-C cleans up too.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Play only scenes whose names contain one of these, separated by commas.
    #[arg(long, value_name = "SCENE", value_delimiter = ',')]
    only: Vec<String>,
    /// Test the installed Paramedic. It is not applied or deleted, but it is paused for some
    /// seconds, and one agent is restarted.
    #[arg(long)]
    reuse: bool,
    /// Leave everything in place afterwards.
    #[arg(long)]
    keep: bool,
    /// Print one JSON object last, for machines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let scenes = chosen(&args.only)?;
    let with_helm = !args.reuse && !args.keep && is_chosen(helm::NAME, &args.only);
    let kubectl = Kubectl::find()?;
    let (version, nodes) = cluster::check(&kubectl)?;
    let manifests = cluster::manifests(&workspace.root);
    if !args.reuse {
        cluster::is_free(&kubectl, &manifests)?;
    }
    let interrupt = Interrupt::catch()?;
    cluster::make_namespace(&kubectl)?;
    let mut report = Report::default();
    let there = There { nodes, ours: of_kubeconfig()?.is_some() };
    let task = Task { workspace, args, kubectl: &kubectl, interrupt: &interrupt, manifests, there };
    if !scenes.is_empty() {
        if task.install(&mut report) {
            task.play(&scenes, &mut report);
        }
        task.clean_up(&mut report);
    }
    if with_helm && interrupt.check().is_ok() {
        task.act(&mut report, helm::NAME, helm::ABOUT, |stage| helm::play(stage, workspace));
    }
    println!("\n{report}");
    if args.json {
        println!("{}", report.json(&version));
    }
    interrupt.check()?;
    match report.failed().as_slice() {
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

/// The selected scenes.
fn chosen(only: &[String]) -> Result<Vec<&'static Scene>> {
    let scenes: Vec<_> = SCENES.iter().filter(|scene| is_chosen(scene.name, only)).collect();
    if scenes.is_empty() && !is_chosen(helm::NAME, only) {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        bail!("no such scene; there are: {}, {}", names.join(", "), helm::NAME);
    }
    Ok(scenes)
}

fn is_chosen(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

struct Task<'a> {
    workspace: &'a Workspace,
    args: &'a Args,
    kubectl: &'a Kubectl,
    interrupt: &'a Interrupt,
    manifests: String,
    there: There,
}

impl Task<'_> {
    /// Returns whether all is ready for the scenes.
    fn install(&self, report: &mut Report) -> bool {
        self.act(
            report,
            "install",
            "The manifests as they are, and pods that must stay untouched.",
            |stage| {
                if !self.args.reuse {
                    cluster::install(stage, &self.manifests)?;
                }
                cluster::wait_until_ready(stage, self.workspace, self.args.reuse)?;
                scenes::bystanders(stage)?;
                Ok(format!("ready; agents: {}", stage.agents()?.len()))
            },
        )
    }

    fn play(&self, scenes: &[&Scene], report: &mut Report) {
        for scene in scenes {
            if let Some(lacks) = scenes::lacks(scene, self.there) {
                println!("\n{}\n   {}\n   NOT PLAYED: {lacks}", scene.name, scene.about);
                report.leave_out(scene.name, lacks);
                continue;
            }
            let good = self.act(report, scene.name, scene.about, scene.play);
            if self.interrupt.check().is_err() {
                return;
            }
            if good || !self.args.keep {
                self.discharge(scene);
            }
        }
    }

    /// Plays one step; if it fails, prints what helps to understand why.
    fn act(
        &self,
        report: &mut Report,
        name: &'static str,
        about: &str,
        play: impl Fn(&Stage<'_>) -> Result<String>,
    ) -> bool {
        println!("\n{name}\n   {about}");
        let begun = Instant::now();
        let stage = Stage::new(self.kubectl, self.interrupt, name);
        let came_to = play(&stage);
        match &came_to {
            Ok(seen) => stage.tell(&format!("as it should be: {seen}")),
            Err(error) => {
                stage.tell(&format!("NOT as it should be: {error:#}"));
                if self.interrupt.check().is_ok() {
                    print!("{}", cluster::describe(self.kubectl));
                }
            }
        }
        let good = came_to.is_ok();
        report.add(name, begun.elapsed(), came_to);
        good
    }

    /// Deletes a scene's pods, so that they do not disturb the next scene.
    fn discharge(&self, scene: &Scene) {
        let ours = format!("{}={}", patient::SCENE, scene.name);
        let kinds = "horizontalpodautoscalers,services,deployments,poddisruptionbudgets,pods";
        let delete =
            ["delete", kinds, "--namespace", NAMESPACE, "--selector", &ours, "--wait=false"];
        if let Err(error) = self.kubectl.text(&delete) {
            println!("   the pods of {} are still there: {error:#}", scene.name);
        }
    }

    /// Deletes everything that was made, whatever happened before.
    fn clean_up(&self, report: &mut Report) {
        if self.args.keep {
            println!("\nEverything is left in place. To delete it:");
            println!("  kubectl delete namespace {NAMESPACE}");
            if !self.args.reuse {
                println!("  kubectl delete -f {}", self.manifests);
            }
            return;
        }
        println!("\nuninstall\n   Deletes everything and checks that nothing is left.");
        let begun = Instant::now();
        let mut came_to =
            cluster::delete_namespace(self.kubectl).context("the namespace of the scenes");
        let mut seen = "the patients' namespace is deleted".to_owned();
        if !self.args.reuse {
            match cluster::uninstall(self.kubectl, &self.manifests) {
                Ok(what) => seen = what,
                Err(error) => came_to = came_to.and(Err(error)),
            }
        }
        report.add("uninstall", begun.elapsed(), came_to.map(|()| seen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_chosen_by_parts_of_their_names() {
        let names = |only: &[&str]| -> Result<Vec<_>> {
            let only: Vec<_> = only.iter().map(|&part| part.to_owned()).collect();
            Ok(chosen(&only)?.iter().map(|scene| scene.name).collect())
        };
        assert_eq!(names(&[]).unwrap().len(), SCENES.len());
        assert_eq!(
            names(&["soft", "fence"]).unwrap(),
            ["soft-heal", "fence", "policy-fence", "other-fence"]
        );
        assert_eq!(names(&["helm"]).unwrap(), [""; 0]);
        assert!(names(&["plague"]).unwrap_err().to_string().contains("soft-heal"));
    }
}
