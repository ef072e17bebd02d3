//! One hard remedy per workload at a time, in the whole cluster: a Lease in Paramedic's own
//! namespace, held from before the act to the end of its verification.
//!
//! All changes are compare-and-swap on the Lease's resourceVersion: of two agents that saw it free,
//! one gets it, and the other sees that it is taken. A deleted Lease is no problem: a PUT creates
//! it again, but a PUT after another agent created it is a conflict.
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::api::PostParams;
use paramedic_api_server::{ApiError, within};
use paramedic_core::{
    boot_time::BootTime,
    guard::{Gate, Refusal, Why, workload},
    target::{PodRef, Remedy},
    verify::Outcome,
};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::sleep};
use tracing::{debug, warn};

use super::{
    Cluster, Drain,
    lease::{self, Heal, RECORD, Record},
    quarantine::Plan,
    workload::Workload,
};

/// A lock that does not change for this long has expired.
const DURATION: Duration = Duration::from_secs(60);
/// Interval at which a holder renews.
const RENEW: Duration = Duration::from_secs(20);
/// No remedy is applied under a lock with less time left.
const LEAST_LEFT: Duration = Duration::from_secs(30);
/// No remedy is applied this long after the first check: its answer may be outdated.
pub(super) const ACT_WITHIN: Duration = Duration::from_secs(3);
/// What a drain takes besides its wait, at most: a change of the pod, a poll, and the second look.
const SECOND_LOOK: Duration = Duration::from_secs(15);
/// Maximum number of retries after write conflicts.
pub(super) const TRIES: u32 = 4;
/// Delays between attempts to release a lock. Jitter adds up to as much again. The attempts end when
/// the lock has expired by itself.
const SETTLE: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(10))
    .with_total_delay(Some(DURATION))
    .without_max_times()
    .with_jitter();
/// Maximum number of stored Leases; each is a workload with a sick pod on this node.
pub(super) const MAX_SEEN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// A Lease at its last change.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    mark: Mark,
    since: BootTime,
}

/// The fields that change when a holder acquires or renews. The resourceVersion is not among them,
/// because other agents write their numbers of sick pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    holder: String,
    renewed: Option<Timestamp>,
    transitions: i32,
}

/// What a hard remedy does to the labels of its pod.
#[derive(Clone, Debug, Default)]
pub(super) enum Aside {
    /// Nothing.
    #[default]
    No,
    /// It may be taken out of its Services before a restart.
    Drain(Drain),
    /// It is quarantined in place of an eviction.
    Quarantine(Plan),
}

impl Aside {
    /// How much later the remedy comes, in seconds: the share counts from the act.
    fn delay(&self) -> i64 {
        match self {
            Self::Drain(Drain::For(span)) => {
                i64::try_from((*span + SECOND_LOOK).as_secs()).unwrap_or(i64::MAX)
            }
            Self::No | Self::Drain(_) | Self::Quarantine(_) => 0,
        }
    }
}

/// The right to one hard remedy. It is renewed in the background until it is released; if dropped
/// without that, it expires.
#[derive(Debug)]
pub struct Lock {
    held: Arc<Mutex<Held>>,
    heal: Heal,
    name: String,
    /// When the first check for this lock was sent, or the first of the last checks.
    asked: Mutex<BootTime>,
    /// What is done to the labels of the pod.
    aside: Aside,
    /// Number of pods of the workload that should be ready once the pod has a successor, if known.
    goal: Option<u32>,
    renewal: JoinHandle<()>,
}

#[derive(Debug)]
struct Held {
    /// The Lease as last written.
    lease: Lease,
    /// End of its guaranteed validity, counted from before the request that wrote it.
    until: BootTime,
}

impl Lock {
    pub(super) const fn goal(&self) -> Option<u32> {
        self.goal
    }

    /// Whether it permits to act.
    ///
    /// # Errors
    /// Why not: it is about to expire, or the cluster's answers are too old.
    pub fn holds(&self, now: BootTime) -> Result<(), &'static str> {
        if self.left(now) < LEAST_LEFT {
            return Err("the workload's lock has expired");
        }
        if now.since(*self.asked.lock()) > ACT_WITHIN {
            return Err("the API server's responses are too old to be acted on");
        }
        Ok(())
    }

    /// For how long it still permits to act, unless it is renewed.
    #[must_use]
    pub fn permits_for(&self, now: BootTime) -> Duration {
        let fresh = ACT_WITHIN.saturating_sub(now.since(*self.asked.lock()));
        fresh.min(self.left(now).saturating_sub(LEAST_LEFT))
    }

    /// Whether the restart begins with a drain.
    #[must_use]
    pub const fn drain(&self) -> Drain {
        match self.aside {
            Aside::Drain(drain) => drain,
            Aside::No | Aside::Quarantine(_) => Drain::No,
        }
    }

    /// The quarantine that takes the place of the eviction.
    pub(super) const fn quarantines(&self) -> Option<&Plan> {
        match &self.aside {
            Aside::Quarantine(plan) => Some(plan),
            Aside::No | Aside::Drain(_) => None,
        }
    }

    /// Whether the eviction is a quarantine.
    #[must_use]
    pub const fn is_quarantine(&self) -> bool {
        self.quarantines().is_some()
    }

    /// The cluster was asked again, from `asked` on.
    pub(super) fn asked_again(&self, asked: BootTime) {
        *self.asked.lock() = asked;
    }

    /// The name of its Lease.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Time until it expires.
    fn left(&self, now: BootTime) -> Duration {
        self.held.lock().until.since(now)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Cluster {
    /// Takes the workload's lock for one remedy, unless another agent has it, most of its pods are
    /// sick, its share is spent, or some of its pods are still starting. Always reports its number
    /// of sick pods on this node. With `dry_run` it writes nothing and takes no lock.
    pub(super) async fn lock(
        self: &Arc<Self>,
        of: &Workload,
        pod: &PodRef,
        remedy: Remedy,
        sick: u32,
        (asked, is_ready, dry_run): (BootTime, bool, bool),
        aside: Aside,
    ) -> Result<Option<Lock>, Refusal> {
        let name = lease::name(&of.kind, &of.namespace, &of.name);
        let goal = of.ready.map(|ready| ready + u32::from(!is_ready));
        for _ in 0..TRIES {
            let lease = self.read_lease(&name).await.map_err(|e| super::pause::no_answer(&e))?;
            let now = self.server_now().map_err(|e| super::pause::no_answer(&e))?;
            let mut record = record_of(&name, lease.as_ref())?;
            record.prune(now);
            record.report(&self.identity.node, now, sick);
            let starting = self.starting(&name, of, record.sick(now), is_ready);
            let refusal = self.judge(&name, of, lease.as_ref(), &record, (now, dry_run));
            // Last: until all nodes have reported, a sick pod elsewhere looks like a starting one.
            let refusal = refusal.or(starting);
            if dry_run {
                return refusal.map_or(Ok(None), Err);
            }
            let before = self.clock.now();
            if let Some(refusal) = refusal {
                let told = self.write(&name, lease, &record, None).await;
                if let Err(error) = told {
                    debug!(lease = name, %error, "cannot write the number of sick pods");
                }
                return Err(refusal);
            }
            let heal = Heal {
                at: now.saturating_add(aside.delay()),
                by: self.identity.holder.clone(),
                pod: pod.name.clone(),
                remedy,
                outcome: None,
            };
            record.heals.push(heal.clone());
            match self.write(&name, lease, &record, Some(&self.identity.holder)).await {
                Ok(lease) => {
                    let mut lock = self.hold(name, lease, heal, (asked, goal, before));
                    lock.aside = aside;
                    return Ok(Some(lock));
                }
                Err(error) if is_conflict(&error) => {}
                Err(error) => {
                    // It may have been taken nevertheless: release it.
                    let cluster = Arc::clone(self);
                    tokio::spawn(async move { cluster.settle(&name, &heal, None).await });
                    return Err(super::pause::no_answer(&error));
                }
            }
        }
        let why = Why::LockedBy("another agent".into());
        Err(Refusal { gate: Gate::WorkloadLock, why })
    }

    fn judge(
        &self,
        name: &str,
        of: &Workload,
        lease: Option<&Lease>,
        record: &Record,
        (now, dry_run): (i64, bool),
    ) -> Option<Refusal> {
        let locked = || {
            let holder = self.other_holder(name, lease?)?;
            let why = Why::LockedBy(holder.into());
            Some(Refusal { gate: Gate::WorkloadLock, why })
        };
        let counting = || {
            let counting =
                of.replicas > 1 && !dry_run && record.is_counting(&self.identity.node, now);
            counting.then_some(Refusal { gate: Gate::Overload, why: Why::Counting })
        };
        workload::overload(record.sick(now), of.replicas)
            .or_else(|| workload::in_vain(record.in_vain(now)))
            .or_else(locked)
            .or_else(|| workload::share_spent(record.recent(now), of.replicas))
            .or_else(counting)
    }

    /// Whether pods are still starting. Checked whatever else refuses, because only checks show how
    /// long they have been missing.
    pub(super) fn starting(
        &self,
        name: &str,
        of: &Workload,
        sick: u32,
        is_ready: bool,
    ) -> Option<Refusal> {
        let missing = workload::missing(of.replicas, of.ready?, sick, is_ready);
        if missing == 0 {
            return None;
        }
        let waited = self.missing.lock().see(name, of.replicas, self.clock.now());
        workload::starting(missing, of.replicas, waited)
    }

    /// Its holder, unless it has not changed for so long that the holder must be gone.
    fn other_holder(&self, name: &str, lease: &Lease) -> Option<String> {
        let spec = lease.spec.as_ref()?;
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
        let mark = Mark {
            holder: holder.clone(),
            renewed: spec.renew_time.as_ref().map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or(0),
        };
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        let first = || Seen { mark: mark.clone(), since: now };
        let seen = seen.get_or_insert_mut_ref(name, first);
        if seen.mark != mark {
            *seen = Seen { mark, since: now };
        }
        (now.since(seen.since) < DURATION).then_some(holder)
    }

    pub(super) async fn read_lease(&self, name: &str) -> Result<Option<Lease>, ApiError> {
        within(self.leases.get_opt(name)).await
    }

    /// Writes the record, and with a holder also the lock. Writes nothing if the Lease has changed
    /// since it was read.
    async fn write(
        &self,
        name: &str,
        lease: Option<Lease>,
        record: &Record,
        holder: Option<&str>,
    ) -> Result<Lease, ApiError> {
        let exists = lease.is_some();
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            spec: None,
        });
        lease.metadata.managed_fields = None;
        let text = serde_json::to_string(record).unwrap_or_default();
        lease.metadata.annotations.get_or_insert_default().insert(RECORD.to_owned(), text);
        if let Some(holder) = holder {
            let spec = lease.spec.get_or_insert_default();
            let changes_hands = spec.holder_identity.as_deref() != Some(holder);
            if changes_hands {
                let transitions = spec.lease_transitions.unwrap_or(0);
                spec.lease_transitions = Some(transitions.saturating_add(1));
                spec.acquire_time = Some(self.stamp());
            }
            self.sign(spec, holder);
        }
        let params = PostParams::default();
        if exists {
            within(self.leases.replace(name, &params, &lease)).await
        } else {
            within(self.leases.create(&params, &lease)).await
        }
    }

    fn sign(&self, spec: &mut LeaseSpec, holder: &str) {
        spec.holder_identity = Some(holder.to_owned());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(self.stamp());
    }

    /// For readers of Leases, and to make a renewal a visible change: the server's seconds, and the
    /// boot clock's microseconds.
    fn stamp(&self) -> MicroTime {
        let now = self.clock.now();
        let micros = i32::try_from(now.as_nanos() / 1000 % 1_000_000).unwrap_or(0) * 1000;
        let time = Timestamp::new(self.server_clock.now(now).unwrap_or(0), micros);
        MicroTime(time.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    fn hold(
        self: &Arc<Self>,
        name: String,
        lease: Lease,
        heal: Heal,
        (asked, goal, before): (BootTime, Option<u32>, BootTime),
    ) -> Lock {
        let held = Arc::new(Mutex::new(Held { lease, until: before + DURATION }));
        let renewal = tokio::spawn(Arc::clone(self).renew(name.clone(), Arc::clone(&held)));
        let (asked, aside) = (Mutex::new(asked), Aside::default());
        Lock { held, heal, name, asked, aside, goal, renewal }
    }

    /// Renews until it is aborted or another agent has the lock.
    async fn renew(self: Arc<Self>, name: String, held: Arc<Mutex<Held>>) {
        loop {
            sleep(RENEW).await;
            let mut lease = held.lock().lease.clone();
            for _ in 0..TRIES {
                let before = self.clock.now();
                self.sign(lease.spec.get_or_insert_default(), &self.identity.holder);
                lease.metadata.managed_fields = None;
                let params = PostParams::default();
                match within(self.leases.replace(&name, &params, &lease)).await {
                    Ok(lease) => {
                        *held.lock() = Held { lease, until: before + DURATION };
                        break;
                    }
                    Err(error) if is_conflict(&error) => {}
                    Err(error) => {
                        warn!(lease = name, %error, "cannot renew a workload's lock");
                        break;
                    }
                }
                // Another agent wrote a number of sick pods, or took the lock after it had expired.
                match self.read_lease(&name).await {
                    Ok(Some(newer)) if self.is_ours(&newer) => lease = newer,
                    Ok(_) => {
                        warn!(lease = name, "lost a workload's lock");
                        held.lock().until = BootTime::default();
                        return;
                    }
                    Err(_) => break,
                }
            }
        }
    }

    pub(super) fn is_ours(&self, lease: &Lease) -> bool {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        holder == Some(self.identity.holder.as_str())
    }

    /// Releases the lock and stores the outcome of the remedy; `None` means that it was never
    /// applied. Other agents rely on the outcome, so failed attempts are repeated for a while.
    pub async fn release(&self, lock: Lock, outcome: Option<Outcome>) {
        lock.renewal.abort();
        self.settle(&lock.name, &lock.heal, outcome).await;
    }

    async fn settle(&self, name: &str, heal: &Heal, outcome: Option<Outcome>) {
        let mut delays = SETTLE.with_jitter_seed(self.seed(name)).build();
        loop {
            let Err(error) = self.try_settle(name, heal, outcome).await else { return };
            let Some(delay) = delays.next() else {
                warn!(lease = name, %error, "cannot release a workload's lock; it will expire");
                return;
            };
            sleep(delay).await;
        }
    }

    /// Agents get different jitter. One agent gets the same in each run, so that a simulation can be
    /// repeated.
    fn seed(&self, name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.identity.holder, name).hash(&mut hasher);
        hasher.finish()
    }

    async fn try_settle(
        &self,
        name: &str,
        heal: &Heal,
        outcome: Option<Outcome>,
    ) -> Result<(), ApiError> {
        let Some(mut lease) = self.read_lease(name).await? else { return Ok(()) };
        let Ok(mut record) = record_of(name, Some(&lease)) else { return Ok(()) };
        let ours = |other: &Heal| other.outcome.is_none() && other == heal;
        let mut known = false;
        if outcome.is_none() {
            let before = record.heals.len();
            record.heals.retain(|heal| !ours(heal));
            known = record.heals.len() < before;
        } else if let Some(heal) = record.heals.iter_mut().find(|heal| ours(heal)) {
            heal.outcome = outcome;
            known = true;
        }
        if !known {
            // A lock that this process holds by now belongs to another remedy.
            return Ok(());
        }
        let held = self.is_ours(&lease);
        record.prune(self.server_now()?);
        if held {
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        self.write(name, Some(lease), &record, None).await.map(|_| ())
    }
}

pub(super) fn record_of(name: &str, lease: Option<&Lease>) -> Result<Record, Refusal> {
    let annotations = lease.and_then(|lease| lease.metadata.annotations.as_ref());
    let text = annotations.and_then(|all| all.get(RECORD)).map(String::as_str);
    Record::parse(text).map_err(|error| {
        let what = format!("the record on Lease {name} cannot be read ({error}): delete the Lease");
        Refusal { gate: Gate::WorkloadLock, why: Why::BadLease(what.into()) }
    })
}

pub(super) fn is_conflict(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused(kube::Error::Api(status)) if status.code == 409)
}
