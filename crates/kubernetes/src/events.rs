//! Events on the pod, for `kubectl describe pod`: every remedy and its outcome, and each refusal,
//! reported once and then counted.
//!
//! Nothing waits for them and nothing depends on them: if there are too many, or the server is
//! unreachable, they are dropped.
use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use paramedic_api_server::{ApiError, within};
use paramedic_core::{boot_time::BootTime, notice::Notice};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::Cluster;

/// Maximum length of a note that the API server accepts, in bytes.
const NOTE: usize = 1024;
/// Minimum time between two updates of a series.
const REPEAT: Duration = Duration::from_secs(60);
/// The server deletes an Event that was not updated for this long (1 h by default).
const SERIES: Duration = Duration::from_secs(1800);
/// Request budget: burst, and interval after it. If a whole cluster is sick, every node has many
/// Events.
const BURST: u32 = 25;
const PACE: Duration = Duration::from_secs(2);
/// Part of the burst that refusals leave to remedies and warnings.
const KEPT_FOR_HEALS: u32 = 10;
/// Minimum time between two log lines about dropped Events.
const LOST: Duration = Duration::from_secs(60);
/// Maximum number of stored series.
const MOST_SERIES: usize = 2048;
/// Maximum number of queued notices.
pub const QUEUE: usize = 256;

struct Series {
    name: String,
    count: i32,
    sent: BootTime,
}

/// Sends notices until the channel closes.
pub async fn announce(cluster: Arc<Cluster>, mut notices: mpsc::Receiver<Notice>) {
    let mut known: HashMap<(String, &'static str, &'static str), Series> = HashMap::new();
    let mut budget = Budget { left: BURST, earned: cluster.clock.now() };
    let (mut lost, mut told) = (0_u32, cluster.clock.now());
    while let Some(notice) = notices.recv().await {
        let now = cluster.clock.now();
        let keep = if notice.series.is_some() && !notice.warning { KEPT_FOR_HEALS } else { 0 };
        if !budget.take(now, keep) {
            lost += 1;
            if now.since(told) >= LOST {
                warn!(lost, "too many Events; some were dropped");
                (lost, told) = (0, now);
            }
            continue;
        }
        let sent = match notice.series {
            None => cluster.create_event(&notice).await.map(|_| true),
            Some(series) => {
                let key = (notice.pod.uid.clone(), notice.reason, series);
                cluster.add_to_series(&notice, key, &mut known).await
            }
        };
        match sent {
            Ok(true) => {}
            Ok(false) => budget.left += 1,
            Err(error) => {
                let pod = notice.pod.full_name();
                debug!(pod, reason = notice.reason, %error, "cannot write an Event; dropped");
            }
        }
    }
}

/// The request budget.
struct Budget {
    left: u32,
    /// When the budget was last refilled.
    earned: BootTime,
}

impl Budget {
    /// Takes one request, but leaves `keep`.
    fn take(&mut self, now: BootTime, keep: u32) -> bool {
        let earned = now.since(self.earned).as_secs() / PACE.as_secs();
        self.earned = self.earned + PACE * u32::try_from(earned).unwrap_or(u32::MAX);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(BURST);
        let may = self.left > keep;
        self.left -= u32::from(may);
        may
    }
}

impl Cluster {
    /// Returns whether a request was sent: most repetitions are only counted.
    async fn add_to_series(
        &self,
        notice: &Notice,
        key: (String, &'static str, &'static str),
        known: &mut HashMap<(String, &'static str, &'static str), Series>,
    ) -> Result<bool, ApiError> {
        let now = self.clock.now();
        known.retain(|_, series| now.since(series.sent) < SERIES);
        if let Some(series) = known.get_mut(&key) {
            series.count = series.count.saturating_add(1);
            if now.since(series.sent) < REPEAT {
                return Ok(false);
            }
            series.sent = now;
            let (name, count) = (series.name.clone(), series.count);
            let patched = self.patch_series(notice, &name, count).await;
            let forgotten = matches!(&patched,
                Err(ApiError::Refused(kube::Error::Api(status))) if status.code == 404);
            if !forgotten {
                return patched.map(|()| true);
            }
            known.remove(&key);
        }
        if known.len() >= MOST_SERIES {
            return Ok(false);
        }
        let name = self.create_event(notice).await?;
        known.insert(key, Series { name, count: 1, sent: now });
        Ok(true)
    }

    async fn create_event(&self, notice: &Notice) -> Result<String, ApiError> {
        let now = Timestamp::now();
        let pod = &notice.pod;
        // A unique name among the Events of this pod, in the form of kubectl's own recorder.
        let name = format!("{}.{:x}", pod.name, now.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            action: Some("Heal".to_owned()),
            reason: Some(notice.reason.to_owned()),
            note: Some(cut(&notice.note)),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            reporting_controller: Some("paramedic.dev/agent".to_owned()),
            reporting_instance: Some(self.identity.node.chars().take(128).collect()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(pod.namespace.clone()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
                field_path: Some(format!("spec.containers{{{}}}", pod.container)),
                ..ObjectReference::default()
            }),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &pod.namespace);
        within(events.create(&PostParams::default(), &event)).await?;
        Ok(name)
    }

    async fn patch_series(&self, notice: &Notice, name: &str, count: i32) -> Result<(), ApiError> {
        // The note stays unchanged: only the series of an Event may change.
        let series = EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) };
        let patch = Patch::Merge(json!({ "series": series }));
        let events: Api<Event> = Api::namespaced(self.client.clone(), &notice.pod.namespace);
        within(events.patch(name, &PatchParams::default(), &patch)).await.map(|_| ())
    }
}

/// Cuts to at most [`NOTE`] bytes, at a character boundary.
fn cut(note: &str) -> String {
    let mut end = note.len().min(NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"a".repeat(2000)).len(), 1024);
        let cut = cut(&"é".repeat(1000));
        assert_eq!((cut.len(), cut.chars().count()), (1024, 512));
        assert_eq!(super::cut(&format!("a{}", "é".repeat(1000))).len(), 1023);
    }
}
