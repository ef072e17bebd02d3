//! Stores the [`CertificateAuthority`] for all replicas in a Secret, where the API server lets one writer at a
//! time win, and publishes it in a ConfigMap, from which the agents learn which CA to trust.
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use paramedic_api_server::{ApiError, within};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{
    authority::{AuthorityError, CertificateAuthority},
    registration::labels,
};

/// Interval between two checks of the Secret.
const PERIOD: Duration = Duration::from_secs(60);
/// Interval after a failed check.
const RETRY: Duration = Duration::from_secs(5);
/// Maximum number of lost write conflicts in a row. More mean that something else is wrong.
const TRIES: u32 = 5;

/// The key in the Secret.
const STORED: &str = "authority.json";
/// The key in the ConfigMap, which is also the name of the file that agents read.
const BUNDLE: &str = "ca.crt";

/// The store of the authority.
pub(super) struct CaStore {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    /// Name of both objects.
    name: String,
}

/// Why no authority is available.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeeperError {
    #[error("{what} cannot be read or written: {source}")]
    Api { what: &'static str, source: ApiError },
    #[error(
        "the Secret {name} holds no certificate authority: {source}; delete it, and a new one is created at once"
    )]
    Secret { name: String, source: AuthorityError },
    #[error("cannot create a certificate authority: {0}")]
    New(AuthorityError),
    #[error("other writers changed the Secret during every attempt")]
    Overtaken,
}

impl CaStore {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        let maps = Api::namespaced(client.clone(), namespace);
        Self { secrets: Api::namespaced(client, namespace), maps, name: name.to_owned() }
    }

    /// Maintains the authority until every receiver is dropped.
    pub(super) async fn run(self, out: watch::Sender<Option<CertificateAuthority>>) {
        while !out.is_closed() {
            match self.round(unix_seconds()).await {
                Ok(authority) => {
                    out.send_if_modified(|known| {
                        let news = known.as_ref() != Some(&authority);
                        if news {
                            *known = Some(authority);
                        }
                        news
                    });
                    sleep(PERIOD).await;
                }
                Err(error) => {
                    warn!(%error, "cannot maintain the certificate authority");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Reads the authority, takes the step that is due, and publishes the result for the agents.
    pub(super) async fn round(&self, now: i64) -> Result<CertificateAuthority, KeeperError> {
        for _ in 0..TRIES {
            let Some(authority) = self.step(now).await? else { continue };
            if self.publish(&authority).await? {
                return Ok(authority);
            }
        }
        Err(KeeperError::Overtaken)
    }

    /// Whether the Secret now holds another authority than the one of this bundle.
    pub(super) async fn has_moved_on(&self, bundle: &str) -> Result<bool, ApiError> {
        let found = within(self.secrets.get_opt(&self.name)).await?;
        // An unreadable authority belongs to no replica.
        let stored = found.and_then(|secret| CertificateAuthority::parse(stored(&secret)).ok());
        Ok(stored.is_some_and(|authority| authority.bundle() != bundle))
    }

    /// `None` if another replica wrote first: read again.
    async fn step(&self, now: i64) -> Result<Option<CertificateAuthority>, KeeperError> {
        let api = |source| KeeperError::Api { what: "the Secret of the authority", source };
        let found = within(self.secrets.get_opt(&self.name)).await.map_err(api)?;
        let Some(mut secret) = found else {
            let authority = CertificateAuthority::new(now).map_err(KeeperError::New)?;
            let secret = self.secret(&authority)?;
            let made = within(self.secrets.create(&PostParams::default(), &secret)).await;
            let made = won(made, authority).map_err(api)?;
            if made.is_some() {
                info!(secret = self.name, "created the certificate authority");
            }
            return Ok(made);
        };
        let of_secret = |source| KeeperError::Secret { name: self.name.clone(), source };
        let authority = CertificateAuthority::parse(stored(&secret)).map_err(of_secret)?;
        let Some(after) = authority.advance(now).map_err(KeeperError::New)? else {
            return Ok(Some(authority));
        };
        secret.data = self.secret(&after)?.data;
        let replaced =
            within(self.secrets.replace(&self.name, &PostParams::default(), &secret)).await;
        let replaced = won(replaced, after).map_err(api)?;
        if replaced.is_some() {
            info!(secret = self.name, "advanced the rotation of the certificate authority");
        }
        Ok(replaced)
    }

    fn secret(&self, authority: &CertificateAuthority) -> Result<Secret, KeeperError> {
        let stored = ByteString(authority.store().map_err(KeeperError::New)?);
        Ok(Secret {
            metadata: self.metadata(),
            data: Some(BTreeMap::from([(STORED.to_owned(), stored)])),
            ..Secret::default()
        })
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(labels()),
            ..ObjectMeta::default()
        }
    }

    /// Whether the ConfigMap now has the bundle.
    async fn publish(&self, authority: &CertificateAuthority) -> Result<bool, KeeperError> {
        let api = |source| KeeperError::Api { what: "the ConfigMap of the authority", source };
        let data = BTreeMap::from([(BUNDLE.to_owned(), authority.bundle())]);
        let found = within(self.maps.get_opt(&self.name)).await.map_err(api)?;
        let written = match found {
            Some(map) if map.data.as_ref() == Some(&data) => return Ok(true),
            Some(mut map) => {
                map.data = Some(data);
                within(self.maps.replace(&self.name, &PostParams::default(), &map)).await
            }
            None => {
                let metadata = self.metadata();
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                within(self.maps.create(&PostParams::default(), &map)).await
            }
        };
        Ok(won(written, ()).map_err(api)?.is_some())
    }
}

/// The content of the Secret; empty if the key is missing.
fn stored(secret: &Secret) -> &[u8] {
    let stored = secret.data.as_ref().and_then(|data| data.get(STORED));
    stored.map_or(&[], |bytes| bytes.0.as_slice())
}

/// `None` if another writer was first.
pub(super) fn won<T, R>(written: Result<R, ApiError>, value: T) -> Result<Option<T>, ApiError> {
    match written {
        Ok(_) => Ok(Some(value)),
        Err(ApiError::Refused(kube::Error::Api(status))) if status.code == 409 => Ok(None),
        // It was deleted between the two requests.
        Err(ApiError::Refused(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Certificates use wall-clock time.
pub(super) fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
