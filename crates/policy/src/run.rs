//! The controller: one loop that hears the watches, plans what has changed, and hands writes to
//! tasks of their own. Nothing in the loop waits for the API server.
use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    pin::pin,
    time::Duration,
};

use futures_util::StreamExt as _;
use k8s_openapi::{
    api::{core::v1::Pod, events::v1::Event},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::watcher,
};
use paramedic_api_server::follow_through;
use paramedic_listen::Listener;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    HealingPolicy,
    incidents::REPORTER,
    leader::{Election, resign},
    plan::{Plan, Policy, plan},
    policy::HealingPolicyStatus,
    serve::serve,
    status::{About, status},
    store::{Namespace, Store},
    writes::{self, Failure, What, Written},
};

/// Changes are gathered for this long: those of a rollout are many.
const SETTLE: Duration = Duration::from_millis(100);
/// Delay after a write that failed. It doubles with each failure in a row.
const RETRY: Duration = Duration::from_secs(5);
/// Maximum delay after writes that failed.
const LONGEST: Duration = Duration::from_secs(600);
/// Maximum number of writes at a time, which with [`SETTLE`] also bounds their rate.
const IN_FLIGHT: usize = 16;

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listen address of `/livez` and `/readyz`.
    pub listen: SocketAddr,
    /// Namespace of Paramedic's objects.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// This replica, in the Lease: no other has the same.
    pub holder: String,
}

/// The controller, bound to its address.
#[derive(Debug)]
pub struct Controller {
    listener: Listener,
    config: Config,
}

impl Controller {
    /// Binds the address, within a tokio runtime. It does nothing before [`Controller::run`].
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

    /// Works until `shutdown` resolves. What stands on the pods then stays.
    pub async fn run(self, client: Client, shutdown: impl Future<Output = ()>) {
        let Config { namespace, lease, holder, .. } = self.config;
        let (pending_in, pending) = watch::channel(pending_parts(&Store::default()));
        let (election, leads) = Election::new(client.clone(), &namespace, &lease, &holder);
        // They end with the loop.
        let mut parts = JoinSet::new();
        parts.spawn(serve(self.listener, pending));
        let election = parts.spawn(election.run());
        let work = Work::new(client.clone(), leads, pending_in);
        tokio::select! {
            () = shutdown => {}
            () = work.run() => {}
        }
        election.abort();
        resign(client, &namespace, &lease, &holder).await;
        info!("stopped; what stands on the pods stays");
    }
}

/// A write in flight: namespace, whether it is of a pod, and the name.
type Key = (String, bool, String);

/// The state of the loop.
struct Work {
    client: Client,
    leads: watch::Receiver<bool>,
    pending: watch::Sender<String>,
    store: Store,
    /// When a namespace is planned again.
    due: HashMap<String, Instant>,
    in_flight: HashSet<Key>,
    writes: JoinSet<Written>,
    /// The last refusal of a pod's write in a namespace, until one succeeds.
    refused: HashMap<String, String>,
    /// Writes that failed: how often in a row, and until when they rest.
    rests: HashMap<Key, (u32, Instant)>,
    /// Whether the API server did not answer the last write.
    away: bool,
}

impl Work {
    fn new(client: Client, leads: watch::Receiver<bool>, pending: watch::Sender<String>) -> Self {
        Self {
            client,
            leads,
            pending,
            store: Store::default(),
            due: HashMap::new(),
            in_flight: HashSet::new(),
            writes: JoinSet::new(),
            refused: HashMap::new(),
            rests: HashMap::new(),
            away: false,
        }
    }

    async fn run(mut self) {
        let everywhere = || watcher::Config::default();
        let kind = ApiResource::erase::<HealingPolicy>(&());
        let policies = Api::<DynamicObject>::all_with(self.client.clone(), &kind);
        let unheard = "cannot watch the policies; changes of them take effect when it works again";
        let mut policies = pin!(follow_through(policies, everywhere(), unheard));
        let pods = Api::<PartialObjectMeta<Pod>>::all(self.client.clone());
        let alive = everywhere().fields("status.phase!=Succeeded,status.phase!=Failed");
        let unheard = "cannot watch the pods; new ones get no policy until it works again";
        let mut pods = pin!(follow_through(pods, alive, unheard));
        let events = Api::<Event>::all(self.client.clone());
        let by_agents = everywhere().fields(&format!("reportingController={REPORTER}"));
        let unheard = "cannot watch the agents' Events; statuses show no new incidents";
        let mut events = pin!(follow_through(events, by_agents, unheard));
        loop {
            let due = self.due.values().min().copied();
            tokio::select! {
                Some(event) = policies.next() => {
                    let changed = self.store.policies(event);
                    self.changed(changed);
                }
                Some(event) = pods.next() => {
                    let changed = self.store.pods(event);
                    self.changed(changed);
                }
                Some(event) = events.next() => {
                    let changed = self.store.events(event);
                    self.changed(changed);
                }
                Ok(()) = self.leads.changed() => {
                    let all = self.store.names();
                    self.changed(all);
                }
                Some(written) = self.writes.join_next() => match written {
                    Ok(written) => self.written(written),
                    Err(error) => warn!(%error, "a write has failed"),
                },
                () = until(due) => self.act(),
            }
        }
    }

    fn changed(&mut self, namespaces: impl IntoIterator<Item = String>) {
        let parts = pending_parts(&self.store);
        self.pending.send_if_modified(|before| {
            let is_news = *before != parts;
            *before = parts;
            is_news
        });
        for namespace in namespaces {
            self.again(namespace, SETTLE);
        }
    }

    /// Plans a namespace after this time, or earlier if that is due already.
    fn again(&mut self, namespace: String, after: Duration) {
        let at = Instant::now() + after;
        let due = self.due.entry(namespace).or_insert(at);
        *due = at.min(*due);
    }

    /// Plans the namespaces that are due, and writes what they lack.
    fn act(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.due.extract_if(|_, at| *at <= now).map(|(name, _)| name).collect();
        // Those of objects that are gone would stay for ever.
        self.rests.retain(|_, (_, until)| *until + LONGEST > now);
        if !*self.leads.borrow() || !self.store.has_policies || !self.store.has_pods {
            // They are planned when this replica leads, and when the lists are complete.
            return;
        }
        for name in due {
            let Some(namespace) = self.store.namespace(&name).filter(|of| of.concerns_us()) else {
                continue;
            };
            let policies: Vec<&Policy> =
                namespace.policies.values().map(|stored| &stored.policy).collect();
            let plan = plan(&policies, namespace.pods.values());
            let statuses = self.statuses(&name, namespace, &plan);
            let mut waits = false;
            for change in plan.changes {
                let key = (name.clone(), true, change.pod.clone());
                let (client, namespace) = (self.client.clone(), name.clone());
                waits |= !self.start(key, || writes::pod(client, namespace, change));
            }
            for (policy, status) in statuses {
                let key = (name.clone(), false, policy.clone());
                let (client, namespace) = (self.client.clone(), name.clone());
                waits |= !self.start(key, || writes::status(client, namespace, policy, status));
            }
            if waits {
                self.again(name, SETTLE);
            }
        }
    }

    /// The statuses that differ from those that stand.
    fn statuses(
        &self,
        name: &str,
        namespace: &Namespace,
        plan: &Plan,
    ) -> Vec<(String, HealingPolicyStatus)> {
        let refused = self.refused.get(name).map(String::as_str);
        let mut statuses = Vec::new();
        for (policy, stored) in &namespace.policies {
            let Some(reach) = plan.reach.get(policy) else { continue };
            let before = stored.status.as_ref();
            let known = before.map_or(&[][..], |before| &before.last_incidents);
            let about = About {
                generation: stored.generation,
                problem: stored.policy.problem(),
                reach,
                refused,
                incidents: self.store.incidents.last(name, &reach.matched, known),
            };
            let now = status(about, before, Timestamp::now());
            if before != Some(&now) {
                statuses.push((policy.clone(), now));
            }
        }
        statuses
    }

    /// Starts a write unless one of the same object is in flight, or too many are. Returns whether
    /// it need not be tried again soon.
    fn start<F>(&mut self, key: Key, write: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = Written> + Send + 'static,
    {
        if self.rests.get(&key).is_some_and(|(_, until)| *until > Instant::now()) {
            // It is planned again when its rest is over.
            return true;
        }
        if self.in_flight.len() >= IN_FLIGHT || !self.in_flight.insert(key) {
            return false;
        }
        self.writes.spawn(write());
        true
    }

    /// Lets a write rest after a failure, longer after each in a row.
    fn rest(&mut self, key: Key) {
        let namespace = key.0.clone();
        let (failures, until) = self.rests.entry(key).or_insert((0, Instant::now()));
        let rest = LONGEST.min(RETRY * 2_u32.saturating_pow(*failures));
        (*failures, *until) = (failures.saturating_add(1), Instant::now() + rest);
        self.again(namespace, rest);
    }

    fn written(&mut self, written: Written) {
        let Written { namespace, what, result } = written;
        let (is_pod, name) = match &what {
            What::Pod(name, _) => (true, name.clone()),
            What::Status(name, _) => (false, name.clone()),
        };
        let key = (namespace.clone(), is_pod, name.clone());
        self.in_flight.remove(&key);
        match what {
            What::Pod(_, Some(pod)) => {
                info!(pod = format!("{namespace}/{name}"), "brought in line with the policies");
                self.store.put_pod(&pod);
                self.refused.remove(&namespace);
            }
            What::Status(_, Some(policy)) => drop(self.store.put_policy(&policy)),
            What::Pod(_, None) | What::Status(_, None) => {}
        }
        match result {
            Ok(()) => {
                self.away = false;
                self.rests.remove(&key);
                self.again(namespace, SETTLE);
            }
            Err(Failure::Outdated) => {
                debug!(namespace, name, "it has changed meanwhile");
                self.again(namespace, RETRY);
            }
            Err(Failure::Refused(why)) => {
                if self.refused.get(&namespace) != Some(&why) {
                    warn!(namespace, name, why, "the API server refuses a write");
                }
                if is_pod {
                    self.refused.insert(namespace, why);
                }
                self.rest(key);
            }
            Err(Failure::Away(error)) => {
                if !std::mem::replace(&mut self.away, true) {
                    warn!(error, "the API server does not answer; trying again");
                }
                self.again(namespace, RETRY);
            }
        }
    }
}

/// What is pending before it is ready.
fn pending_parts(store: &Store) -> String {
    let parts = [
        (store.has_policies, "the first list of policies: pending\n"),
        (store.has_pods, "the first list of pods: pending\n"),
    ];
    parts.into_iter().filter(|(has, _)| !has).map(|(_, text)| text).collect()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
