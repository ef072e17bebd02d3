//! The Helm chart, from the installation of a dry run to its removal.
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::{process, workspace::Workspace};

use super::{
    cluster::{self, GONE},
    kubectl::Kubectl,
    stage::{SYSTEM, Stage},
};
use crate::test::manifests;

pub(super) const NAME: &str = "helm";
pub(super) const ABOUT: &str = "The chart: install a dry run, upgrade to healing, uninstall.";

pub(super) fn play(stage: &Stage<'_>, workspace: &Workspace) -> Result<String> {
    let helm = Helm::bring(workspace)?;
    let come_to = helm.comes_and_goes(stage, workspace);
    // Whatever happened, nothing stays. Helm leaves the namespace that it made.
    let gone = helm.call(&["uninstall", "paramedic", "--ignore-not-found", "--wait"]);
    let delete = ["delete", "namespace", SYSTEM, "--ignore-not-found"];
    let namespace = stage.kubectl.text_within(GONE, &delete);
    // The chart keeps the definition, and so the policies.
    let definition = ["delete", "crd", "healingpolicies.paramedic.dev", "--ignore-not-found"];
    let definition = stage.kubectl.text_within(GONE, &definition);
    come_to?;
    gone?;
    namespace?;
    ensure!(definition?.contains("deleted"), "helm uninstall has deleted the policies");
    cluster::nothing_is_left(stage.kubectl)?;
    Ok("an upgrade takes effect, and helm uninstall leaves policies and no other object".to_owned())
}

struct Helm<'a> {
    program: std::path::PathBuf,
    workspace: &'a Workspace,
}

impl<'a> Helm<'a> {
    fn bring(workspace: &'a Workspace) -> Result<Self> {
        Ok(Self { program: manifests::helm(workspace)?, workspace })
    }

    fn comes_and_goes(&self, stage: &Stage<'_>, workspace: &Workspace) -> Result<()> {
        self.release("install", &["--create-namespace", "--set", "dryRun=true"])?;
        cluster::wait_until_ready(stage, workspace, true)?;
        ensure!(is_dry_run(stage.kubectl)?, "dryRun=true has no effect on the agents");
        stage.tell("helm install: ready, as a dry run");
        self.release("upgrade", &["--set", "patient.enabled=true"])?;
        cluster::wait_until_ready(stage, workspace, false)?;
        ensure!(!is_dry_run(stage.kubectl)?, "after the upgrade the agents are still a dry run");
        stage.tell("helm upgrade: the agents may heal, and the patient is there");
        Ok(())
    }

    fn release(&self, what: &str, more: &[&str]) -> Result<()> {
        let chart = self.workspace.root.join("charts/paramedic").display().to_string();
        // Without --wait, which would wait for an address of the patient's LoadBalancer.
        self.call(&[&[what, "paramedic", &chart], more].concat())
    }

    fn call(&self, arguments: &[&str]) -> Result<()> {
        let mut helm = Command::new(&self.program);
        // Nothing of the user's but the cluster: no plugins, no repositories.
        let home = self.workspace.target.join("helm-home");
        for kind in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(kind, &home);
        }
        process::capture(helm.args(["--namespace", SYSTEM]).args(arguments)).map(|_| ())
    }
}

fn is_dry_run(kubectl: &Kubectl) -> Result<bool> {
    let agents = ["daemonset", "paramedic-agent", "--namespace", SYSTEM];
    let agents: Value = kubectl.get(&agents)?.context("there are no agents")?;
    let arguments = &agents["spec"]["template"]["spec"]["containers"][0]["args"];
    Ok(arguments.as_array().is_some_and(|arguments| arguments.contains(&"--dry-run".into())))
}
