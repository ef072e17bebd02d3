//! Stores the loads of [`Forecasts`] in ConfigMaps, so that a week of history survives restarts and
//! updates.
//!
//! The number of objects is fixed, so that a role can name them. Each replica reads them all at its
//! start, and writes one when what it holds is half an hour old: the other replica, which learns
//! the same, then finds it new enough.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use paramedic_api_server::{ApiError, Kind, Workload, within};
use paramedic_forecast::{Load, Minute};
use tokio::time::{interval, timeout};
use tracing::warn;

use super::{
    ca_store::won,
    forecasts::{Forecasts, this_minute},
    registration::labels,
};

/// The number of ConfigMaps, whose names end in a hexadecimal digit.
const SHARDS: u64 = 16;
/// Maximum number of loads in a ConfigMap, which may have 1 MiB. With at most a thousand workloads
/// a shard has 62 on average.
const MOST: usize = 100;
/// Interval between two looks at the ConfigMaps.
const PERIOD: Duration = Duration::from_secs(10 * 60);
/// A stored load is replaced when it is this old, in minutes.
const OLD: u32 = 30;
/// The same at the end of the process.
const OLD_AT_END: u32 = 1;
/// Maximum length of a key of a ConfigMap.
const KEY_MOST: usize = 253;

/// The loads in the ConfigMaps.
pub(super) struct History {
    maps: Api<ConfigMap>,
    /// What the names of the ConfigMaps begin with.
    name: String,
    forecasts: Arc<Forecasts>,
}

impl History {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        name: &str,
        forecasts: Arc<Forecasts>,
    ) -> Self {
        let name = format!("{name}-forecast");
        Self { maps: Api::namespaced(client, namespace), name, forecasts }
    }

    /// Reads and writes the ConfigMaps, forever.
    pub(super) async fn run(&self) {
        let mut rounds = interval(PERIOD);
        loop {
            rounds.tick().await;
            let now = this_minute();
            self.forecasts.forget(now);
            self.round(now, OLD).await;
        }
    }

    /// Writes what is not stored yet, as far as there is time.
    pub(super) async fn end(&self, limit: Duration) {
        let end = self.round(this_minute(), OLD_AT_END);
        if self.forecasts.are_on() && timeout(limit, end).await.is_err() {
            warn!("not all forecasts could be stored; the last minutes of some are lost");
        }
    }

    async fn round(&self, now: Minute, old: u32) {
        for shard in 0..SHARDS {
            if let Err(error) = self.shard(shard, now, old).await {
                // The others have the same trouble.
                let map = self.map_name(shard);
                warn!(%error, map, "cannot store forecasts; a restart would lose what is new");
                return;
            }
        }
    }

    /// Adopts what a ConfigMap knows better, and writes it if it lacks what is known here.
    async fn shard(&self, shard: u64, now: Minute, old: u32) -> Result<(), ApiError> {
        let name = self.map_name(shard);
        let found = within(self.maps.get_opt(&name)).await?;
        let data = found.as_ref().and_then(|map| map.binary_data.as_ref());
        let stored = data.map(|data| read(&name, data, shard, now)).unwrap_or_default();
        for (key, load) in &stored {
            if let Some((namespace, workload)) = of_key(key) {
                self.forecasts.adopt(namespace, &workload, load.clone(), now);
            }
        }
        let known = self.known(shard);
        if !is_outdated(&stored, &known, old) {
            return Ok(());
        }
        let data = known.into_iter().map(|(key, load)| (key, ByteString(load.to_bytes())));
        let data = Some(data.collect());
        let written = match found {
            Some(mut map) => {
                map.binary_data = data;
                within(self.maps.replace(&name, &PostParams::default(), &map)).await
            }
            None => {
                let labels = Some(labels());
                let metadata = ObjectMeta { name: Some(name), labels, ..ObjectMeta::default() };
                let map = ConfigMap { metadata, binary_data: data, ..ConfigMap::default() };
                within(self.maps.create(&PostParams::default(), &map)).await
            }
        };
        // If the other replica was first, it stored the same.
        won(written, ()).map(drop)
    }

    /// The loads that belong into a ConfigMap.
    fn known(&self, shard: u64) -> Loads {
        let key = |namespace: &str, workload: &Workload| {
            key_of(namespace, workload).filter(|key| shard_of(key) == shard)
        };
        self.forecasts.loads(key).take(MOST).collect()
    }

    fn map_name(&self, shard: u64) -> String {
        format!("{}-{shard:x}", self.name)
    }
}

/// Loads by their keys in a ConfigMap.
type Loads = BTreeMap<String, Load>;

/// The readable loads of a ConfigMap.
fn read(map: &str, data: &BTreeMap<String, ByteString>, shard: u64, now: Minute) -> Loads {
    let mut loads = Loads::new();
    for (key, bytes) in data.iter().take(MOST) {
        if of_key(key).is_none() || shard_of(key) != shard {
            warn!(map, key, "this names no workload of this object; the entry is ignored");
            continue;
        }
        match Load::from_bytes(&bytes.0, now) {
            Ok(load) => drop(loads.insert(key.clone(), load)),
            Err(error) => warn!(map, key, %error, "this is no load; the entry is ignored"),
        }
    }
    loads
}

/// Whether a known load is not stored, or in an old state.
fn is_outdated(stored: &Loads, known: &Loads, old: u32) -> bool {
    known.iter().any(|(key, load)| {
        stored.get(key).is_none_or(|stored| stored.last().saturating_add(old) <= load.last())
    })
}

/// `default.deployments.web`. Nothing for the few names that are too long for a key: their loads
/// are not stored.
fn key_of(namespace: &str, workload: &Workload) -> Option<String> {
    let kind = short(workload.kind);
    let key = format!("{namespace}.{kind}.{}", workload.name);
    (key.len() <= KEY_MOST).then_some(key)
}

/// A namespace has no dots, but a name may have.
fn of_key(key: &str) -> Option<(&str, Workload)> {
    let (namespace, rest) = key.split_once('.')?;
    let (kind, name) = rest.split_once('.')?;
    let kind = Kind::ALL.into_iter().find(|known| short(*known) == kind)?;
    let is_name = |text: &str| {
        let mut bytes = text.bytes();
        !text.is_empty()
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    let good = is_name(namespace) && is_name(name) && key.len() <= KEY_MOST;
    good.then(|| (namespace, Workload { kind, name: name.to_owned() }))
}

const fn short(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "deployments",
        Kind::StatefulSet => "statefulsets",
    }
}

/// Which ConfigMap has a key: by its FNV-1a hash, which is the same in every version of the program.
pub(super) fn shard_of(key: &str) -> u64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) % SHARDS
}

#[cfg(test)]
mod tests {
    use fake_apiserver::{FakeApi, Kind as Object};
    use serde_json::json;

    use super::*;

    const NOW: Minute = 30_000_000;

    fn workload(name: &str) -> Workload {
        Workload { kind: Kind::Deployment, name: name.to_owned() }
    }

    /// A replica that has measured this workload for so many minutes.
    fn replica(fake: &FakeApi, name: &str, minutes: u32) -> History {
        let forecasts = Arc::new(Forecasts::new(1000, 3));
        for minute in NOW - minutes..=NOW {
            forecasts.sample(minute, std::iter::once(("default", &workload(name), 9.0)));
        }
        History::new(fake.client("metrics-api"), "default", "api", forecasts)
    }

    async fn stored(history: &History) -> Vec<(String, Load)> {
        history.round(NOW, OLD).await;
        history.forecasts.loads(key_of).collect()
    }

    fn maps(fake: &FakeApi) -> Vec<serde_json::Value> {
        let name = |shard| format!("api-forecast-{shard:x}");
        (0..SHARDS)
            .filter_map(|shard| fake.get(Object::ConfigMap, "default", &name(shard)))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_replica_knows_what_the_last_one_knew() {
        let fake = FakeApi::new();
        let before = stored(&replica(&fake, "web", 3000)).await;
        assert_eq!((before.len(), maps(&fake).len()), (1, 1));
        let next = replica(&fake, "db", 5);
        let known = stored(&next).await;
        assert!(known.contains(&before[0]), "{known:?}");
        assert_eq!(known.len(), 2);
        assert_eq!(maps(&fake)[0]["metadata"]["labels"]["app.kubernetes.io/part-of"], "paramedic");
    }

    #[tokio::test(start_paused = true)]
    async fn it_writes_what_is_half_an_hour_newer() {
        let fake = FakeApi::new();
        let history = replica(&fake, "web", 100);
        history.round(NOW, OLD).await;
        let written = maps(&fake);
        let until = |minute| {
            for minute in NOW..=minute {
                history
                    .forecasts
                    .sample(minute, std::iter::once(("default", &workload("web"), 9.0)));
            }
        };
        until(NOW + 29);
        history.round(NOW + 29, OLD).await;
        assert_eq!(maps(&fake), written);
        history.round(NOW + 29, OLD_AT_END).await;
        assert_ne!(maps(&fake), written);
    }

    #[tokio::test(start_paused = true)]
    async fn hostile_content_is_ignored_and_replaced() {
        let fake = FakeApi::new();
        let load = replica(&fake, "web", 3000).known(shard_of("default.deployments.web"));
        let good = ByteString(load["default.deployments.web"].to_bytes());
        let shard = shard_of("default.deployments.web");
        let data = json!({
            "default.deployments.web": ByteString(vec![0xff; good.0.len()]),
            "default.deployments": good,
            "default.pods.web": good,
            "..": good,
            "default.statefulsets.in-another-shard": good,
            "default.deployments.WEB": good,
        });
        let name = format!("api-forecast-{shard:x}");
        let metadata = json!({"name": name, "namespace": "default"});
        fake.put(Object::ConfigMap, json!({"metadata": metadata, "binaryData": data}));
        let empty = Arc::new(Forecasts::new(10, 3));
        let reader = History::new(fake.client("a"), "default", "api", empty);
        assert_eq!(stored(&reader).await, []);
        let writer = replica(&fake, "web", 3000);
        stored(&writer).await;
        let data = maps(&fake)[0]["binaryData"].clone();
        assert_eq!(data, json!({"default.deployments.web": good}));
    }

    #[tokio::test(start_paused = true)]
    async fn forecasts_continue_while_nothing_can_be_stored() {
        let fake = FakeApi::new();
        fake.down(true);
        let history = replica(&fake, "web", 3000);
        history.end(Duration::from_secs(5)).await;
        assert_eq!(history.forecasts.count(), 1);
    }

    #[test]
    fn a_key_names_one_workload() {
        for (namespace, kind, name) in [
            ("default", Kind::Deployment, "web"),
            ("a-b", Kind::StatefulSet, "db.v1"),
            ("x", Kind::Deployment, "statefulsets.y"),
        ] {
            let workload = Workload { kind, name: name.to_owned() };
            let key = key_of(namespace, &workload).unwrap();
            assert_eq!(of_key(&key), Some((namespace, workload)));
        }
        assert_eq!(key_of("default", &workload(&"x".repeat(253))), None);
        for bad in ["", ".", "a.deployments.", ".deployments.a", "a.deployments.b/c", "a.b.c"] {
            assert_eq!(of_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn workloads_are_spread_over_the_objects() {
        let mut sizes = [0; SHARDS as usize];
        for number in 0..1000 {
            sizes[shard_of(&format!("team-{}.deployments.web-{number}", number % 7)) as usize] += 1;
        }
        assert!(sizes.iter().all(|size| (30..MOST).contains(size)), "{sizes:?}");
    }
}
