//! One of the replicas writes: the one that holds a Lease.
//!
//! A holder is judged by changes of the Lease that are seen here, never by remote clocks. Two
//! leaders at a time would do no harm, since each write names the version that was judged; they
//! would only work twice.
use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use paramedic_api_server::{ApiError, within};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

/// A Lease that does not change for this long has expired.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops writing, before others may begin.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Interval of renewals and attempts.
const PACE: Duration = Duration::from_secs(2);

/// A candidate.
#[derive(Debug)]
pub(crate) struct Election {
    leases: Api<Lease>,
    name: String,
    holder: String,
    leading: watch::Sender<bool>,
    /// The Lease at its last change, and when that was seen.
    seen: Option<(LeaseSpec, Instant)>,
    /// When the own Lease was last written, counted from before the request.
    renewed: Option<Instant>,
}

impl Election {
    /// A candidate of this name, and whether it leads.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: &str,
        holder: &str,
    ) -> (Self, watch::Receiver<bool>) {
        let (leading, leads) = watch::channel(false);
        let leases = Api::namespaced(client, namespace);
        let (name, holder) = (name.to_owned(), holder.to_owned());
        (Self { leases, name, holder, leading, seen: None, renewed: None }, leads)
    }

    /// Takes part until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let before = Instant::now();
            match self.try_hold().await {
                Ok(true) => self.renewed = Some(before),
                Ok(false) => self.renewed = None,
                Err(error) => debug!(%error, "cannot renew the Lease of the leader"),
            }
            let leads = self.renewed.is_some_and(|at| at.elapsed() < RENEW_WITHIN);
            if self.leading.send_replace(leads) != leads {
                match leads {
                    true => info!(holder = self.holder, "leading: this replica writes"),
                    false => warn!(holder = self.holder, "not leading any more"),
                }
            }
            sleep(PACE).await;
        }
    }

    /// Renews or takes the Lease, unless another holds it.
    async fn try_hold(&mut self) -> Result<bool, ApiError> {
        let lease = within(self.leases.get_opt(&self.name)).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        let is_fresh = self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() < DURATION);
        if !holder.is_empty() && holder != self.holder && is_fresh {
            return Ok(false);
        }
        let written = self.write(lease, spec, holder).await;
        match written {
            Ok(()) => Ok(true),
            // Another replica was faster.
            Err(ApiError::Refused(kube::Error::Api(status))) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn write(
        &self,
        lease: Option<Lease>,
        mut spec: LeaseSpec,
        before: String,
    ) -> Result<(), ApiError> {
        let now = MicroTime(Timestamp::now());
        if before != self.holder {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.holder.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        let exists = lease.is_some();
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        lease.metadata.managed_fields = None;
        lease.spec = Some(spec);
        let params = PostParams::default();
        if exists {
            within(self.leases.replace(&self.name, &params, &lease)).await?;
        } else {
            within(self.leases.create(&params, &lease)).await?;
        }
        Ok(())
    }
}

/// Gives the Lease up, so that another replica need not wait until it expires.
pub(crate) async fn resign(client: Client, namespace: &str, name: &str, holder: &str) {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let Ok(Some(mut lease)) = within(leases.get_opt(name)).await else { return };
    let is_ours =
        lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(holder);
    let Some(spec) = lease.spec.as_mut().filter(|_| is_ours) else { return };
    spec.holder_identity = Some(String::new());
    lease.metadata.managed_fields = None;
    if let Err(error) = within(leases.replace(name, &PostParams::default(), &lease)).await {
        debug!(%error, "cannot give up the Lease; it expires by itself");
    }
}
