//! `cargo xtask e2e`: the whole story on a real cluster, as its user would live it.
//!
//! Whatever the tests say, they say it against a server that we wrote. Here nothing is ours but
//! what is shipped: the manifests as they are applied, the images as they are loaded, and a real
//! kubelet that starts again what was ended. All goes through kubectl; what happened is asked of
//! the API server and of the patient, and never concluded from the agent's word alone.
mod cluster;
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
use scenes::{SCENES, Scene};
use stage::{NAMESPACE, Stage};
use xtask::workspace::Workspace;

use crate::stage::Interrupt;

/// Play the whole story on the cluster that kubectl is set up for (KUBECONFIG).
///
/// Applies manifests/, waits until all is ready, makes patients ill in a namespace of their own
/// (paramedic-e2e), and looks at what the agents do: heal, restart in place, evict, refuse, leave
/// alone; and whether an HPA scales on what they measured. Then deletes everything and looks that nothing is left. Ends with a table; exit code 0
/// if every scene went as it should. Takes about seven minutes.
///
/// The nodes must have the images: `cargo xtask image` makes them and says how to load them.
/// A cluster that Paramedic is installed on is left alone, unless --reuse says to test it as it is.
/// Ctrl-C cleans up too.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Play only scenes whose names contain one of these, separated by commas.
    #[arg(long, value_name = "SCENE", value_delimiter = ',')]
    only: Vec<String>,
    /// Test the Paramedic that is there. Nothing of it is applied or deleted, but it is paused for
    /// some seconds, and an agent is started again.
    #[arg(long)]
    reuse: bool,
    /// Leave everything there afterwards, for a look around.
    #[arg(long)]
    keep: bool,
    /// Print one JSON object last, for machines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let scenes = chosen(&args.only)?;
    let kubectl = Kubectl::find()?;
    let version = cluster::check(&kubectl)?;
    let manifests = cluster::manifests(&workspace.root);
    if !args.reuse {
        cluster::is_free(&kubectl, &manifests)?;
    }
    let interrupt = Interrupt::catch()?;
    cluster::make_namespace(&kubectl)?;
    let mut report = Report::default();
    let task = Task { workspace, args, kubectl: &kubectl, interrupt: &interrupt, manifests };
    if task.install(&mut report) {
        task.play(&scenes, &mut report);
    }
    task.clean_up(&mut report);
    println!("\n{report}");
    if args.json {
        println!("{}", report.json(&version));
    }
    interrupt.check()?;
    match report.failed().as_slice() {
        [] => Ok(()),
        failed => bail!("not as it should be: {}", failed.join(", ")),
    }
}

/// The scenes that are asked for.
fn chosen(only: &[String]) -> Result<Vec<&'static Scene>> {
    let wanted = |scene: &&Scene| {
        only.is_empty() || only.iter().any(|part| scene.name.contains(part.as_str()))
    };
    let scenes: Vec<_> = SCENES.iter().filter(wanted).collect();
    if scenes.is_empty() {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        bail!("no such scene; there are: {}", names.join(", "));
    }
    Ok(scenes)
}

struct Task<'a> {
    workspace: &'a Workspace,
    args: &'a Args,
    kubectl: &'a Kubectl,
    interrupt: &'a Interrupt,
    manifests: String,
}

impl Task<'_> {
    /// Returns whether all is ready for the scenes.
    fn install(&self, report: &mut Report) -> bool {
        self.act(
            report,
            "install",
            "The manifests as they are, and pods that nobody may touch.",
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
            let good = self.act(report, scene.name, scene.about, scene.play);
            if self.interrupt.check().is_err() {
                return;
            }
            if good || !self.args.keep {
                self.discharge(scene);
            }
        }
    }

    /// Plays one act; if it goes wrong, shows what helps to understand why.
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

    /// A scene's patients go home: they must not get in the next one's way.
    fn discharge(&self, scene: &Scene) {
        let ours = format!("{}={}", patient::SCENE, scene.name);
        let kinds = "horizontalpodautoscalers,services,deployments,poddisruptionbudgets,pods";
        let delete =
            ["delete", kinds, "--namespace", NAMESPACE, "--selector", &ours, "--wait=false"];
        if let Err(error) = self.kubectl.text(&delete) {
            println!("   the patients of {} are still there: {error:#}", scene.name);
        }
    }

    /// Whatever happened before, what was made is deleted.
    fn clean_up(&self, report: &mut Report) {
        if self.args.keep {
            println!("\nAll is left as it is. To delete it:");
            println!("  kubectl delete namespace {NAMESPACE}");
            if !self.args.reuse {
                println!("  kubectl delete -f {}", self.manifests);
            }
            return;
        }
        println!("\nuninstall\n   All is deleted, and looked for.");
        let begun = Instant::now();
        let mut came_to =
            cluster::delete_namespace(self.kubectl).context("the patients' namespace");
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
        assert_eq!(names(&["soft", "fence"]).unwrap(), ["soft-heal", "fence"]);
        assert!(names(&["plague"]).unwrap_err().to_string().contains("soft-heal"));
    }
}
