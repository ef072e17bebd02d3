//! `paramedic release`: puts a pod back that an agent has quarantined or drained.
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::Patch};
use paramedic_api_server::{ApiError, patch_by, within};
use paramedic_kubernetes::labels::{self, QUARANTINED};

/// How often to try again if somebody else changes the pod at the same time.
const TRIES: u32 = 4;

/// Put a quarantined pod back into its workload, or a drained one into its Services.
///
/// Sets exactly the labels that the agent has taken, as its annotation records them, and removes the
/// annotation. If somebody has given the pod another value of one of these labels meanwhile, nothing
/// is changed. The pod is written with your own rights (KUBECONFIG). Services and containers outside
/// a cluster are never quarantined or drained: there is nothing to release.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// Pod, as NAMESPACE/POD.
    #[arg(value_name = "NAMESPACE/POD")]
    pod: String,
}

impl Release {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Some((namespace, pod)) = names(&self.pod) else {
            bail!(
                "{} is no pod of the form NAMESPACE/POD: only pods of a cluster are quarantined or \
                 drained, so there is nothing to release for a service or a container",
                self.pod
            );
        };
        let config = paramedic_api_server::config().await;
        let config = config.context("cannot find the cluster: set KUBECONFIG")?;
        let pods: Api<Pod> = Api::namespaced(Client::try_from(config)?, namespace);
        let by_user = patch_by("paramedic-release");
        for _ in 0..TRIES {
            let found = within(pods.get_opt(pod)).await;
            let found = found.with_context(|| format!("cannot read pod {namespace}/{pod}"))?;
            let found = found.with_context(|| format!("there is no pod {namespace}/{pod}"))?;
            let release = labels::release(&found).with_context(|| format!("pod {}", self.pod))?;
            let labels: Vec<String> =
                release.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let patch = Patch::Merge(&release.change);
            match within(pods.patch_metadata(pod, &by_user, &patch)).await {
                Ok(_) => {}
                Err(ApiError::Refused(kube::Error::Api(status))) if status.code == 409 => continue,
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot change the pod; with other rights: kubectl label -n {namespace} \
                             pod/{pod} --overwrite {} && kubectl annotate -n {namespace} pod/{pod} \
                             {QUARANTINED}- {}-",
                            labels.join(" "),
                            labels::DRAINED_UNTIL
                        )
                    });
                }
            }
            println!("released {namespace}/{pod}: {}", labels.join(", "));
            if let Some(workload) = release.workload {
                println!(
                    "{workload} has started another pod in its place, and its controller may now \
                     delete one too many: perhaps this one"
                );
            }
            return Ok(ExitCode::SUCCESS);
        }
        bail!("pod {namespace}/{pod} changes all the time: try again");
    }
}

/// Namespace and name; `None` for a URL or the name of a container.
fn names(pod: &str) -> Option<(&str, &str)> {
    let (namespace, name) = pod.split_once('/')?;
    let plain = |text: &str| {
        let known =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        !text.is_empty() && text.bytes().all(known)
    };
    (plain(namespace) && plain(name)).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_have_such_names() {
        assert_eq!(names("shop/web-5d-x2k"), Some(("shop", "web-5d-x2k")));
        for other in ["web", "http://localhost:5000", "shop/", "/web", "a/b/c", "Shop/web", ""] {
            assert_eq!(names(other), None, "{other:?}");
        }
    }
}
