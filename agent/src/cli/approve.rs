//! `paramedic approve`: lets the remedy through that the agent asks about.
use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::Patch};
use paramedic_core::target::{Request, consent::APPROVE};
use serde_json::{Value, json};

use super::{
    explain::{ask_about, view},
    state_dir,
};
use crate::run::APPROVED;

/// Approve the restart or eviction that the agent asks about, for this incident.
///
/// The agent asks where the annotation `paramedic.dev/ask` or --ask says so; `paramedic explain`
/// shows the request. An approval counts for ten minutes, for this one remedy, and only if the remedy
/// is still wanted at the next sample. Of a pod it is an annotation, which is written with your own
/// rights (KUBECONFIG); of a service or container it is a file in the agent's state directory. Exit
/// code 1 if the agent asks nothing.
#[derive(Debug, Args)]
pub(super) struct Approve {
    /// Target: NAMESPACE/POD, POD if the name is unique, a container, or the URL that is watched.
    #[arg(value_name = "TARGET")]
    target: String,
    /// Approve only this request, such as restart-1a2b3c [default: the one that is open].
    #[arg(long, value_name = "REQUEST", value_parser = Request::read)]
    request: Option<Request>,
    /// Address of the agent's status page.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    agent: SocketAddr,
    /// State directory of the agent, for a service or a container [default: /var/lib/paramedic for root, else
    /// ~/.local/state/paramedic].
    #[arg(long, value_name = "DIR", env = "PARAMEDIC_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

impl Approve {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let view = view(&ask_about(self.agent, &self.target).await?)?;
        let open = Open::of(&view, &self.target, self.request)?;
        match &open.pod {
            Some((namespace, pod)) => {
                let config = paramedic_api_server::config().await;
                let config = config.with_context(|| by_hand(namespace, pod, open.request))?;
                annotate(Client::try_from(config)?, namespace, pod, open.request).await?;
            }
            None => self.write(open.request)?,
        }
        let Open { request, name, .. } = open;
        println!("approved {request} of {name}; `paramedic incidents` shows what came of it");
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, request: Request) -> anyhow::Result<()> {
        let state_dir = self.state_dir.clone().unwrap_or_else(state_dir::default);
        let file = state_dir.join(APPROVED);
        fs::write(&file, format!("{request}\n")).with_context(|| {
            format!("cannot write {}: --state-dir names that of the agent", file.display())
        })
    }
}

/// A request of an agent that is open.
pub(super) struct Open {
    pub(super) request: Request,
    /// Name of its target.
    name: String,
    /// Namespace and name of its pod, if it is one.
    pub(super) pod: Option<(String, String)>,
}

impl Open {
    /// The request in the agent's view of a target; it has to be the one that is `meant`.
    pub(super) fn of(view: &Value, target: &str, meant: Option<Request>) -> anyhow::Result<Self> {
        let name = view["name"].as_str().unwrap_or(target).to_owned();
        let Some(asks) = view["asks"].as_object() else {
            bail!(
                "the agent asks nothing about {name}: `paramedic explain {name}` shows its state"
            );
        };
        let word = |field: &str| asks.get(field).and_then(Value::as_str);
        let request = Request::read(word("request").unwrap_or_default());
        let request = request.context("cannot read the agent's request")?;
        if let Some(meant) = meant.filter(|meant| *meant != request) {
            bail!("the agent no longer asks about {meant}: it asks about {request} of {name}");
        }
        let pod = word("namespace").zip(word("pod"));
        let pod = pod.map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned()));
        Ok(Self { request, name, pod })
    }
}

fn by_hand(namespace: &str, pod: &str, request: Request) -> String {
    format!(
        "cannot annotate the pod; with other rights: kubectl annotate --overwrite -n {namespace} \
         pod/{pod} {APPROVE}={request}"
    )
}

/// Annotates the pod as the user of the command.
pub(super) async fn annotate(
    client: Client,
    namespace: &str,
    pod: &str,
    request: Request,
) -> anyhow::Result<()> {
    let annotations = json!({ "metadata": { "annotations": { APPROVE: request.to_string() } } });
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let by_user = paramedic_api_server::patch_by("paramedic-approve");
    let patch = Patch::Merge(annotations);
    let patched = pods.patch_metadata(pod, &by_user, &patch);
    let patched = paramedic_api_server::within(patched).await;
    patched.with_context(|| by_hand(namespace, pod, request))?;
    Ok(())
}
