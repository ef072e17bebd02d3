//! The APIServices that route the group's requests to this service.
//!
//! The program creates them, not a manifest: `kubectl apply` would take over an APIService of
//! another adapter, and with it the autoscaling of the whole cluster. Their owner is our
//! ClusterRole, so that deleting the manifests deletes them as well.
//!
//! kube has no helper for this: the libraries for such servers are in Go.
use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, rbac::v1::ClusterRole},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    kube_aggregator::pkg::apis::apiregistration::v1::{
        APIService, APIServiceSpec, ServiceReference,
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use paramedic_api_server::{ApiError, within};
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use super::{
    GROUP, Version, authority::CertificateAuthority, ca_store::CaStore, readiness::Readiness,
};

/// Interval between two checks.
const PERIOD: Duration = Duration::from_secs(30);
/// Interval until this process is ready.
const UNREADY: Duration = Duration::from_millis(500);
/// The label of everything that belongs to this release.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "paramedic");

/// Labels of the objects that the program creates.
pub(super) fn labels() -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "paramedic"),
        ("app.kubernetes.io/component", "metrics-api"),
        PART_OF,
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Registers the metrics API with the API server.
pub(super) struct Registration {
    services: Api<APIService>,
    roles: Api<ClusterRole>,
    deployments: Api<Deployment>,
    ca_store: CaStore,
    /// The name of the Service, the ClusterRole and the Deployment.
    name: String,
    namespace: String,
}

/// The state of the registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The APIServices are ours and correct.
    Ours,
    /// Not created yet: this process is not ready, or is shutting down.
    NotYet,
    /// Another replica has a newer authority, which this process has not read yet.
    Behind,
    /// One APIService belongs to another adapter, and so does the whole group.
    Foreign {
        /// The APIService.
        name: String,
        /// The Service behind it.
        to: String,
    },
}

impl Registration {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            services: Api::all(client.clone()),
            roles: Api::all(client.clone()),
            deployments: Api::namespaced(client.clone(), namespace),
            ca_store: CaStore::new(client, namespace, name),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// Maintains the APIServices while there is an authority. It creates them only when this
    /// process is ready to answer: an APIService without a backend blocks the deletion of every
    /// namespace.
    pub(super) async fn run(
        &self,
        mut authority: watch::Receiver<Option<CertificateAuthority>>,
        readiness: &Readiness,
    ) {
        let mut told = None;
        loop {
            let ready = readiness.pending().is_empty();
            let bundle = authority.borrow_and_update().as_ref().map(CertificateAuthority::bundle);
            if let Some(bundle) = bundle {
                let standing = self.keep(&bundle, ready).await.map_err(|error| error.to_string());
                if told.as_ref() != Some(&standing) {
                    tell(&standing);
                    told = Some(standing);
                }
            }
            // The CA store has ended: shutting down.
            let period = if ready { PERIOD } else { UNREADY };
            if let Ok(Err(_)) = timeout(period, authority.changed()).await {
                return;
            }
        }
    }

    /// Creates or corrects the APIServices of all versions, unless one belongs to another adapter:
    /// then it changes none. The HPA queries the preferred version only, so one of our versions
    /// beside another adapter's would take that adapter's metrics from the HPA.
    pub(super) async fn keep(&self, bundle: &str, may_create: bool) -> Result<Standing, ApiError> {
        let mut found = Vec::new();
        for version in Version::ALL {
            found.push((version, within(self.services.get_opt(&name_of(version))).await?));
        }
        let foreign = found.iter().find_map(|(version, found)| {
            self.foreign(found.as_ref()?).map(|to| (name_of(*version), to))
        });
        if let Some((name, to)) = foreign {
            for version in Version::ALL {
                self.remove(version).await?;
            }
            return Ok(Standing::Foreign { name, to });
        }
        let missing = found.iter().any(|(_, found)| found.is_none());
        if missing && (!may_create || self.is_uninstalled().await?) {
            return Ok(Standing::NotYet);
        }
        // The authority was read up to a minute ago. Do not undo what was written since.
        let differs =
            found.iter().any(|(_, found)| told(found.as_ref()) != Some(bundle.as_bytes()));
        if differs && self.ca_store.has_moved_on(bundle).await? {
            return Ok(Standing::Behind);
        }
        let owner = self.owner().await?;
        for (version, found) in found {
            let wanted = self.wanted(version, bundle, owner.clone());
            self.write(version, found, wanted).await?;
        }
        Ok(Standing::Ours)
    }

    async fn write(
        &self,
        version: Version,
        found: Option<APIService>,
        wanted: APIService,
    ) -> Result<(), ApiError> {
        let parameters = PostParams::default();
        let Some(mut found) = found else {
            return overtaken(within(self.services.create(&parameters, &wanted)).await);
        };
        let owned = found.metadata.owner_references == wanted.metadata.owner_references;
        if found.spec == wanted.spec && owned {
            return Ok(());
        }
        found.spec = wanted.spec;
        found.metadata.owner_references = wanted.metadata.owner_references;
        let name = name_of(version);
        overtaken(within(self.services.replace(&name, &parameters, &found)).await)
    }

    /// The owner, if it is not this installation.
    fn foreign(&self, found: &APIService) -> Option<String> {
        let service = found.spec.as_ref().and_then(|spec| spec.service.as_ref());
        let to = |of: Option<&String>| of.cloned().unwrap_or_default();
        let (namespace, name) = match service {
            Some(service) => (to(service.namespace.as_ref()), to(service.name.as_ref())),
            None => Default::default(),
        };
        let ours = found.labels().get(PART_OF.0).is_some_and(|value| value == PART_OF.1)
            && (namespace.as_str(), name.as_str()) == (&*self.namespace, &*self.name);
        (!ours).then(|| format!("{namespace}/{name}"))
    }

    async fn owner(&self) -> Result<OwnerReference, ApiError> {
        let role = within(self.roles.get(&self.name)).await?;
        Ok(OwnerReference {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: self.name.clone(),
            uid: role.uid().unwrap_or_default(),
            ..OwnerReference::default()
        })
    }

    fn wanted(&self, version: Version, bundle: &str, owner: OwnerReference) -> APIService {
        APIService {
            metadata: ObjectMeta {
                name: Some(name_of(version)),
                labels: Some(labels()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(APIServiceSpec {
                ca_bundle: Some(ByteString(bundle.as_bytes().to_vec())),
                group: Some(GROUP.to_owned()),
                version: Some(version.name().to_owned()),
                service: Some(ServiceReference {
                    namespace: Some(self.namespace.clone()),
                    name: Some(self.name.clone()),
                    port: Some(443),
                }),
                group_priority_minimum: 100,
                version_priority: match version {
                    Version::V1beta1 => 100,
                    Version::V1beta2 => 200,
                },
                insecure_skip_tls_verify: None,
            }),
            ..APIService::default()
        }
    }

    /// Called at the end of this process, after every other writer has stopped. If the installation
    /// ends as well, it removes the APIServices.
    pub(super) async fn leave(&self) {
        if !matches!(self.is_uninstalled().await, Ok(true)) {
            return;
        }
        info!("the Deployment is being deleted; removing the APIServices first");
        for version in Version::ALL {
            if let Err(error) = self.remove(version).await {
                let name = name_of(version);
                warn!(%error, name, "cannot remove the APIService; deleting the ClusterRole removes it");
            }
        }
    }

    /// Whether the installation ends with this process. A refused request counts as yes: a
    /// namespace that is deleted may lose its roles before its Deployment.
    async fn is_uninstalled(&self) -> Result<bool, ApiError> {
        match within(self.deployments.get_opt(&self.name)).await {
            Ok(None) => Ok(true),
            Ok(Some(deployment)) => {
                let replicas = deployment.spec.and_then(|spec| spec.replicas);
                Ok(deployment.metadata.deletion_timestamp.is_some() || replicas == Some(0))
            }
            Err(ApiError::Refused(kube::Error::Api(status))) if status.code == 403 => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, version: Version) -> Result<(), ApiError> {
        let name = name_of(version);
        let Some(found) = within(self.services.get_opt(&name)).await? else { return Ok(()) };
        if self.foreign(&found).is_some() {
            return Ok(());
        }
        let uid = found.metadata.uid;
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        match within(self.services.delete(&name, &parameters)).await {
            // Another replica removed it first, or it was created again.
            Err(ApiError::Refused(kube::Error::Api(status)))
                if matches!(status.code, 404 | 409) =>
            {
                Ok(())
            }
            deleted => deleted.map(drop),
        }
    }
}

/// The CA bundle in the APIService.
fn told(found: Option<&APIService>) -> Option<&[u8]> {
    Some(&found?.spec.as_ref()?.ca_bundle.as_ref()?.0)
}

/// A conflict means that another replica wrote the same first. The next check reads it.
fn overtaken(written: Result<APIService, ApiError>) -> Result<(), ApiError> {
    match written {
        Err(ApiError::Refused(kube::Error::Api(status))) if status.code == 409 => Ok(()),
        written => written.map(drop),
    }
}

fn name_of(version: Version) -> String {
    format!("{}.{GROUP}", version.name())
}

fn tell(standing: &Result<Standing, impl fmt::Display>) {
    match standing {
        Ok(Standing::Ours) => info!("the APIServices route requests to this installation"),
        Ok(Standing::NotYet) => info!("creating the APIServices as soon as this replica is ready"),
        Ok(Standing::Behind) => {
            info!("a replica with a newer certificate authority maintains the APIServices");
        }
        Ok(Standing::Foreign { name, to }) => warn!(
            name,
            to,
            "another adapter owns the APIService, so the HPA gets no metrics from Paramedic: let that \
             adapter serve them (manifests/prometheus), or delete its APIService, and Paramedic \
             creates its own"
        ),
        Err(error) => warn!(%error, "cannot maintain the APIServices"),
    }
}
