//! Wires the parts together.
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::bail;
use kube::{Api, Client};
use paramedic_listen::Listener;
use paramedic_pod_metrics::CLIENT_NAME;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    sync::{oneshot, watch},
    task::{JoinError, JoinSet},
    time::{interval, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    access::Access,
    agents, authentication,
    authority::{self, AuthorityError, CertificateAuthority, Leaf, Usage},
    ca_store::{CaStore, unix_seconds},
    forecasts::{Forecasts, this_minute},
    front_proxy::FrontProxy,
    history::History,
    pods,
    readiness::{Need, Readiness},
    registration::Registration,
    server::{self, Shared},
    store::Store,
    stream::Stream,
};

/// Time from the stop signal until no more requests are accepted. The API server sends requests here
/// until its endpoints are updated.
const LINGER: Duration = Duration::from_secs(5);
/// Interval at which the loads of all workloads are measured: the length of the agents' windows.
const SAMPLE: Duration = Duration::from_secs(10);
/// Interval at which certificates are checked for renewal.
const CHECK: Duration = Duration::from_secs(60);

/// Settings of the metrics API.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listen address for the API server.
    pub listen: SocketAddr,
    /// Namespace of Paramedic's objects.
    pub namespace: String,
    /// Name of the Service, the Deployment, the ClusterRole, the Secret and the ConfigMap.
    pub name: String,
    /// Name of the agents' Service.
    pub agents: String,
    /// Name of the agents' service account.
    pub agent_account: String,
    /// Maximum number of workloads with a forecast.
    pub forecasts: usize,
    /// How far a forecast looks ahead, in minutes.
    pub forecast_horizon: u32,
}

/// The metrics API, bound to its address.
#[derive(Debug)]
pub struct MetricsApi {
    listener: Listener,
    config: Config,
}

type Slot<T> = (watch::Sender<Option<Arc<T>>>, watch::Receiver<Option<Arc<T>>>);

impl MetricsApi {
    /// Binds the address, within a tokio runtime. It answers nothing before [`MetricsApi::run`].
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(config: Config) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(config.listen)?, config })
    }

    /// The address on which it listens.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Serves until `shutdown` resolves.
    ///
    /// # Errors
    /// If one of its tasks ends. The supervisor of the process then restarts it.
    pub async fn run(
        self,
        client: Client,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let Config { namespace, name, agents, agent_account, forecasts, forecast_horizon, .. } =
            self.config;
        let provider = Arc::new(ring::default_provider());
        let store = Arc::new(Mutex::new(Store::default()));
        let readiness = Arc::new(Readiness::default());
        let (authority_in, authority) = watch::channel::<Option<CertificateAuthority>>(None);
        let (proxy_in, front_proxy): Slot<FrontProxy> = watch::channel(None);
        let (certificate_in, certificate) = watch::channel(None);
        let (tls_in, tls): Slot<ClientConfig> = watch::channel(None);
        let registration = Arc::new(Registration::new(client.clone(), &namespace, &name));
        let forecasts = Arc::new(Forecasts::new(forecasts, forecast_horizon));
        let history = History::new(client.clone(), &namespace, &name, Arc::clone(&forecasts));
        let history = Arc::new(history);

        let mut parts = JoinSet::new();
        let ca_store = CaStore::new(client.clone(), &namespace, &name);
        parts.spawn(async move { ca_store.run(authority_in).await });
        let signer = Signer {
            names: names(&name, &namespace),
            provider: Arc::clone(&provider),
            certificate: certificate_in,
            tls: tls_in,
            readiness: Arc::clone(&readiness),
        };
        parts.spawn(signer.run(authority.clone()));
        let (keeping, ready) = (Arc::clone(&registration), Arc::clone(&readiness));
        let registering = parts.spawn(async move { keeping.run(authority, &ready).await });
        let (of, ready) = (client.clone(), Arc::clone(&readiness));
        parts.spawn(async move { authentication::watch(of, proxy_in, &ready).await });
        let (of, to, ready) = (client.clone(), Arc::clone(&store), Arc::clone(&readiness));
        parts.spawn(async move { pods::watch(of, &to, &ready).await });
        let stream = Arc::new(Stream {
            store: Arc::clone(&store),
            reviews: Api::all(client.clone()),
            agent_user: format!("system:serviceaccount:{namespace}:{agent_account}"),
            tls,
        });
        let (of, ready) = (client.clone(), Arc::clone(&readiness));
        parts.spawn(async move {
            agents::follow_all(of, &namespace, &agents, stream, &ready).await;
        });
        parts.spawn(forget(Arc::clone(&store), Arc::clone(&forecasts)));
        if forecasts.are_on() {
            parts.spawn(learn(Arc::clone(&store), Arc::clone(&forecasts)));
            let keeping = Arc::clone(&history);
            parts.spawn(async move { keeping.run().await });
        }
        let access = Access::new(client);
        let ready = Arc::clone(&readiness);
        let shared = Shared {
            store,
            forecasts,
            access,
            readiness: ready,
            front_proxy,
            certificate,
            provider,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let mut server = JoinSet::new();
        server.spawn(server::serve(self.listener, Arc::new(shared), stopped));

        tokio::select! {
            () = shutdown => {}
            Some(ended) = parts.join_next() => return has_ended(ended),
            Some(ended) = server.join_next() => return has_ended(ended),
        }
        readiness.leave();
        // Stop the maintenance first: it would create again what is removed now.
        registering.abort();
        registration.leave().await;
        tokio::join!(sleep(LINGER), history.end(LINGER));
        drop(stop);
        server.join_next().await;
        info!("stopped");
        Ok(())
    }
}

fn has_ended(task: Result<(), JoinError>) -> anyhow::Result<()> {
    match task {
        Ok(()) => bail!("a task of the metrics API has ended"),
        Err(error) => bail!("a task of the metrics API has failed: {error}"),
    }
}

/// The DNS names of the Service in the cluster; the API server checks the second.
fn names(service: &str, namespace: &str) -> Vec<String> {
    let short = format!("{service}.{namespace}");
    vec![short.clone(), format!("{short}.svc"), format!("{short}.svc.cluster.local")]
}

/// Learns the loads of all workloads.
async fn learn(store: Arc<Mutex<Store>>, forecasts: Arc<Forecasts>) {
    let mut samples = interval(SAMPLE);
    loop {
        samples.tick().await;
        let store = store.lock();
        forecasts.sample(this_minute(), store.loads(tokio::time::Instant::now()));
    }
}

/// Drops the data of silent agents, so that those of removed nodes do not accumulate.
async fn forget(store: Arc<Mutex<Store>>, forecasts: Arc<Forecasts>) {
    let mut rounds = interval(Duration::from_secs(60));
    loop {
        rounds.tick().await;
        let mut store = store.lock();
        store.forget_the_silent(tokio::time::Instant::now());
        let (pods, agents) = store.count();
        drop(store);
        info!(pods, agents, forecasts = forecasts.count(), "metrics in memory");
    }
}

/// Signs this server's certificates when the authority changes, and twice a day.
struct Signer {
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    certificate: watch::Sender<Option<Arc<dyn ResolvesServerCert>>>,
    tls: watch::Sender<Option<Arc<ClientConfig>>>,
    readiness: Arc<Readiness>,
}

impl Signer {
    async fn run(self, mut authority: watch::Receiver<Option<CertificateAuthority>>) {
        let mut signed: Option<(CertificateAuthority, i64)> = None;
        loop {
            let known = authority.borrow_and_update().clone();
            let now = unix_seconds();
            // Certificates use wall-clock time, which may be set.
            let is_fresh = |at: i64| (0..authority::RENEW).contains(&now.saturating_sub(at));
            if let Some(known) = known
                && !signed.as_ref().is_some_and(|(by, at)| *by == known && is_fresh(*at))
            {
                match self.sign(&known, now) {
                    Ok(()) => {
                        signed = Some((known, now));
                        self.readiness.met(Need::CertificateAuthority);
                    }
                    Err(error) => warn!(%error, "cannot sign certificates"),
                }
            }
            if let Ok(Err(_)) = timeout(CHECK, authority.changed()).await {
                return;
            }
        }
    }

    fn sign(&self, authority: &CertificateAuthority, now: i64) -> Result<(), Unsigned> {
        let Leaf { certificate, key } = authority.sign(Usage::Server, &self.names, now)?;
        let key = self.provider.key_provider.load_private_key(key)?;
        let server = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        self.certificate.send_replace(Some(Arc::new(server)));

        let client = authority.sign(Usage::Client, &[CLIENT_NAME.to_owned()], now)?;
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ProvedByToken(Arc::clone(&self.provider))))
            .with_client_auth_cert(vec![client.certificate], client.key)?;
        self.tls.send_replace(Some(Arc::new(config)));
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum Unsigned {
    #[error("{0}")]
    CertificateAuthority(#[from] AuthorityError),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

/// Accepts any certificate of an agent: the agent's token on the same connection authenticates it
/// (see `stream`). The key of the certificate is verified nevertheless.
#[derive(Debug)]
pub(super) struct ProvedByToken(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for ProvedByToken {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
